"""Source trees that packages were installed from: missing ones, and folders that aren't projects any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imagesync.plan.install_commands import install_command
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Environment, Finding, Severity, Source

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


def is_source_missing(package: PlannedPackage) -> bool:
    """Return True if *package* was installed from a folder that is missing now."""
    folder = local_path(package.source)
    return package.source.kind == "directory" and folder is not None and not Path(folder).is_dir()


def has_only_installed_files(package: PlannedPackage) -> bool:
    """Return True if the sources of *package* are missing, and its wheel is made from the installed files."""
    installed = package.installed
    return (
        not package.source.editable
        and installed is not None
        and installed.has_record
        and is_source_missing(package)
    )


def missing_sources(plan: Plan, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each package of *plan* whose source tree is missing or isn't a project any more."""
    for package in plan.packages:
        folder = local_path(package.source)
        if package.source.kind != "directory" or folder is None:
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
        elif is_source_missing(package):
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
