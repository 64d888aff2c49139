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
from imagesync.wheels.build_wheel import refuse_builds

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.resolve_installed import InstalledDigest


def use_installed_files(
    lock: Lock,
    built: Mapping[NormalizedName, StoredFile | WheelError],
    *,
    installed_digest: InstalledDigest,
    logs: Path,
    progress: Progress,
    no_build: bool = False,
) -> tuple[Lock, Mapping[NormalizedName, StoredFile]]:
    """Return *lock* with installed files for each sdist that can't be built, and the wheels of the others.

    *built* has the wheel of each sdist, or the error of its build.
    *no_build* says that they weren't built because ``--no-build`` forbids it.

    Raises
    ------
    WheelError
        An sdist can't be built, and the installed files of its package don't fit the target.
    """
    if no_build:
        _refuse_hopeless(lock, built, installed_digest)
    wheels: dict[NormalizedName, StoredFile] = {}
    replaced: dict[NormalizedName, VendoredPackage] = {}
    for package in lock.packages:
        result = built.get(package.name)
        if isinstance(result, WheelError):
            replaced[package.name] = _installed(package, result, installed_digest)
            why = "isn't built (--no-build)" if no_build else "can't be built"
            log = "" if no_build else f"; the log is {log_path(package, logs)}"
            progress.line(
                f"{package.name} {package.version}: its sdist {why}, so the installed files go into the "
                f"image{log}"
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


def _refuse_hopeless(
    lock: Lock,
    built: Mapping[NormalizedName, StoredFile | WheelError],
    installed_digest: InstalledDigest,
) -> None:
    missing = [package for package in lock.packages if isinstance(built.get(package.name), WheelError)]
    hopeless = [p for p in missing if p.planned is None or not installed_digest(p.planned)]
    if hopeless:
        raise refuse_builds(hopeless)


def _installed(
    package: LockedPackage, error: WheelError, installed_digest: InstalledDigest
) -> VendoredPackage:
    content = "" if package.planned is None else installed_digest(package.planned)
    if package.planned is None or not content:
        raise error
    reason = f"its sdist {package.artifact.filename} can't be built"
    return VendoredPackage(package.name, package.version, content, package.planned, reason)
