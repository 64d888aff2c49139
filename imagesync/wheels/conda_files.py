"""Conda packages with nothing but Python distributions, which wheels of their files can replace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.scan.distributions.metadata import entry_point_scripts, installed_files
from imagesync.scan.environment import CondaRecord, Package


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
