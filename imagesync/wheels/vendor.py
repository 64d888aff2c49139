"""Vendoring: making the wheels of packages that come from this machine and not from an index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uv import find_uv_bin

from imagesync.core.names import canonical_pattern, is_same_version, matches
from imagesync.core.progress import Severity
from imagesync.core.worker_pool import WorkerPool
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.plan.checks.sources import has_only_installed_files
from imagesync.scan.environment import Interpreter
from imagesync.scan.modifications.modification import shown
from imagesync.store.layout import TREES
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build_wheel import build_folder, refuse_builds
from imagesync.wheels.project_builds import ProjectBuilds, Way
from imagesync.wheels.repack import is_portable, repack
from imagesync.wheels.sources.build_copy import copy_for_build
from imagesync.wheels.sources.source_digests import record_untracked_inputs, source_folder
from imagesync.wheels.sources.source_tree import build_digest
from imagesync.wheels.wheel_checks import (
    check_identity,
    check_wheel,
    host_is_target,
    is_pure,
    other_files,
)

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.sdists.container import ContainerBuilder

_FORMAT = 3  # raised when the same content would give another wheel
_AT_ONCE = 2
AUTO: Final = "auto"
"""The entry of the setting ``no-isolation`` for source trees that turn out to need it."""


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
    containers: ContainerBuilder | None = None,
) -> tuple[VendoredWheel, ...]:
    """Return the wheel of each of *vendored*, in their order, from the store, or built or repacked.

    Those with extension modules for another platform than this machine's are built in *containers*, if there
    are any, and always isolated.

    Packages that match *no_isolation*, names and patterns, are built with the distributions of *python*. With
    ``auto`` among them so is a source tree whose isolated build lacks a module that is installed.
    With *no_build* no build back-end runs: only wheels in the store and installed files are used.

    Raises
    ------
    EngineError
        A container can't be started.
    WheelError
        A wheel can't be made, or doesn't fit the target.
    """
    patterns = [canonical_pattern(entry) for entry in no_isolation]
    not_isolated = frozenset(package.name for package in vendored if matches(patterns, package.name))
    # uv is found before threads start: it uses sysconfig, which two threads can't load at once.
    builds = ProjectBuilds(
        *(python, target, store, indexes, progress, find_uv_bin()),
        not_isolated=frozenset() if no_build else not_isolated,
        retries=AUTO in no_isolation and not no_build,
        containers=None if host_is_target(python, target) else containers,
    )
    maker = _Maker(python, target, store, progress, builds)
    known = [maker.recall(package) for package in vendored]
    for package, wheel in zip(vendored, known, strict=True):
        if wheel is not None:
            maker.report_other_files(package, wheel.wheel.path)
    missing = [package for package, wheel in zip(vendored, known, strict=True) if wheel is None]
    if not missing:
        return tuple(wheel for wheel in known if wheel is not None)
    if no_build and (refused := [package for package in missing if maker.needs_build(package)]):
        raise refuse_builds(refused)
    with progress.task("Making wheels", total=len(missing), unit="packages") as task:
        made = iter(_in_parallel(missing, lambda package: maker.make(package, task)))
    return tuple(wheel if wheel is not None else next(made) for wheel in known)


def needing_builds(
    vendored: Sequence[VendoredPackage],
    *,
    python: Interpreter,
    target: Target,
    store: Store,
    indexes: BuildIndexes,
    progress: Progress,
) -> tuple[VendoredPackage, ...]:
    """Return those of *vendored* whose wheel the store lacks and only a build back-end can make."""
    builds = ProjectBuilds(
        *(python, target, store, indexes, progress), uv="", not_isolated=frozenset(), retries=False
    )
    maker = _Maker(python, target, store, progress, builds)
    return tuple(each for each in vendored if maker.recall(each) is None and maker.needs_build(each))


def _in_parallel(
    packages: Sequence[VendoredPackage], make: Callable[[VendoredPackage], VendoredWheel]
) -> list[VendoredWheel]:
    """Return wheels, made two at a time; the first failure cancels those that haven't started."""
    with WorkerPool(max_workers=_AT_ONCE, thread_name_prefix="wheel") as pool:
        return list(pool.map(make, packages))


