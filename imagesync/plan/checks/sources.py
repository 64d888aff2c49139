"""Source trees that packages were installed from: missing ones, and requirements that aren't installed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name
from imagesync.core.platforms import DEFAULT_PLATFORM, runs_on
from imagesync.plan.install_commands import install_command
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.plan.requirements import applies, local_markers, parse_requirement
from imagesync.scan.environment import Environment, Finding, Severity, Source

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PROJECT_FILES = ("pyproject.toml", "setup.py")


def local_path(source: Source) -> str | None:
    """Return the path of the ``file://`` URL of *source* (RFC 8089), or ``None`` if it has no such URL."""
    parts = urlsplit(source.url or "")
    if parts.scheme != "file" or not parts.path:
        return None
    if os.name == "nt":
        from urllib.request import url2pathname

        return url2pathname(parts.path)
    return unquote(parts.path, errors="surrogateescape")


def _is_source_missing(package: PlannedPackage) -> bool:
    """Return True if *package* was installed from a folder that is missing now."""
    folder = local_path(package.source)
    return package.source.kind == "directory" and folder is not None and not Path(folder).is_dir()


def has_only_installed_files(package: PlannedPackage) -> bool:
    """Return True if the wheel of *package* is made from its installed files, not from its sources."""
    installed = package.installed
    return package.as_installed or (
        not package.source.editable
        and installed is not None
        and installed.has_record
        and _is_source_missing(package)
    )


def missing_sources(plan: Plan, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each package of *plan* whose source tree is missing or isn't a project any more."""
    for package in plan.packages:
        folder = local_path(package.source)
        if package.source.kind != "directory" or folder is None:
            continue
        if package.as_installed:
            continue
        if has_only_installed_files(package):
            yield Finding(
                Severity.INFO,
                "source-missing",
                f"{package.name} {package.version} was installed from {folder}, which is gone; "
                "the image gets the installed files.",
                path=folder,
                package=package.name,
            )
        elif _is_source_missing(package):
            yield _missing(package, folder, environment)
        elif not any((Path(folder) / name).is_file() for name in _PROJECT_FILES):
            yield Finding(
                Severity.ERROR,
                "source-not-a-project",
                f"{package.name} {package.version} was installed from {folder}, which has neither a "
                "pyproject.toml nor a setup.py any more, so no wheel can be built from it.",
                path=folder,
                package=package.name,
                hint=_remedy("file", package, environment),
            )


def _missing(package: PlannedPackage, folder: str, environment: Environment) -> Finding:
    return Finding(
        Severity.ERROR,
        "source-missing",
        f"{package.name} {package.version} was installed from {folder}, which is gone, so no wheel "
        "can be built.",
        path=folder,
        package=package.name,
        hint=_remedy("folder", package, environment),
    )


def _remedy(missing: str, package: PlannedPackage, environment: Environment) -> str:
    options = ["--editable"] if package.source.editable else []
    return (
        f"Bring the {missing} back, or leave the package out (--ignore {package.name}), or install it from "
        f"where its sources are now: {install_command(environment, [], *options)} FOLDER"
    )


def unbuildable_wheels(plan: Plan) -> Iterator[Finding]:
    """Yield a finding for each local package with extension modules, if none can be built for the image.

    No engine builds for another platform than the default one, and this machine only for its own.
    """
    python, platform = plan.python, plan.platform
    if platform == DEFAULT_PLATFORM or runs_on(platform, local=python.platform, libc=python.libc):
        return
    for package in plan.packages:
        installed = package.installed
        if not package.vendored or installed is None:
            continue
        if installed.purelib is False or any(not tag.endswith("-any") for tag in installed.tags):
            yield Finding(
                Severity.ERROR,
                "wheel-not-buildable",
                f"{package.name} {package.version} has extension modules, and its wheel is made on this "
                f"machine ({python.platform}), which can't build it for {platform}.",
                package=package.name,
                hint=f"Lock on a {platform} machine, or publish a wheel for {platform.machine} on an index "
                f"and install that, or leave the package out: --ignore {package.name}",
            )


def unmet_requirements(plan: Plan, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each requirement that a source tree got after its package was installed.

    The wheel in the image is built from the tree as it is, and requires what the environment doesn't have.
    Requirements of the installed metadata are checked by :mod:`imagesync.plan.checks.consistency`.
    """
    versions = {each.name: each.version for each in environment.packages}
    added = {each.name for each in plan.packages if each.installed is None}
    for package in plan.packages:
        folder = local_path(package.source)
        if package.source.kind != "directory" or folder is None or has_only_installed_files(package):
            continue
        known = set() if package.installed is None else set(_parsed(package.installed.requires, environment))
        for requirement in _parsed(_declared(Path(folder, "pyproject.toml")), environment):
            name = canonical_name(requirement.name)
            if requirement in known or name in added:
                continue
            if not _is_met(requirement, versions.get(name)):
                yield _unmet(package, requirement, versions.get(name), folder, environment)


def _parsed(lines: Iterable[str], environment: Environment) -> Iterator[Requirement]:
    """Yield the requirements that hold for the interpreter of *environment*, extras aside."""
    markers = local_markers(environment.python)
    for line in lines:
        requirement = parse_requirement(line)
        if requirement is not None and applies(requirement, markers):
            yield requirement


def _declared(path: Path) -> list[str]:
    """Return the requirements that *path* lists: ``project.dependencies``, or the names in poetry's table.

    None for what only the build backend knows.
    """
    try:
        document = parse_toml(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []  # a build reports the fault
    project = _table(document, "project")
    if "dependencies" in project:
        listed = project["dependencies"]
        return [line for line in listed if isinstance(line, str)] if isinstance(listed, list) else []
    poetry = _table(_table(_table(document, "tool"), "poetry"), "dependencies")
    return [name for name, value in poetry.items() if name != "python" and isinstance(value, str)]


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key)
    return table if isinstance(table, dict) else {}


def _is_met(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _unmet(
    package: PlannedPackage,
    requirement: Requirement,
    version: str | None,
    folder: str,
    environment: Environment,
) -> Finding:
    effect = (
        f"and {canonical_name(requirement.name)} {version} is installed here; the image gets that"
        if version
        else "which isn't installed here, so the image won't have it"
    )
    options = ["--editable"] if package.source.editable else []
    return Finding(
        Severity.WARNING,
        "requirement-not-installed",
        f"{package.name} {package.version}: its pyproject.toml now requires {requirement}, {effect}.",
        path=str(Path(folder, "pyproject.toml")),
        package=package.name,
        hint=f"Install the project again: {install_command(environment, [folder], *options)}",
    )
