"""Whether a lock file still is one of the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from imagesync.plan.specifiers import parse_version

if TYPE_CHECKING:
    from imagesync.lock.lock import LockedConda
    from imagesync.lock.lockfile.read import ReadLock
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage


@dataclass(frozen=True)
class Moved:
    """A package by which an environment differs from its lock file.

    Parameters
    ----------
    locked, here
        The versions, with the build of a conda package; empty where it isn't there.
    """

    name: str
    manager: str
    locked: str
    here: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return asdict(self)


def moved(read: ReadLock, plan: Plan, contents: Mapping[Any, str]) -> tuple[Moved, ...]:
    """Return what has moved in the environment of *plan* since it was locked, sorted by name.

    A package may differ as it did when the lock was made, since that was said then. In a lock file that
    another tool wrote, each version that the plan's specifiers admit will do.

    Parameters
    ----------
    contents
        For each vendored package the digest of what its wheel is made from.
    """
    compared = _Compared(read, plan)
    found = [*compared.conda(), *compared.pip(contents), *compared.interpreter()]
    return tuple(sorted(found, key=lambda each: (each.name, each.manager)))


class _Compared:
    def __init__(self, read: ReadLock, plan: Plan) -> None:
        self.read, self.plan = read, plan
        self.ours = read.companion.is_ours
        self.deviations = {each.name: each for each in read.lock.deviations}
        self.same_platform = plan.python.platform.startswith("linux-")
        made = {package.name: package.version for package in read.lock.vendored}
        # Distributions of conda packages that wheels of their installed files stand in for.
        self.repacked = {
            str(package.name)
            for package in plan.provided
            if made.get(package.name) == package.version
            and read.companion.package("pip", package.name).get("repacked")
        }

    def conda(self) -> Iterator[Moved]:
        locked = {package.name: package for package in self.read.lock.conda}
        planned = {package.name: package for package in self.plan.conda}
        if not planned:
            return  # what an environment of pip has from a channel is its interpreter
        for name, package in planned.items():
            entry = locked.get(name)
            here = f"{package.version} {package.build}".strip()
            if entry is None:
                if not self._said(name, package.version, "") and not self._is_repacked(name):
                    yield Moved(name, "conda", "", here, "it isn't in the lock")
            elif not self._conda_fits(package, entry):
                yield Moved(name, "conda", f"{entry.version} {entry.build}", here, "it was changed")
        for name, entry in locked.items():
            if name not in planned and self._was_planned("conda", name):
                yield Moved(name, "conda", f"{entry.version} {entry.build}", "", "it isn't here any more")

    def _conda_fits(self, package: PlannedConda, entry: LockedConda) -> bool:
        if package.record is None or self._said(package.name, package.version, entry.version):
            return True
        # Where the version is the same, a deviation is one of builds.
        if self._said(package.name, f"{package.version} {package.build}", f"{entry.version} {entry.build}"):
            return True
        if self.ours and self.same_platform:
            return (package.version, package.build) == (entry.version, entry.build)
        if self.ours:
            return package.version == entry.version
        from rattler import Version, VersionSpec

        return VersionSpec(package.specifier or "*").matches(Version(entry.version))

    def _is_repacked(self, name: str) -> bool:
        provided = {str(package.name) for package in self.plan.provided if package.conda == name}
        return bool(provided) and provided <= self.repacked

    def pip(self, contents: Mapping[Any, str]) -> Iterator[Moved]:
        locked: dict[str, str] = {package.name: package.version for package in self.read.lock.packages}
        locked |= {package.name: package.version for package in self.read.lock.vendored}
        planned = {str(package.name): package for package in self.plan.packages if package.name != "python"}
        for name, package in planned.items():
            if name not in locked:
                if not self._said(name, package.version, ""):
                    yield Moved(name, "pip", "", package.version, "it isn't in the lock")
                continue
            known = self.read.companion.package("pip", name)
            if package.vendored and "content" in known and not known.get("repacked"):
                if contents.get(package.name) != known["content"]:
                    yield Moved(
                        name, "pip", locked[name], package.version, "what its wheel is made from has changed"
                    )
            elif not self._pip_fits(package, locked[name]):
                yield Moved(name, "pip", locked[name], package.version, "it was changed")
        for name, version in locked.items():
            if name not in planned and name not in self.repacked and self._was_planned("pip", name):
                yield Moved(name, "pip", version, "", "it isn't here any more")

    def _pip_fits(self, package: PlannedPackage, locked: str) -> bool:
        if package.installed is None or self._said(package.name, package.version, locked):
            return True
        if self.ours or package.vendored:
            return (
                parse_version(package.version) == parse_version(locked)
                if parse_version(locked)
                else (package.version == locked)
            )
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            return SpecifierSet(package.specifier).contains(locked, prereleases=True)
        except InvalidSpecifier:
            return package.version == locked

    def interpreter(self) -> Iterator[Moved]:
        locked, here = self.read.interpreter_version, self.plan.python.version.rstrip("+")
        if not locked or self.plan.conda:
            return
        exactly = any(package.name == "python" for package in self.read.lock.conda)
        # The base image has a patch level of its own, which was a deviation then.
        if locked != here if exactly else locked.split(".")[:2] != self.plan.python.minor.split("."):
            yield Moved("python", "pip", locked, self.plan.python.version, "it was changed")

    def _said(self, name: str, local: str, locked: str) -> bool:
        deviation = self.deviations.get(name)
        return deviation is not None and (deviation.local, deviation.locked) == (local, locked)

    def _was_planned(self, manager: str, name: str) -> bool:
        # What came in with another package, or for another platform, was never here.
        if self.ours:
            return "level" in self.read.companion.package(manager, name)
        return self.same_platform
