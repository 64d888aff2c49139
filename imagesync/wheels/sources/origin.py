"""Fetching the sources that a package was installed from: a commit, or an archive."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from imagesync.core.credentials import redact
from imagesync.errors import WheelError
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Source
from imagesync.scan.vcs_source import refusal
from imagesync.wheels.installed import has_record
from imagesync.wheels.sdists.unpack import unpack_sdist
from imagesync.wheels.source_digests import source_folder
from imagesync.wheels.sources.source_tree import NO_COMMANDS

# What the sources of somebody's environment, and their submodules, may be fetched by.
_PROTOCOLS = "https:http:ssh:git"


def fetch_source(package: PlannedPackage, into: Path) -> Path:
    """Return the folder of the sources that *package* was installed from, fetched into the folder *into*.

    git runs with the user's own configuration and credential helpers, and never prompts.

    Raises
    ------
    WheelError
        The sources can't be fetched.
    """
    source = package.source
    _refuse_unsafe(package, source)
    if source.kind == "vcs" and source.url and source.commit:
        checkout = _checkout(package, source, into)
    elif source.kind == "archive" and source.url and source.url.startswith("file://"):
        checkout = unpack_sdist(source_folder(package), into, name=package.name)
    else:
        installed = package.installed
        recorded = installed is not None and has_record(installed)
        raise WheelError(
            f"{package.name} {package.version} was installed from {source.url}; "
            + ("the installed files don't hold for the image" if recorded else "no RECORD lists its files")
            + ", and its sources can't be fetched from there.",
            hint="Install it from a folder: clone or download it, and install that folder.",
        )
    folder = checkout / source.subdirectory if source.subdirectory else checkout
    if not folder.resolve().is_relative_to(checkout.resolve()) or not folder.is_dir():
        raise WheelError(
            f"{package.name} {package.version}: its sources have no folder {source.subdirectory!r}."
        )
    return folder


def _refuse_unsafe(package: PlannedPackage, source: Source) -> None:
    reason = source.refused
    if reason is None and source.kind == "vcs":
        # A scan has looked at it; a plan may be of somebody else's making.
        reason = refusal(source.vcs or "", source.url or "", source.commit or "", source.subdirectory)
    if reason is not None:
        raise WheelError(
            f"{package.name} {package.version} isn't fetched from where it was installed from: "
            f"{redact(reason)}. And its installed files don't hold for the image.",
            hint=f"Install it from an index, a folder or a git URL; or leave it out: --ignore {package.name}",
        )


def _checkout(package: PlannedPackage, source: Source, into: Path) -> Path:
    into.mkdir(parents=True)
    url, commit = source.url or "", source.commit or ""
    # Files of this machine only where the user installed from one: a submodule may not name any.
    protocols = f"{_PROTOCOLS}:file" if url.startswith("file:") else _PROTOCOLS
    _git(package, into, "init", "--quiet", "--template=")
    # One commit is enough, where the server gives it; else everything, and the commit is in it.
    fetch = ("fetch", "--quiet", "--no-recurse-submodules")
    if not _git(package, into, *fetch, "--depth=1", "--", url, commit, protocols=protocols, may_fail=True):
        heads = "+refs/heads/*:refs/remotes/origin/*"
        _git(package, into, *fetch, "--tags", "--", url, heads, protocols=protocols)
    # What stands before the dashes is a revision; it is nothing but hexadecimal digits.
    _git(package, into, "checkout", "--quiet", "--detach", "--no-recurse-submodules", commit, "--")
    update = ("submodule", "--quiet", "update", "--init", "--recursive", "--checkout", "--depth=1")
    _git(package, into, *update)
    return into


def _git(
    package: PlannedPackage,
    folder: Path,
    *arguments: str,
    protocols: str = _PROTOCOLS,
    may_fail: bool = False,
) -> bool:
    environ = {key: value for key, value in os.environ.items() if key not in ("GIT_DIR", "GIT_WORK_TREE")}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
    environ["GIT_ALLOW_PROTOCOL"] = protocols
    environ.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        done = subprocess.run(
            ["git", *NO_COMMANDS, *arguments],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise WheelError(
            f"{package.name} {package.version} must be fetched with git, "
            f"and git can't be run: {error.strerror}.",
            hint="Install git, or install the package from a folder.",
        ) from error
    if done.returncode == 0 or may_fail:
        return done.returncode == 0
    raise WheelError(
        f"{package.name} {package.version}: git can't get commit {package.source.commit} of "
        f"{package.source.url}: {redact(done.stderr.strip())}",
        hint="Check that `git fetch` works there without a password prompt (credential helper, SSH agent).",
    )
