"""Source trees: whether what a wheel is to be built from is still there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from imagesync.plan.checks.remedy import install_command
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Environment, Finding, Severity, Source

_PROJECT_FILES = ("pyproject.toml", "setup.py")


def local_path(source: Source) -> str | None:
    """Return the file or folder that the ``file://`` URL of *source* names (RFC 8089), or ``None``."""
    parts = urlsplit(source.url or "")
    if parts.scheme != "file" or not parts.path:
        return None
    if os.name == "nt":
        from urllib.request import url2pathname

        return url2pathname(parts.path)
    return unquote(parts.path, errors="surrogateescape")


def is_gone(package: PlannedPackage) -> bool:
    """Return whether *package* was installed from a folder that isn't there now."""
    folder = local_path(package.source)
    return package.source.kind == "directory" and folder is not None and not Path(folder).is_dir()


def is_copied(package: PlannedPackage) -> bool:
    """Return whether the sources of *package* are gone, and its installed files are all there is of it."""
    installed = package.installed
    return not package.source.editable and installed is not None and installed.has_record and is_gone(package)


def missing_sources(plan: Plan, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each package of *plan* whose source tree is gone, or is a project no more."""
    for package in plan.packages:
        folder = local_path(package.source)
        if package.source.kind != "directory" or folder is None:
            continue
        if is_copied(package):
            yield Finding(
                Severity.INFO,
                "source-missing",
                f"{package.name} {package.version} was installed from {folder}, which is gone; "
                "the image gets the installed files.",
                path=folder,
                package=package.name,
            )
        elif is_gone(package):
            yield _gone(package, folder, environment)
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


def _gone(package: PlannedPackage, folder: str, environment: Environment) -> Finding:
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
