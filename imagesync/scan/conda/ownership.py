# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH116, PTH118, PTH119, PTH120
"""The owner of each distribution: conda or pip."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesync.core.files import read_bytes
from imagesync.core.names import canonical_name
from imagesync.scan.conda.conda_meta import requested_specs
from imagesync.scan.conda.prefix_records import (
    RecordFile,
    distribution_name,
    distribution_version,
    sha256_of_file,
)
from imagesync.scan.environment import CondaRecord, Finding, Package, Severity, Source
from imagesync.scan.pip_commands import Installer

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


@dataclass(frozen=True)
class Ownership:
    """The owners of distributions.

    Parameters
    ----------
    packages
        The distributions, each with its manager.
    conda
        conda's packages, sorted by name, without those in *replaced* and without those that are gone.
    replaced
        conda's packages whose distributions pip has replaced, sorted by name.
    """

    packages: list[Package]
    conda: tuple[CondaRecord, ...] = ()
    replaced: tuple[CondaRecord, ...] = ()


def decide_owners(
    packages: Sequence[Package],
    records: Sequence[RecordFile],
    prefix: str,
    findings: list[Finding],
    installer: Installer,
) -> Ownership:
    """Decide the owner of each distribution in the conda environment in *prefix*.

    A distribution is conda's where a record lists its metadata, in the version that is installed. Where pip
    has put another version, or another source, over it, it is pip's, and the record goes.

    Parameters
    ----------
    packages
        One distribution for each name.
    records
        The prefix records of the environment; a package may have several.
    prefix
        Empty without a conda environment, even if *packages* name conda as their installer.
    findings
        Findings are appended.
    installer
        Makes the commands in hints.
    """
    return _Owners(packages, records, prefix, findings, installer).ownership()


class _Owners:
    """The state while owners are decided."""

    def __init__(
        self,
        packages: Sequence[Package],
        records: Sequence[RecordFile],
        prefix: str,
        findings: list[Finding],
        installer: Installer,
    ) -> None:
        self._packages = {package.name: package for package in packages}
        self._prefix = prefix
        self._findings = findings
        self._installer = installer
        self._records = list(_one_each(records, prefix, findings))
        asked = {
            record_file.record.name: record_file.record.requested_spec
            for record_file in self._records
            if record_file.record.requested_spec
        }
        self._requested = {**asked, **requested_specs(prefix)}
        self._replaced: set[str] = set()
        self._resolved: dict[str, str] = {}

    def ownership(self) -> Ownership:
        claims = self._claims()
        for name, package in self._packages.items():
            if name in claims:
                self._packages[name] = self._decide_owner(package, claims[name])
            elif package.manager == "conda":
                self._packages[name] = self._unrecorded(package)
        self._give_up_replaced()
        kept = [found for found in self._records if found.record.name not in self._replaced]
        return Ownership(
            packages=list(self._packages.values()),
            conda=self._sorted(found for found in kept if not self._is_gone(found)),
            replaced=self._sorted(found for found in self._records if found.record.name in self._replaced),
        )

    def _claims(self) -> dict[NormalizedName, list[tuple[RecordFile, str]]]:
        """Return for each distribution the records that list its metadata, with the listed path."""
        claims: dict[NormalizedName, list[tuple[RecordFile, str]]] = {}
        for record_file in self._records:
            for metadata in record_file.metadata:
                name = canonical_name(distribution_name(metadata))
                claims.setdefault(name, []).append((record_file, metadata))
        return claims

    def _decide_owner(self, package: Package, claims: list[tuple[RecordFile, str]]) -> Package:
        """Return *package* with its owner, and remember the records that it replaces."""
        matching = [
            claim for claim in claims if self._is_at(package, claim[1]) or _same_version(package, claim[1])
        ]
        owners = [claim for claim in matching if self._is_from(package, *claim)]
        if not owners:
            self._replaced.update(claim[0].record.name for claim in claims)
            self._findings.append(_pip_over_conda(package, [claim[0] for claim in claims], self._installer))
            return replace(package, manager="pip", source=_source_of(package))
        if len({claim[0].record.name for claim in owners}) > 1:
            owners.sort(key=lambda claim: (claim[0].record.name != package.name, claim[0].record.name))
            self._findings.append(_several_owners(package, [claim[0].record.name for claim in owners]))
        owner, metadata = owners[0]
        if self._was_reinstalled(package, owner, metadata):
            self._findings.append(_reinstalled(package, owner, self._installer))
        return replace(
            package,
            manager="conda",
            conda=owner.record.name,
            source=Source(),
            requested=(owner.record.name in self._requested) if self._requested else None,
        )

    def _is_at(self, package: Package, metadata: str) -> bool:
        parent, _, name = metadata.rpartition("/")
        return os.path.basename(package.metadata_path) == name and self._real(
            os.path.dirname(package.metadata_path)
        ) == self._real(f"{self._prefix}/{parent}")

    def _real(self, folder: str) -> str:
        if folder not in self._resolved:
            self._resolved[folder] = os.path.realpath(folder)
        return self._resolved[folder]

    def _is_from(self, package: Package, record_file: RecordFile, metadata: str) -> bool:
        """Return True if the installed distribution is the record's, and not from another source."""
        if package.source.kind == "index":
            return True
        if not self._is_at(package, metadata):
            return False
        if package.installer == "conda":  # another installer would have overwritten it
            return True
        file = f"{metadata}/direct_url.json"
        expected = sha256_of_file(record_file.path, file)
        return bool(expected) and expected == _sha256(os.path.join(self._prefix, *file.split("/")))

    def _was_reinstalled(self, package: Package, record_file: RecordFile, metadata: str) -> bool:
        """Return True if pip has installed the same version again."""
        if package.installer in ("", "conda") or not package.metadata_path.endswith(".dist-info"):
            return False
        if not self._is_at(package, metadata):
            return True
        expected = sha256_of_file(record_file.path, f"{metadata}/INSTALLER")
        return bool(expected) and expected != _sha256(os.path.join(package.metadata_path, "INSTALLER"))

    def _unrecorded(self, package: Package) -> Package:
        lacking = f"no record in {self._prefix} names it" if self._prefix else "there is no conda-meta here"
        self._findings.append(
            Finding(
                Severity.WARNING,
                "conda-record-missing",
                f"{package.name} {package.version} was installed by conda, but {lacking};"
                " it counts as one from a package index",
                path=package.metadata_path,
                package=package.name,
                hint=f"Install it again: conda install --force-reinstall {package.name}={package.version}",
            )
        )
        return replace(package, manager="pip", source=_source_of(package))

    def _give_up_replaced(self) -> None:
        """Make pip the owner of what is left of conda packages that pip has replaced in part."""
        for name, package in self._packages.items():
            if package.conda in self._replaced and package.conda:
                self._findings.append(_left_over(package, self._installer))
                self._packages[name] = replace(package, manager="pip", conda="")

    def _is_gone(self, record_file: RecordFile) -> bool:
        """Return True if the files of a record are gone, which is a finding."""
        if any(name in self._packages for name in record_file.record.distributions):
            return False
        listed = record_file.metadata or record_file.witnesses
        gone = bool(listed) and not any(os.path.lexists(os.path.join(self._prefix, path)) for path in listed)
        if gone:
            self._findings.append(_gone(record_file))
        return gone

    def _sorted(self, found: Iterable[RecordFile]) -> tuple[CondaRecord, ...]:
        records = (
            replace(each.record, requested_spec=self._requested.get(each.record.name, "")) for each in found
        )
        return tuple(sorted(records, key=lambda record: record.name))


