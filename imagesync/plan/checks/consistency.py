"""Consistency: requirements of installed packages that the environment doesn't meet (``pip check``)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version

from imagesync.core.names import canonical_name
from imagesync.plan.checks.stale_metadata import reinstall_command, stale_members
from imagesync.plan.install_commands import install_command
from imagesync.plan.match_specs import meets
from imagesync.plan.requirements import applies, local_markers, parse_requirement
from imagesync.plan.specifiers import parse_version
from imagesync.scan.environment import CondaRecord, Environment, Finding, Package, Severity

_EXTRA_ONLY = re.compile(r";\s*extra\s*==\s*[\"'][^\"']*[\"']\s*\Z")
# The commonest shape: a name and plain comparisons, without extras, a marker or a URL.
_PLAIN = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*\(?\s*((?:[<>=!~][^\[\];@()]*)?)\)?\s*\Z"
)


@dataclass(frozen=True)
class Conflict:
    """A requirement of an installed package that the environment doesn't meet.

    Parameters
    ----------
    package, version
        The package with the requirement.
    requirement
        As in its metadata, without the marker; ``python>=3.12`` for the interpreter.
    required
        The name of the required package.
    installed
        The installed version of the required package; ``None`` if it is missing.
    remedy
        The command that resolves the conflict, or other instructions.
    """

    package: NormalizedName
    version: str
    requirement: str
    required: NormalizedName
    installed: str | None
    remedy: str

    @property
    def message(self) -> str:
        """Return the requirement and the installed version as a sentence."""
        found = f"{self.required} {self.installed} is" if self.installed else f"{self.required} isn't"
        return f"{self.package} {self.version} requires {self.requirement}, and {found} installed."

    def to_finding(self) -> Finding:
        """Return the conflict as a finding of a plan."""
        return Finding(
            severity=Severity.ERROR,
            code="inconsistent",
            message=self.message,
            package=self.package,
            hint=self.remedy,
        )


def inconsistencies(environment: Environment) -> tuple[Conflict, ...]:
    """Return the conflicts that ``pip check`` finds in *environment*, and packages that need another Python.

    A conflict is a missing requirement or a wrong version. Requirements of extras are skipped, because
    nothing records which extras were requested. Pre-releases satisfy a specifier, as they do for pip. The
    conflicts are sorted by package. For conda packages the prefix records count, because conda's packagers
    correct them; their Python metadata is only checked against packages that pip installed.
    """
    installed = {package.name: package for package in environment.packages}
    markers = local_markers(environment.python)
    requirements = [
        _Requirement(package, name, specifier)
        for package in environment.packages
        for name, specifier in dict.fromkeys(_requirements(package, markers))
    ]
    specifiers: dict[str, SpecifierSet] = {}
    conflicts = [
        _python_conflict(package, environment, specifiers)
        for package in environment.packages
        if not package.conda
    ]
    for each in requirements:
        found = installed.get(canonical_name(each.name))
        if each.package.conda and (found is None or found.conda):
            continue
        if found is None or not _satisfies(found.version, each.specifier, specifiers):
            conflicts.append(
                Conflict(
                    package=each.package.name,
                    version=each.package.version,
                    requirement=each.name + each.specifier,
                    required=canonical_name(each.name),
                    installed=found.version if found else None,
                    remedy=_remedy(each, requirements, environment),
                )
            )
    if environment.conda:
        conflicts += _conda_conflicts(environment)
    return tuple(sorted(filter(None, conflicts), key=lambda conflict: (conflict.package, conflict.required)))


@dataclass(frozen=True)
class _Requirement:
    package: Package
    name: str
    specifier: str


def _remedy(conflict: _Requirement, requirements: Iterable[_Requirement], environment: Environment) -> str:
    """Return the command that installs a version that all packages accept."""
    name = canonical_name(conflict.name)
    found = next((package for package in environment.packages if package.name == name), None)
    if stale := stale_members(conflict.package, found, f"{conflict.name}{conflict.specifier}"):
        return reinstall_command(stale, environment)
    same = [each for each in requirements if canonical_name(each.name) == name]
    try:
        together = SpecifierSet(",".join(each.specifier for each in same if each.specifier))
    except InvalidSpecifier:
        together = SpecifierSet(conflict.specifier)
    if _can_be_met(together):
        return install_command(environment, [f"{conflict.name}{_shortened(together)}"])
    # No version satisfies all of them, so the packages that require it must change.
    return install_command(environment, sorted({each.package.name for each in same}), "--upgrade")


def _shortened(specifiers: SpecifierSet) -> SpecifierSet:
    """Return the range with only its highest lower bound and its lowest upper bound."""
    lower = [each for each in specifiers if each.operator == ">="]
    upper = [each for each in specifiers if each.operator == "<"]
    rest = [each for each in specifiers if each.operator not in (">=", "<")]
    rest += sorted(lower, key=lambda each: Version(each.version))[-1:]
    rest += sorted(upper, key=lambda each: Version(each.version))[:1]
    return SpecifierSet(",".join(map(str, rest)))


def _can_be_met(specifiers: SpecifierSet) -> bool:
    # A range that contains any version contains one of its bounds, the version after one, or version 0.
    bounds = [parse_version(specifier.version.removesuffix(".*")) for specifier in specifiers]
    near = [text for bound in bounds if bound for text in (str(bound), f"{bound.base_version}.1")]
    return any(specifiers.contains(version, prereleases=True) for version in ["0", *near])


def _requirements(package: Package, markers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for line in package.requires:
        if parsed := _parse(line, markers):
            yield parsed


def _parse(line: str, markers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the name and the specifier of a requirement, or ``None`` if its marker doesn't hold.

    The two commonest shapes are read by regular expressions: 1 us a line where the parser takes 40 us.
    """
    if _EXTRA_ONLY.search(line):
        return None
    if plain := _PLAIN.match(line):
        return plain[1], plain[2].replace(" ", "")
    requirement = parse_requirement(line)
    # pip skips invalid requirements; the scan reports them.
    if requirement is None or not applies(requirement, markers):
        return None
    return requirement.name, str(requirement.specifier)


