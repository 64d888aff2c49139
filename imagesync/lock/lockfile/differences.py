"""Comparing an environment with its lock file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from imagesync.core.platforms import runs_on
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.specifiers import parse_version

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.locked_packages import LockedConda
    from imagesync.lock.lockfile.models import ReadLock
    from imagesync.plan.plan import Plan, PlannedConda


@dataclass(frozen=True)
class Difference:
    """A package that differs between an environment and its lock file.

    Parameters
    ----------
    name
        The canonical name, or the conda name of a conda package.
    manager
        ``pip`` or ``conda``.
    locked, here
        The versions in the lock file and in the environment, with the build of a conda package; empty for a
        missing package.
    reason
        The reason, for the user.
    """

    name: str
    manager: str
    locked: str
    here: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as documented JSON."""
        return asdict(self)


def differences(
    read: ReadLock, plan: Plan, source_digests: Mapping[NormalizedName, str]
) -> tuple[Difference, ...]:
    """Return the differences between the environment of *plan* and its lock file, sorted by name.

    Deviations that were reported with the lock don't count. In a lock file of another tool, any version that
    the plan's specifiers admit is accepted.
    """
    comparison = _Comparison(read, plan)
    found = [*comparison.conda(), *comparison.pip(source_digests), *comparison.interpreter()]
    return tuple(sorted(found, key=lambda each: (each.name, each.manager)))


