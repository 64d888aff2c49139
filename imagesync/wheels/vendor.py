"""Vendoring: making the wheels of packages that come from this machine and not from an index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version
from uv import find_uv_bin

from imagesync.core.names import canonical_pattern, matches
from imagesync.lock.lock import Target, VendoredPackage
from imagesync.plan.checks.sources import has_only_installed_files
from imagesync.scan.environment import Interpreter
from imagesync.store.layout import BUILD_PINS, LOGS, TREES
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build import build_folder, build_wheel, refuse_builds
from imagesync.wheels.build_environments import BuildRequest
from imagesync.wheels.build_pins import BuildPins
from imagesync.wheels.build_requirements import InstalledRequirements, installed_requirements
from imagesync.wheels.check_target import check_identity, check_wheel, is_pure, warn_of_secrets
from imagesync.wheels.repack import is_portable, repack
from imagesync.wheels.source_digests import source_folder
from imagesync.wheels.sources.build_copy import copy_for_build
from imagesync.wheels.sources.source_tree import tree_digest
from imagesync.wheels.sources.untracked_inputs import record_untracked_inputs

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task
    from imagesync.wheels.build_indexes import BuildIndexes

_FORMAT = 2  # raised when the same content would give another wheel
_AT_ONCE = 2


@dataclass(frozen=True)
class VendoredWheel:
    """A wheel made on this machine.

    Parameters
    ----------
    wheel
        The wheel in the store.
    content
        The digest of its sources, which differs from the expected one if the build used new untracked files.
    """

    wheel: StoredFile
    content: str


def vendor(
    vendored: Sequence[VendoredPackage],
    *,
    python: Interpreter,
    target: Target,
    store: Store,
    indexes: BuildIndexes,
    progress: Progress,
    no_isolation: Sequence[str] = (),
    no_build: bool = False,
) -> tuple[VendoredWheel, ...]:
    """Return the wheel of each of *vendored*, in their order, from the store, or built or repacked.

    Packages that match *no_isolation*, names and patterns, are built with the distributions of *python*.
    With *no_build* no build back-end runs: only wheels in the store and installed files are used.

    Raises
    ------
    WheelError
        A wheel can't be made, or doesn't fit the target.
    """
    patterns = [canonical_pattern(entry) for entry in no_isolation]
    not_isolated = frozenset(package.name for package in vendored if matches(patterns, package.name))
    installed = installed_requirements(python) if not_isolated and not no_build else None
    # uv is found before threads start: it uses sysconfig, which two threads can't load at once.
    maker = _Maker(python, target, store, indexes, progress, find_uv_bin(), not_isolated, installed)
    known = [maker.recall(package) for package in vendored]
    missing = [package for package, wheel in zip(vendored, known, strict=True) if wheel is None]
    if not missing:
        return tuple(wheel for wheel in known if wheel is not None)
    if no_build and (refused := [package for package in missing if maker.needs_build(package)]):
        raise refuse_builds(refused)
    with progress.task("Making wheels", total=len(missing), unit="packages") as task:
        made = iter(_in_parallel(missing, lambda package: maker.make(package, task)))
    return tuple(wheel if wheel is not None else next(made) for wheel in known)


def _in_parallel(
    packages: Sequence[VendoredPackage], make: Callable[[VendoredPackage], VendoredWheel]
) -> list[VendoredWheel]:
    """Return wheels, made two at a time; the first failure cancels those that haven't started."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="wheel") as pool:
        futures: list[Future[VendoredWheel]] = [pool.submit(make, package) for package in packages]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Maker:
    python: Interpreter
    target: Target
    store: Store
    indexes: BuildIndexes
    progress: Progress
    uv: str
    not_isolated: frozenset[str]  # packages that are built with the installed distributions
    installed: InstalledRequirements | None

    def key(self, package: VendoredPackage, content: str = "") -> str:
        """Return the key of a wheel in the store, over everything that it depends on."""
        parts = (
            package.name,
            package.version,
            content or package.content,
            self.python.minor,
            self.target.platform,
        )
        identity = "\0".join((str(_FORMAT), *parts, self.python.platform))
        if (installed := self._installed(package)) is not None:
            identity += f"\0no-isolation\0{installed.digest}"
        return "wheel-" + hashlib.sha256(identity.encode()).hexdigest()

    def _installed(self, package: VendoredPackage) -> InstalledRequirements | None:
        """Return the distributions that *package* is built with; ``None`` for an isolated build."""
        return self.installed if package.name in self.not_isolated else None

    def recall(self, package: VendoredPackage) -> VendoredWheel | None:
        """Return the wheel of *package* from the store; ``None`` if there is none.

        Raises
        ------
        WheelError
            The wheel requires a newer glibc than the image has.
        """
        stored = self.store.recall(self.key(package), progress=self.progress)
        if stored is not None and not is_pure(stored.filename):
            check_wheel(stored.path, filename=stored.filename, target=self.target)
        return None if stored is None else VendoredWheel(stored, package.content)

    def needs_build(self, package: VendoredPackage) -> bool:
        """Return whether only a build back-end can make the wheel of *package*."""
        installed = package.planned.installed
        if package.planned.source.kind == "directory" and not has_only_installed_files(package.planned):
            return True
        return installed is None or not is_portable(installed, python=self.python, target=self.target)

    def make(self, package: VendoredPackage, task: Task) -> VendoredWheel:
        """Return the wheel of *package*, in the store."""
        key = self.key(package)
        # The lock makes two processes share one build.
        with self.store.lock(key, progress=self.progress):
            made = self.recall(package)
            if made is None:
                task.describe(f"{package.name} {package.version}")
                with build_folder() as folder:
                    wheel, content = self._make_in(package, folder)
                    self._check(package, wheel)
                    made = VendoredWheel(self.store.add_file(wheel), content)
                self.store.remember(self.key(package, content), made.wheel)
        task.advance(1)
        return made

    def _make_in(self, package: VendoredPackage, folder: Path) -> tuple[Path, str]:
        """Return the wheel, and the digest of its sources."""
        if package.planned.source.kind == "directory" and not has_only_installed_files(package.planned):
            return self._build_tree(package, folder)
        return self._make_from_installed(package, folder), package.content

    def _make_from_installed(self, package: VendoredPackage, folder: Path) -> Path:
        installed = package.planned.installed
        if installed is not None and is_portable(installed, python=self.python, target=self.target):
            repacked = repack(installed, python=self.python, into=folder)
            for path in (*repacked.edited, *repacked.missing):
                what = "was edited" if path in repacked.edited else "was removed"
                self.progress.line(
                    f"{package.name} {package.version}: {path} {what} since it was installed; "
                    "the image gets it as it is here."
                )
            for path in repacked.refused:
                self.progress.line(
                    f"warning: {package.name} {package.version}: RECORD lists {path!r}, which leads out of "
                    "the environment or isn't a file; the image doesn't get it."
                )
            return repacked.path
        from imagesync.wheels.sources.origin import fetch_source

        return self._build(package, fetch_source(package.planned, folder / "source"), folder)

    def _build_tree(self, package: VendoredPackage, folder: Path) -> tuple[Path, str]:
        tree, cache = source_folder(package.planned), self.store.root / TREES
        # Before the copy: an edit after this point changes the digest, and so leads to another wheel.
        digest = tree_digest(tree, cache=cache)
        copy = copy_for_build(tree, folder / "source")
        try:
            wheel = self._build(package, copy.folder, folder)
        finally:
            for path in copy.untracked.changed():
                self.progress.line(
                    f"warning: {path} was changed while {package.name} {package.version} was built. "
                    "It is too large to be copied for a build, so one that writes into it writes into yours."
                )
        content = record_untracked_inputs(
            tree, wheel, copy.untracked.sizes, digest=digest, listed=copy.files, cache=cache
        )
        return wheel, content

    def _build(self, package: VendoredPackage, source: Path, folder: Path) -> Path:
        # With all configured indexes, so that the cache also works while one doesn't answer.
        configured, environ = self.indexes.facts()
        folder = self.store.root / BUILD_PINS
        pins = BuildPins(folder, python=self.python, indexes=configured, environ=environ)
        request = BuildRequest(
            name=package.name,
            version=package.version,
            source=source,
            python=self.python,
            indexes=self.indexes,
            uv=self.uv,
            installed=self._installed(package),
            pins=pins,
            log=self.store.root / LOGS / f"{package.name}-{package.content.removeprefix('sha256:')[:12]}.log",
        )
        return build_wheel(request, output=folder / "wheel")

    def _check(self, package: VendoredPackage, wheel: Path) -> None:
        """Raise an error if *wheel* isn't of *package* or doesn't fit; report secrets and another version."""
        suspects = check_wheel(wheel, filename=wheel.name, target=self.target)
        warn_of_secrets(wheel.name, suspects, self.progress)
        version = check_identity(wheel.name, name=package.name)
        if not _same_version(package.version, version):
            self.progress.line(
                f"{package.name}: installed as {package.version}, and its sources give {version}; "
                "the image gets the latter. Installing it again brings both together."
            )


def _same_version(installed: str, built: Version) -> bool:
    try:
        return Version(installed) == built
    except InvalidVersion:
        return installed == str(built)
