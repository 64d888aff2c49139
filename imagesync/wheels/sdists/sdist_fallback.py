"""Using installed files in place of an sdist that can't be built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import NormalizedName

from imagesync.errors import WheelError
from imagesync.lock.lock import Lock, LockedPackage, VendoredPackage
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.resolve_installed import InstalledContent


def use_installed_files(
    lock: Lock,
    built: Mapping[NormalizedName, StoredFile | WheelError],
    *,
    installed_content: InstalledContent,
    logs: Path,
    progress: Progress,
) -> tuple[Lock, Mapping[NormalizedName, StoredFile]]:
    """Return *lock* with installed files for each sdist that can't be built, and the wheels of the others.

    *built* has the wheel of each sdist, or the error of its build.

    Raises
    ------
    WheelError
        An sdist can't be built, and the installed files of its package don't fit the target.
    """
    wheels: dict[NormalizedName, StoredFile] = {}
    replaced: dict[NormalizedName, VendoredPackage] = {}
    for package in lock.packages:
        result = built.get(package.name)
        if isinstance(result, WheelError):
            replaced[package.name] = _installed(package, result, installed_content)
            progress.line(
                f"{package.name} {package.version}: its sdist can't be built, so the installed files go into "
                f"the image; the log is {log_path(package, logs)}"
            )
        elif result is not None:
            wheels[package.name] = result
    if not replaced:
        return lock, wheels
    packages = tuple(package for package in lock.packages if package.name not in replaced)
    vendored = sorted((*lock.vendored, *replaced.values()), key=lambda package: package.name)
    return replace(lock, packages=packages, vendored=tuple(vendored)), wheels


def log_path(package: LockedPackage, logs: Path) -> Path:
    """Return the path of the build log of *package* in the folder *logs*."""
    return logs / f"{package.name}-{package.version}.log"


def _installed(
    package: LockedPackage, error: WheelError, installed_content: InstalledContent
) -> VendoredPackage:
    content = "" if package.planned is None else installed_content(package.planned)
    if package.planned is None or not content:
        raise error
    reason = f"its sdist {package.artifact.filename} can't be built"
    return VendoredPackage(package.name, package.version, content, package.planned, reason)
