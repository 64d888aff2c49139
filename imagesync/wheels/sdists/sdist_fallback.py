"""Stand-ins: installed files in the place of an sdist that can't be built."""

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


def stand_in(
    lock: Lock,
    built: Mapping[NormalizedName, StoredFile | WheelError],
    *,
    installed_content: InstalledContent,
    logs: Path,
    progress: Progress,
) -> tuple[Lock, Mapping[NormalizedName, StoredFile]]:
    """Return *lock* with installed files for each sdist that can't be built, and the wheels of the others.

    Parameters
    ----------
    built
        The wheel of each sdist, or why there is none.
    installed_content
        Gives the digest of a package's installed files, if they hold for the target.
    logs
        The folder of the builds' logs.

    Raises
    ------
    WheelError
        An sdist can't be built, and its package isn't installed here in a form that the target can use.
    """
    wheels: dict[NormalizedName, StoredFile] = {}
    standing_in: dict[NormalizedName, VendoredPackage] = {}
    for package in lock.packages:
        result = built.get(package.name)
        if isinstance(result, WheelError):
            standing_in[package.name] = _installed(package, result, installed_content)
            progress.line(
                f"{package.name} {package.version}: its sdist can't be built, so the installed files go into "
                f"the image; the log is {log_path(package, logs)}"
            )
        elif result is not None:
            wheels[package.name] = result
    if not standing_in:
        return lock, wheels
    packages = tuple(package for package in lock.packages if package.name not in standing_in)
    vendored = sorted((*lock.vendored, *standing_in.values()), key=lambda package: package.name)
    return replace(lock, packages=packages, vendored=tuple(vendored)), wheels


def log_path(package: LockedPackage, logs: Path) -> Path:
    """Return where among the *logs* that of the build of *package* is."""
    return logs / f"{package.name}-{package.version}.log"


def _installed(
    package: LockedPackage, error: WheelError, installed_content: InstalledContent
) -> VendoredPackage:
    content = "" if package.planned is None else installed_content(package.planned)
    if package.planned is None or not content:
        raise error
    why = f"its sdist {package.artifact.filename} can't be built"
    return VendoredPackage(package.name, package.version, content, package.planned, why)
