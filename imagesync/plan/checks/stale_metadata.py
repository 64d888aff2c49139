"""Stale metadata of the user's own packages: their ``pyproject.toml`` was edited after they were installed.

The members of a workspace are installed once and edited in place, so that the installed metadata of one may
contradict that of another. No index has their versions: the remedy is to install the stale ones again.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name
from imagesync.plan.checks.sources import local_path
from imagesync.plan.install_commands import install_command
from imagesync.plan.requirements import parse_requirement
from imagesync.plan.specifiers import parse_version
from imagesync.scan.environment import Environment, Package

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


@dataclass(frozen=True)
class StaleMember:
    """A package of a source tree whose installed metadata may be stale.

    Parameters
    ----------
    package
        The installed package.
    folder
        Its source tree.
    reason
        The contradiction between its metadata and its ``pyproject.toml``; empty if only a build shows it.
    """

    package: Package
    folder: Path
    reason: str


def stale_members(requirer: Package, required: Package | None, requirement: str) -> tuple[StaleMember, ...]:
    """Return the packages of source trees whose metadata is stale, where *requirement* isn't met.

    Parameters
    ----------
    requirer
        The package with the requirement.
    required
        The required package; ``None`` if it isn't installed.
    requirement
        As in the metadata of *requirer*.

    Returns
    -------
    tuple
        Those that contradict their ``pyproject.toml``. If none does, and both are from source trees, both of
        them. Empty if another version of the required package may help.
    """
    members = [_member(requirer, requirement)]
    if required is not None and required.name != requirer.name:
        members.append(_member(required, ""))
    local = [member for member in members if member is not None]
    if proven := tuple(member for member in local if member.reason):
        return proven
    is_from_tree = required is not None and required.source.kind == "directory"
    return tuple(local) if is_from_tree else ()


def _member(package: Package, requirement: str) -> StaleMember | None:
    folder = local_path(package.source)
    if package.source.kind != "directory" or folder is None or not Path(folder).is_dir():
        return None
    try:
        document = parse_toml(Path(folder, "pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError):
        document = {}
    project = document.get("project")
    table: dict[str, Any] = project if isinstance(project, dict) else {}
    reason = _other_version(package, table) or (_other_requirement(table, requirement) if requirement else "")
    return StaleMember(package, Path(folder), reason)


def _other_version(package: Package, project: dict[str, Any]) -> str:
    declared = project.get("version")
    if not isinstance(declared, str) or parse_version(declared) == parse_version(package.version):
        return ""
    return f"its pyproject.toml has version {declared}, and {package.version} is installed"


def _other_requirement(project: dict[str, Any], requirement: str) -> str:
    listed = project.get("dependencies", [])
    if "dependencies" in project.get("dynamic", []) or not isinstance(listed, list):
        return ""
    installed = parse_requirement(requirement)
    if installed is None:
        return ""
    name = canonical_name(installed.name)
    parsed = [parse_requirement(line) for line in listed if isinstance(line, str)]
    same = [each for each in parsed if each is not None and canonical_name(each.name) == name]
    if any(each.specifier == installed.specifier for each in same):
        return ""
    now = ", ".join(map(str, same)) or f"no {name}"
    return f"its pyproject.toml now requires {now}"


def reinstall_command(members: Sequence[StaleMember], environment: Environment) -> str:
    """Return the stale *members* and the command that installs them again, as a phrase."""
    facts = "; ".join(
        f"the metadata of {member.package.name} {member.package.version} is stale"
        + (f": {member.reason}" if member.reason else " or doesn't fit its neighbour's")
        for member in members
    )
    return f"{facts[0].upper()}{facts[1:]}.\n{_command(members, environment)}"


def _command(members: Sequence[StaleMember], environment: Environment) -> str:
    if all(member.package.installer == "uv" and _has_uv_lock(member.folder) for member in members):
        names: list[NormalizedName] = [member.package.name for member in members]
        return shlex.join(["uv", "sync", *(word for name in names for word in ("--reinstall-package", name))])
    editable = ["--editable"] if all(member.package.source.editable for member in members) else []
    commands = [install_command(environment, [str(member.folder)], *editable) for member in members]
    return "\n".join(commands)


def _has_uv_lock(folder: Path) -> bool:
    return any((parent / "uv.lock").is_file() for parent in (folder, *folder.parents))
