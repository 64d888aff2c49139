"""Source trees that packages were installed from: missing ones, and requirements that aren't installed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name
from imagesync.core.platforms import runs_on
from imagesync.plan.install_commands import install_command
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.plan.requirements import applies, local_markers, parse_requirement
from imagesync.scan.environment import Environment, Finding, Severity, Source

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from imagesync.scan.environment import Package

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


def has_extension_modules(package: Package | None) -> bool:
    """Return True if the metadata of an installed *package* says that its wheel is for one platform."""
    if package is None:
        return False
    return package.purelib is False or any(not tag.endswith("-any") for tag in package.tags)


def foreign_wheels(plan: Plan) -> tuple[PlannedPackage, ...]:
    """Return the local packages of *plan* whose wheels for the image this machine can't build.

    They have extension modules, and the image has another platform.
    """
    python = plan.python
    if runs_on(plan.platform, local=python.platform, libc=python.libc):
        return ()
    return tuple(each for each in plan.packages if each.vendored and has_extension_modules(each.installed))


def unbuildable_wheels(plan: Plan, *, problem: str, remedy: str) -> Iterator[Finding]:
    """Yield a finding for each local package whose wheel can't be built for the image.

    Parameters
    ----------
    plan
        The plan.
    problem
        Why there is no container to build it in; empty if there is one.
    remedy
        What to do about that.
    """
    platform = plan.platform
    for package in foreign_wheels(plan):
        if not has_only_installed_files(package) and not problem:
            continue
        why = problem or "Its sources are gone"
        others = (
            f"Lock on a {platform} machine, or publish a wheel for {platform.machine} on an index and "
            f"install that, or leave the package out: --ignore {package.name}"
        )
        yield Finding(
            Severity.ERROR,
            "wheel-not-buildable",
            f"{package.name} {package.version} has extension modules. This machine ({plan.python.platform}) "
            f"can't build its wheel for {platform}, and no container can: {why}.",
            package=package.name,
            hint="\n".join(filter(None, (remedy, others))),
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