def _satisfies(version: str, specifier: str, specifiers: dict[str, SpecifierSet]) -> bool:
    if not specifier:
        return True
    parsed = specifiers.get(specifier)
    if parsed is None:
        try:
            parsed = specifiers[specifier] = SpecifierSet(specifier)
        except InvalidSpecifier:
            return True
    if parse_version(version) is None:
        # A version that isn't valid under PEP 440 only meets a comparison of strings.
        return specifier == f"==={version}"
    return parsed.contains(version, prereleases=True)


def _python_conflict(
    package: Package, environment: Environment, specifiers: dict[str, SpecifierSet]
) -> Conflict | None:
    version = environment.python.version
    specifier = (package.requires_python or "").strip()
    # Debian and builds from git end the version with a plus sign, which PEP 440 doesn't allow.
    if _satisfies(version.rstrip("+"), specifier, specifiers):
        return None
    return Conflict(
        package=package.name,
        version=package.version,
        requirement=f"python{specifier}",
        required=canonical_name("python"),
        installed=version,
        remedy=install_command(environment, [package.name], "--upgrade", "--force-reinstall"),
    )


def _conda_conflicts(environment: Environment) -> Iterator[Conflict]:
    """Yield the dependencies and constraints of conda's records that no installed record meets.

    Virtual packages are skipped, and so are packages that pip has replaced. conda keeps environments
    consistent; ``--force``, an interrupted change or pip may not.
    """
    records = {record.name: record for record in environment.conda}
    pip = {package.name for package in environment.packages if not package.conda}
    replaced = any(finding.code == "pip-over-conda" for finding in environment.findings)
    checked: dict[tuple[str, str], bool] = {}
    for record in environment.conda:
        depends = ((line, True) for line in record.depends)
        constrains = ((line, False) for line in record.constrains)
        for line, required in (*depends, *constrains):
            name = line.partition(" ")[0].partition("[")[0]
            if name.startswith("__"):
                continue
            found = records.get(name)
            if found is None:
                if required and not replaced and canonical_name(name) not in pip:
                    yield _conda_conflict(record, line, name, None, environment)
            elif not checked.setdefault((line, name), meets(found, line)):
                yield _conda_conflict(record, line, name, found.version, environment)


def _conda_conflict(
    record: CondaRecord, line: str, name: str, installed: str | None, environment: Environment
) -> Conflict:
    command = ("conda", "install", "--prefix", environment.python.prefix, line)
    return Conflict(
        package=canonical_name(record.name),
        version=record.version,
        requirement=line,
        required=canonical_name(name),
        installed=installed,
        remedy=shlex.join(command),
    )