def _one_each(records: Sequence[RecordFile], prefix: str, findings: list[Finding]) -> Iterator[RecordFile]:
    groups: dict[str, list[RecordFile]] = {}
    for record_file in records:
        groups.setdefault(record_file.record.name, []).append(record_file)
    for group in groups.values():
        yield group[0] if len(group) == 1 else _choose(group, prefix, findings)


def _choose(group: list[RecordFile], prefix: str, findings: list[Finding]) -> RecordFile:
    """Return the record, of several for one package, whose files exist; the youngest on a tie."""

    def rank(found: RecordFile) -> tuple[float, float, str]:
        listed = found.metadata or found.witnesses
        present = sum(os.path.lexists(os.path.join(prefix, entry)) for entry in listed)
        return present / len(listed) if listed else 0.0, os.stat(found.path).st_mtime, found.path

    winner = max(group, key=rank)
    others = ", ".join(os.path.basename(found.path) for found in group if found is not winner)
    findings.append(
        Finding(
            Severity.WARNING,
            "several-conda-records",
            f"conda has several records of {winner.record.name}; {os.path.basename(winner.path)} agrees best "
            f"with the installed files, not {others}",
            path=winner.path,
            package=winner.record.name,
            hint=f"Mend it: conda install --force-reinstall {winner.record.name}={winner.record.version}",
        )
    )
    return winner


