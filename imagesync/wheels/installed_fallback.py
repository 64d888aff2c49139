"""Installed files in place of artifacts that can't be had: sdists that can't be built, and conda packages.

A conda package can be replaced if it has nothing but Python distributions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import NormalizedName

from imagesync.core.progress import Severity
from imagesync.errors import WheelError
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import LockedPackage, VendoredPackage
from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.scan.distributions.metadata import entry_point_scripts, installed_files
from imagesync.scan.environment import CondaRecord, Package
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
                f"image{log}",
                Severity.DEVIATION,
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


def portable_distributions(
    planned: PlannedConda,
    provided: Iterable[PlannedPackage],
    *,
    prefix: Path,
    installed_digest: Callable[[PlannedPackage], str],
) -> Sequence[tuple[PlannedPackage, str]]:
    """Return the distributions of a conda package, each with the digest of its installed files.

    Empty if the package has other files, or if conda wrote the prefix into one, which differs in another
    prefix.

    Parameters
    ----------
    planned
        The conda package.
    provided
        The installed distributions of conda packages, as planned packages.
    prefix
        The conda environment.
    installed_digest
        Returns the digest of a distribution's installed files, if they fit the target.
    """
    distributions = [entry for entry in provided if entry.installed and entry.installed.conda == planned.name]
    installed = [entry.installed for entry in distributions if entry.installed is not None]
    if planned.record is None or not installed or not has_only(planned.record, installed, prefix):
        return ()
    found = [(entry, installed_digest(entry)) for entry in distributions]
    return found if all(digest for _, digest in found) else ()


def has_only(record: CondaRecord, packages: Sequence[Package], prefix: Path) -> bool:
    """Return True if a record only has files of *packages*, their bytecode and their commands."""
    path = prefix / "conda-meta" / f"{record.name}-{record.version}-{record.build}.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        listing = document["paths_data"]["paths"]
        entries = [(entry["_path"], bool(entry.get("prefix_placeholder"))) for entry in listing]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    listed = {
        PurePosixPath(os.path.relpath(Path(package.location, file.path), prefix).replace(os.sep, "/"))
        for package in packages
        for file in installed_files(package)
    }
    commands = frozenset[str]().union(*(entry_point_scripts(package.metadata_path) for package in packages))
    metadata = {Path(package.metadata_path).name for package in packages}
    return all(
        _is_command(PurePosixPath(file), commands)
        or (not has_prefix and _is_listed(PurePosixPath(file), listed, metadata))
        for file, has_prefix in entries
    )


def _is_command(path: PurePosixPath, commands: frozenset[str]) -> bool:
    name = path.name.removesuffix(".exe").removesuffix("-script.py")
    return path.parts[0] in ("bin", "Scripts") and name in commands


def _is_listed(path: PurePosixPath, listed: set[PurePosixPath], metadata: set[str]) -> bool:
    # Bytecode and the installer's metadata don't count.
    return path in listed or path.suffix == ".pyc" or path.parent.name in metadata
