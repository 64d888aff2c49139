# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH113, PTH116, PTH118, PTH119
"""Duplicate metadata: the one of several metadata folders that describes the installed package."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from imagesync.core.files import read_bytes
from imagesync.scan.distributions.editables import source_folder
from imagesync.scan.distributions.metadata import read_record
from imagesync.scan.environment import Finding, Package, Severity
from imagesync.scan.pip_commands import Installer


def drop_duplicates(
    packages: Sequence[Package], findings: list[Finding], installer: Installer
) -> list[Package]:
    """Return one package for each name; *packages* are in the order of ``sys.path``.

    In one folder, the metadata whose RECORD agrees with the files wins. Of several folders, the first on
    ``sys.path`` wins, as on import. A finding is appended for each of the others.
    """
    groups: dict[str, list[Package]] = {}
    for package in packages:
        groups.setdefault(package.name, []).append(package)
    return [
        group[0] if len(group) == 1 else _choose_one(group, findings, installer) for group in groups.values()
    ]


def _choose_one(group: list[Package], findings: list[Finding], installer: Installer) -> Package:
    group = _without_build_leftovers(group)
    rivals = [package for package in group if package.location == group[0].location]
    winner = rivals[0] if len(rivals) == 1 else _choose_rival(rivals, findings, installer)
    findings.extend(_shadowed(package, winner) for package in group if package.location != winner.location)
    return winner


def _without_build_leftovers(group: list[Package]) -> list[Package]:
    """Leave out the ``.egg-info`` that setuptools writes into the source tree of an editable package."""
    roots = [
        os.path.join(os.path.realpath(folder), "")
        for package in group
        if package.metadata_path.endswith(".dist-info") and (folder := source_folder(package.source))
    ]
    return [
        package
        for package in group
        if package.metadata_path.endswith(".dist-info")
        or not any(os.path.join(os.path.realpath(package.location), "").startswith(root) for root in roots)
    ]


def _choose_rival(rivals: list[Package], findings: list[Finding], installer: Installer) -> Package:
    winner = max(rivals, key=_rank)
    same = all(package.version == winner.version for package in rivals)
    pin = f"{winner.name}=={winner.version}"
    others = ", ".join(os.path.basename(p.metadata_path) for p in rivals if p is not winner)
    findings.append(
        Finding(
            Severity.INFO if same else Severity.WARNING,
            "several-metadata",
            f"{winner.name} has several metadata folders in {winner.location}; "
            f"{os.path.basename(winner.metadata_path)} agrees best with the installed files, not {others}",
            path=winner.metadata_path,
            package=winner.name,
            hint=f"Mend it: {installer.install([pin], '--force-reinstall', '--no-deps')}",
        )
    )
    return winner


def _rank(package: Package) -> tuple[float, float, float, str]:
    """Return the rank of the metadata: its agreement with the files, and on a tie its age."""
    entries = list(_listed(package))
    by_size = _fraction(entry.agrees_in_size for entry in entries)
    by_hash = _fraction(entry.agrees_in_hash() for entry in entries) if by_size > 0 else by_size
    try:
        written = os.stat(package.metadata_path).st_mtime
    except OSError:
        written = 0.0
    return by_size, by_hash, written, package.metadata_path


def _fraction(answers: Iterator[bool]) -> float:
    values = list(answers)
    return sum(values) / len(values) if values else -1.0


def _listed(package: Package) -> Iterator[_Entry]:
    """Yield the listed files outside the metadata folder, whose own files agree with it in any case."""
    if package.metadata_path.endswith(".dist-info"):
        for path, digest, size in read_record(package.metadata_path):
            if not path.startswith(os.path.basename(package.metadata_path) + "/") and not path.endswith(
                ".pyc"
            ):
                yield _Entry(os.path.join(package.location, *path.split("/")), digest, size)
        return
    listing = os.path.join(package.metadata_path, "installed-files.txt")
    if os.path.isfile(listing):
        for line in read_bytes(listing).decode("utf-8", "replace").splitlines():
            path = os.path.normpath(os.path.join(package.metadata_path, line))
            if not path.startswith(os.path.join(package.metadata_path, "")) and not path.endswith(".pyc"):
                yield _Entry(path, "", None)


class _Entry:
    """A file that a RECORD lists."""

    def __init__(self, path: str, digest: str, size: int | None) -> None:
        self._path = path
        self._digest = digest
        try:
            actual: int | None = os.stat(path).st_size
        except OSError:
            actual = None
        self.agrees_in_size = actual is not None and size in (None, actual)

    def agrees_in_hash(self) -> bool:
        """Return True if the file has the listed hash, or without a hash the listed size."""
        algorithm, _, expected = self._digest.partition("=")
        if not self.agrees_in_size or not expected:
            return self.agrees_in_size
        import base64
        import hashlib

        try:
            digest = hashlib.new(algorithm, read_bytes(self._path)).digest()
        except (OSError, ValueError):
            return False
        return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=") == expected


def _shadowed(package: Package, winner: Package) -> Finding:
    return Finding(
        Severity.INFO if package.version == winner.version else Severity.WARNING,
        "shadowed",
        f"{package.name} {package.version} in {package.location} is hidden by "
        f"{winner.name} {winner.version} in {winner.location}, which comes first on sys.path",
        path=package.metadata_path,
        package=package.name,
        hint="Uninstall the one that you don't mean.",
    )