def _same_version(package: Package, metadata: str) -> bool:
    return distribution_version(metadata) == package.version


def _sha256(path: str) -> str:
    import hashlib

    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError:
        return ""


def _source_of(package: Package) -> Source:
    """Return the source of a package of pip; a folder where a conda package was built is none."""
    if package.installer == "conda" and package.source.kind == "directory":
        return Source()
    return package.source


def _pip_over_conda(package: Package, records: list[RecordFile], installer: Installer) -> Finding:
    record = records[0].record
    before = ", ".join(f"{found.record.name} {found.record.version}" for found in records)
    return Finding(
        Severity.WARNING,
        "pip-over-conda",
        f"{package.name} {package.version} was installed by {package.installer or 'pip'} over conda's "
        f"{before}; the image gets what is installed now, without conda's package",
        path=package.metadata_path,
        package=package.name,
        hint=f"Let one of them own it: {installer.uninstall([package.name])}, "
        f"or conda remove --force {record.name}",
    )


def _reinstalled(package: Package, record_file: RecordFile, installer: Installer) -> Finding:
    return Finding(
        Severity.INFO,
        "conda-and-pip",
        f"{package.name} {package.version} was installed by conda and, in the same version, by "
        f"{package.installer}: the image gets conda's",
        path=package.metadata_path,
        package=package.name,
        hint="If you mean pip's, take conda's away first: "
        f"conda remove --force {record_file.record.name}, then {installer.install([package.name])}",
    )


def _left_over(package: Package, installer: Installer) -> Finding:
    pin = f"{package.name}=={package.version}"
    return Finding(
        Severity.WARNING,
        "pip-over-conda",
        f"conda's {package.conda} brought {package.name} {package.version} along with a package that pip has "
        f"replaced; since conda's is left out, {package.name} counts as one from a package index",
        path=package.metadata_path,
        package=package.name,
        hint=f"Make it pip's: {installer.install([pin], '--force-reinstall', '--no-deps')}",
    )


def _several_owners(package: Package, names: list[str]) -> Finding:
    return Finding(
        Severity.INFO,
        "several-conda-records",
        f"the conda packages {', '.join(sorted(names))} all bring {package.name} {package.version}; "
        f"{names[0]} counts as its owner",
        path=package.metadata_path,
        package=package.name,
    )


def _gone(record_file: RecordFile) -> Finding:
    record = record_file.record
    return Finding(
        Severity.WARNING,
        "conda-files-gone",
        f"conda has a record of {record.name} {record.version}, whose files are gone; it is left out",
        path=record_file.path,
        package=record.name,
        hint=f"Bring it back: conda install --force-reinstall {record.name}={record.version}; "
        f"or forget it: conda remove --force {record.name}",
    )