@dataclass(frozen=True)
class _Maker:
    python: Interpreter
    target: Target
    store: Store
    progress: Progress
    builds: ProjectBuilds

    def key(self, package: VendoredPackage, content: str = "", *, way: Way, is_pure: bool = False) -> str:
        """Return the key of a wheel in the store, over everything that it depends on.

        A pure wheel is for every platform.
        """
        platform = "any" if is_pure else self.target.platform.name
        parts = (package.name, package.version, content or package.content, self.python.minor, platform)
        identity = "\0".join((str(_FORMAT), *parts, self.python.platform)) + self.builds.identity(way)
        return "wheel-" + hashlib.sha256(identity.encode()).hexdigest()

    def recall(self, package: VendoredPackage) -> VendoredWheel | None:
        """Return the wheel of *package* from the store; ``None`` if there is none.

        Raises
        ------
        WheelError
            The wheel requires a newer glibc than the image has.
        """
        ways = self.builds.ways(package)
        keys = (self.key(package, way=way, is_pure=pure) for way in ways for pure in (False, True))
        found = (self.store.recall(key, progress=self.progress) for key in keys)
        stored = next(filter(None, found), None)
        if stored is not None and not is_pure(stored.filename):
            check_wheel(stored.path, filename=stored.filename, target=self.target)
        return None if stored is None else VendoredWheel(stored, package.content)

    def needs_build(self, package: VendoredPackage) -> bool:
        """Return True if only a build back-end can make the wheel of *package*."""
        installed = package.planned.installed
        if package.planned.source.kind == "directory" and not has_only_installed_files(package.planned):
            return True
        return installed is None or not is_portable(installed, python=self.python, target=self.target)

    def make(self, package: VendoredPackage, task: Task) -> VendoredWheel:
        """Return the wheel of *package*, in the store."""
        key = self.key(package, way=self.builds.way(package))
        # The lock makes two processes share one build.
        with self.store.lock(key, progress=self.progress):
            made = self.recall(package)
            if made is None:
                task.describe(f"{package.name} {package.version}")
                with build_folder(package.name) as folder:
                    wheel, content, way = self._make_in(package, folder)
                    self._check(package, wheel)
                    self.report_other_files(package, wheel)
                    made = VendoredWheel(self.store.add_file(wheel), content)
                key = self.key(package, content, way=way, is_pure=is_pure(made.wheel.filename))
                self.store.remember(key, made.wheel)
        task.advance(1)
        return made

    def _make_in(self, package: VendoredPackage, folder: Path) -> tuple[Path, str, Way]:
        """Return the wheel, the digest of its sources, and how it was built."""
        way = self.builds.way(package)
        made = self._make_by(way, package, folder)
        # The metadata of an editable package needn't say that it has extension modules.
        if self.builds.containers is None or way == "container" or is_pure(made[0].name):
            return made
        return self._make_by("container", package, folder / "container")

    def _make_by(self, way: Way, package: VendoredPackage, folder: Path) -> tuple[Path, str, Way]:
        if package.planned.source.kind == "directory" and not has_only_installed_files(package.planned):
            return self._build_tree(way, package, folder)
        wheel, way = self._make_from_installed(way, package, folder)
        return wheel, package.content, way

    def _make_from_installed(self, way: Way, package: VendoredPackage, folder: Path) -> tuple[Path, Way]:
        installed = package.planned.installed
        if installed is not None and is_portable(installed, python=self.python, target=self.target):
            modification = package.planned.modification
            repacked = repack(installed, python=self.python, into=folder, modification=modification)
            for path in repacked.refused:
                self.progress.line(
                    f"{package.name} {package.version}: RECORD lists {path!r}, which leads out of "
                    "the environment or isn't a file; the image doesn't get it.",
                    Severity.WARNING,
                )
            return repacked.path, way
        from imagesync.wheels.sources.origin import fetch_source

        source = fetch_source(package.planned, folder / "source")
        return self.builds.build(way, package, source, folder, package.planned.source.commit or "")

    def _build_tree(self, way: Way, package: VendoredPackage, folder: Path) -> tuple[Path, str, Way]:
        tree, cache = source_folder(package.planned), self.store.root / TREES
        # Before the copy: an edit after this point changes the digest, and so leads to another wheel.
        digest = build_digest(tree, cache=cache)
        copy = copy_for_build(tree, folder / "source")
        try:
            wheel, way = self.builds.build(way, package, copy.folder, folder, copy.commit)
        finally:
            for path in copy.untracked.changed():
                self.progress.line(
                    f"{path} was changed while {package.name} {package.version} was built. "
                    "It is too large to be copied for a build, so one that writes into it writes into yours.",
                    Severity.WARNING,
                )
        content = record_untracked_inputs(
            tree, wheel, copy.untracked.sizes, digest=digest, listed=copy.files, cache=cache
        )
        return wheel, content, way

    def report_other_files(self, package: VendoredPackage, wheel: Path) -> None:
        """Report that a wheel from a folder isn't what is installed, which may be older than the folder."""
        source, installed = package.planned.source, package.planned.installed
        if source.kind != "directory" or source.editable or installed is None or not installed.has_record:
            return
        if has_only_installed_files(package.planned) or not (files := other_files(wheel, installed)):
            return
        self.progress.line(
            f"{package.name} {package.version} is built from its folder, and isn't what is installed here: "
            f"{shown(list(files))}. Installing it again brings both together.",
            Severity.DEVIATION,
        )

    def _check(self, package: VendoredPackage, wheel: Path) -> None:
        """Raise an error if *wheel* isn't of *package* or doesn't fit; report another version."""
        check_wheel(wheel, filename=wheel.name, target=self.target)
        version = check_identity(wheel.name, name=package.name)
        if package.version and not is_same_version(package.version, str(version)):
            self.progress.line(
                f"{package.name}: installed as {package.version}, and its sources give {version}; "
                "the image gets the latter. Installing it again brings both together.",
                Severity.DEVIATION,
            )
