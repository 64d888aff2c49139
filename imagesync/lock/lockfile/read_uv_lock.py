"""Reading ``uv.lock`` by ``uv export``, because only uv reads its own lock file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imagesync.core.files import parse_toml
from imagesync.core.installation import own_installation
from imagesync.core.names import canonical_name, is_valid_name
from imagesync.errors import LockError, UsageError
from imagesync.lock.lockfile.lock_entries import chosen_names, refuse_choice
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, Selection, read_text
from imagesync.lock.lockfile.read_pylock import read_document
from imagesync.lock.resolvers.uv import readable

_SECONDS = 120
# Variables by which uv would choose another project, other groups, or another lock.
_CHOICES = (
    *("UV_PROJECT", "UV_WORKING_DIR", "UV_FROZEN", "UV_LOCKED", "UV_NO_DEV", "UV_DEV"),
    *("UV_NO_GROUP", "UV_NO_DEFAULT_GROUPS", "UV_NO_EDITABLE", "UV_NO_SOURCES", "UV_CONFIG_FILE"),
)
_NEWER = re.compile(r"unsupported\s+schema\s+version\s+\(v(\d+)")
# uv says so of a lock file that lacks a member or a group of its project.
_STALE = re.compile(r"needs to be updated, but `--frozen` was\s+provided: (.*)")


def read(request: ReadRequest) -> ReadLock:
    """Return the lock of a ``uv.lock``: the dependencies of its project, and the project itself."""
    path = request.path
    text = read_text(path)
    has_project = (path.parent / "pyproject.toml").is_file()
    if path.name != "uv.lock" or not has_project:
        lacks = "it has another name" if has_project else "its pyproject.toml isn't beside it"
        raise UsageError(
            f"{path} is a lock file of uv, which reads it only as uv.lock beside its pyproject.toml, and "
            f"{lacks}.",
            hint="Name it in the project's folder (--locked PROJECT/uv.lock), or build from what uv exports "
            "there: uv export --format pylock.toml -o pylock.toml",
        )
    if request.selection.environment:
        refuse_choice(path, "environment", (request.selection.environment,))
    project = _parsed(path.parent / "pyproject.toml", (path.parent / "pyproject.toml").read_text("utf-8"))
    locked = _parsed(path, text)
    groups, extras = _known(project, locked)
    selection = request.selection
    selection = replace(
        selection,
        groups=chosen_names(path, "group", selection.groups, groups),
        extras=chosen_names(path, "extra", selection.extras, extras),
    )
    options = ["--no-default-groups", *_options(selection)]
    if "project" not in project:
        options.append("--all-packages")  # the root of a workspace that is no package
    document = _export(request, options)
    plain = request._replace(selection=Selection())
    read = read_document(plain, document)
    names = {canonical_name(package["name"]) for package in document.get("packages", ())}
    all_names = {
        canonical_name(package["name"])
        for package in locked.get("package", ())
        if "virtual" not in package.get("source", {})  # a member that is no package
    }
    chosen = {*selection.groups, *selection.extras}
    return replace(
        read, left_out=tuple(sorted(all_names - names)), others=tuple(sorted({*groups, *extras} - chosen))
    )


def _parsed(path: Path, text: str) -> Mapping[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{path} isn't TOML: {error}", hint="Correct it; then `uv lock`.") from error


def _known(project: Mapping[str, Any], locked: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the names of the groups and the extras of the project, and of its workspace."""
    groups = {canonical_name(name) for name in project.get("dependency-groups", {})}
    extras = {canonical_name(name) for name in project.get("project", {}).get("optional-dependencies", {})}
    for package in locked.get("package", ()):
        source = package.get("source", {})
        if not {"editable", "virtual", "directory"}.isdisjoint(source):
            groups |= {canonical_name(name) for name in package.get("dev-dependencies", {})}
    if "dev-dependencies" in project.get("tool", {}).get("uv", {}):
        groups.add(canonical_name("dev"))
    return {name for name in groups if is_valid_name(name)}, {name for name in extras if is_valid_name(name)}


def _options(selection: Selection) -> list[str]:
    groups = [f"--group={name}" for name in selection.groups]
    return groups + [f"--extra={name}" for name in selection.extras]


def _export(request: ReadRequest, options: Sequence[str]) -> Mapping[str, Any]:
    """Return the ``pylock.toml`` that uv makes; its paths start from the project's folder."""
    from uv import find_uv_bin

    environment = {name: value for name, value in request.environ.items() if name not in _CHOICES}
    command = [
        *(find_uv_bin(), "export", "--frozen", "--offline", "--quiet", "--no-progress", "--color=never"),
        *("--no-header", "--format=pylock.toml"),
        *options,
    ]
    try:
        finished = subprocess.run(
            command,
            cwd=request.path.parent,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise LockError(f"uv didn't export {request.path} within {_SECONDS} s.") from error
    if finished.returncode != 0:
        if stale := _STALE.search(finished.stderr):
            raise LockError(
                f"{request.path} isn't the lock of the pyproject.toml beside it: {readable(stale[1])}",
                hint="Lock again: uv lock",
            )
        newer = _NEWER.search(finished.stderr)
        reason = f"its format is version {newer[1]}." if newer else readable(finished.stderr)
        raise LockError(
            f"uv {version('uv')} can't read {request.path}: {reason}",
            hint=f"Lock with this uv (uvx uv@{version('uv')} lock), or install a newer one beside imagesync: "
            f"{own_installation().reinstall('uv')}",
        )
    return _parsed(request.path, finished.stdout)