class _Comparison:
    def __init__(self, read: ReadLock, plan: Plan) -> None:
        self.read, self.plan = read, plan
        self.ours = read.custom_metadata.is_ours
        self.deviations = {each.name: each for each in read.lock.deviations}
        self.same_platform = runs_on(
            read.lock.target.platform, local=plan.python.platform, libc=plan.python.libc
        )
        vendored = {package.name: package.version for package in read.lock.vendored}
        # Distributions of conda packages that were replaced by wheels of their installed files.
        self.repacked = {
            str(package.name)
            for package in plan.provided
            if vendored.get(package.name) == package.version
            and read.custom_metadata.package("pip", package.name).get("repacked")
        }

    def conda(self) -> Iterator[Difference]:
        locked = {package.name: package for package in self.read.lock.conda}
        planned = {package.name: package for package in self.plan.conda}
        if not planned or self.read.is_pip_only:
            return  # an environment without conda only gets its interpreter from a channel
        for name, package in planned.items():
            entry = locked.get(name)
            here = f"{package.version} {package.build}".strip()
            if entry is None:
                is_known = self._is_reported(name, package.version, "") or name in self.read.left_out
                if not is_known and not self._is_repacked(name):
                    yield Difference(name, "conda", "", here, "it isn't in the lock")
            elif not self._has_reported_changes(package):
                yield Difference(
                    name, "conda", f"{entry.version} {entry.build}", here, "its installed files were changed"
                )
            elif not self._conda_fits(package, entry):
                yield Difference(name, "conda", f"{entry.version} {entry.build}", here, "it was changed")
        for name, entry in locked.items():
            if name not in planned and self._was_planned("conda", name):
                yield from self._unplanned(name, "conda", entry.version, f"{entry.version} {entry.build}")
        yield from self._shared_conda_files(planned)

    def _shared_conda_files(self, planned: Mapping[str, PlannedConda]) -> Iterator[Difference]:
        """Yield the packages whose files were installed over those of other packages since the lock."""
        locked = self.read.custom_metadata.shared_conda_files
        if not (self.ours and self.same_platform and locked):
            return
        from imagesync.scan.conda.shared_files import EXECUTABLE, NOT_EXECUTABLE, shared_files

        modes = {EXECUTABLE: ("is", "was"), NOT_EXECUTABLE: ("isn't", "wasn't")}
        names = {name for names in locked.values() for name in names}
        records = [each.record for each in planned.values() if each.name in names and each.record is not None]
        moved: dict[str, str] = {}
        for path, (owner, *others) in shared_files(records, self.plan.python).items():
            before = locked[path][0] if path in locked else owner
            # Without an owner, the file itself was changed.
            if not owner or before == owner:
                continue
            if owner in modes and before in modes:
                reason = (
                    f"its {path} {modes[owner][0]} executable; when the lock was made, it {modes[before][1]}"
                )
                moved.setdefault(others[-1], reason)
            elif owner not in modes:
                whose = f"that of {before}" if before and before not in modes else "no package's"
                moved.setdefault(owner, f"its {path} is installed; when the lock was made, {whose} was")
        for name, reason in moved.items():
            here = f"{planned[name].version} {planned[name].build}".strip()
            yield Difference(name, "conda", here, here, reason)

    def _conda_fits(self, package: PlannedConda, entry: LockedConda) -> bool:
        if package.record is None or self._is_reported(package.name, package.version, entry.version):
            return True
        # With the same version, a deviation is one of builds.
        if self._is_reported(
            package.name, f"{package.version} {package.build}", f"{entry.version} {entry.build}"
        ):
            return True
        if self.read.is_exact and self.same_platform:
            return (package.version, package.build) == (entry.version, entry.build)
        if self.ours:
            return package.version == entry.version and self._has_variant_of(package, entry)
        from rattler import Version, VersionSpec

        return VersionSpec(package.specifier or "*").matches(Version(entry.version))

    @staticmethod
    def _has_variant_of(package: PlannedConda, entry: LockedConda) -> bool:
        """Return True if the lock has the variant of a build of another platform."""
        from imagesync.lock.conda.preferences import variant_of

        # The usual build may be a variant elsewhere.
        return variant_of(package.build) in ("", variant_of(entry.build))

    def _is_repacked(self, name: str) -> bool:
        provided = {str(package.name) for package in self.plan.provided if package.conda == name}
        return bool(provided) and provided <= self.repacked

    def pip(self, source_digests: Mapping[NormalizedName, str]) -> Iterator[Difference]:
        locked: dict[str, str] = {package.name: package.version for package in self.read.lock.packages}
        locked |= {package.name: package.version for package in self.read.lock.vendored}
        planned = {str(package.name): package for package in self.plan.packages if package.name != "python"}
        for name, package in planned.items():
            if name not in locked:
                if not self._is_reported(name, package.version, "") and name not in self.read.left_out:
                    yield Difference(name, "pip", "", package.version, "it isn't in the lock")
                continue
            known = self.read.custom_metadata.package("pip", name)
            if bool(known.get("modified")) != package.as_installed or not self._has_reported_changes(package):
                yield Difference(
                    name, "pip", locked[name], package.version, "its installed files were changed"
                )
            elif package.vendored and "content" in known and not known.get("repacked"):
                if source_digests.get(package.name) != known["content"]:
                    yield Difference(
                        name, "pip", locked[name], package.version, "what its wheel is made from has changed"
                    )
            elif not self._pip_fits(package, locked[name]):
                yield Difference(name, "pip", locked[name], package.version, "it was changed")
        for name, version in locked.items():
            if name not in planned and name not in self.repacked and self._was_planned("pip", name):
                yield from self._unplanned(name, "pip", version, version)

    def _unplanned(self, name: str, manager: str, version: str, locked: str) -> Iterator[Difference]:
        """Yield the difference of a locked package that isn't planned: it may be installed all the same.

        Tools stay out of images, and their dependencies with them; a lock file of another tool has them.
        """
        here = next(
            (each.version for each in self.plan.left_out if (each.name, each.manager) == (name, manager)), ""
        )
        if self.ours or not here:
            yield Difference(name, manager, locked, "", "it isn't here any more")
        elif version and parse_version(here) != parse_version(version):
            yield Difference(name, manager, locked, here, "it was changed")

    def _pip_fits(self, package: PlannedPackage, locked: str) -> bool:
        if package.installed is None or self._is_reported(package.name, package.version, locked):
            return True
        if not locked:
            return True  # only a build knows the version of this source tree
        if self.read.is_exact or package.vendored:
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

    def interpreter(self) -> Iterator[Difference]:
        locked, here = self.read.interpreter_version, self.plan.python.version.rstrip("+")
        if not locked or self.plan.conda:
            return
        exactly = any(package.name == "python" for package in self.read.lock.conda)
        # Another patch level of the base image was reported as a deviation.
        if locked != here if exactly else locked.split(".")[:2] != self.plan.python.minor.split("."):
            yield Difference("python", "pip", locked, self.plan.python.version, "it was changed")

    def _is_reported(self, name: str, local: str, locked: str) -> bool:
        deviation = self.deviations.get(name)
        return deviation is not None and (deviation.local, deviation.locked) == (local, locked)

    def _has_reported_changes(self, package: PlannedPackage | PlannedConda) -> bool:
        """Return True if changes that no image gets, if there are any, were reported with the lock."""
        if package.modification is None or (isinstance(package, PlannedPackage) and package.as_installed):
            return True
        return self._is_reported(package.name, package.version, package.version)

    def _was_planned(self, manager: str, name: str) -> bool:
        # Dependencies on another platform were never installed here.
        if self.ours:
            return "level" in self.read.custom_metadata.package(manager, name)
        return self.same_platform
