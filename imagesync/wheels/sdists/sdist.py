"""Building wheels of sdists, here or in a container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from imagesync.core.worker_pool import WorkerPool
from imagesync.errors import EngineNotFound, ForeignPlatform, WheelError
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import LockedPackage
from imagesync.plan.checks.sources import has_extension_modules
from imagesync.scan.environment import Interpreter
from imagesync.store.layout import LOGS
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build_environments import BuildRequest
from imagesync.wheels.build_wheel import build_folder, build_wheel, refuse_builds
from imagesync.wheels.installed_fallback import log_path
from imagesync.wheels.sources.origin import unpack_sdist
from imagesync.wheels.wheel_checks import (
    check_identity,
    check_wheel,
    host_is_target,
    is_pure,
)

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.sdists.container import ContainerBuilder

_FORMAT = 3  # raised when the same sdist would give another wheel
_AT_ONCE = 2


def build_sdists(
    sdists: Sequence[tuple[LockedPackage, StoredFile]],
    *,
    target: Target,
    python: Interpreter,
    store: Store,
    indexes: BuildIndexes,
    progress: Progress,
    containers: ContainerBuilder | None = None,
    no_build: bool = False,
) -> tuple[StoredFile | WheelError, ...]:
    """Return the wheel of each of *sdists*, in their order, or the error of its build.

    On the target's platform they are built with the scanned interpreter, and on any those whose installed
    wheel is pure; else in containers of the base image. Two are built at a time, and only if the store has no
    wheel yet. Without *containers* all are built here.
    With *no_build* nothing is built: only wheels that the store has are returned.

    Raises
    ------
    EngineError, FetchError, LockError, StoreError
        A failure that isn't about a single sdist.
    """
    if not sdists:
        return ()
    builder = _Builder(target, python, store, indexes, progress, containers, uv=find_uv_bin())
    known = [builder.recall(sdist) for _, sdist in sdists]
    missing = [pair for pair, wheel in zip(sdists, known, strict=True) if wheel is None]
    if not missing:
        return tuple(wheel for wheel in known if wheel is not None)
    if no_build:
        pairs = zip(sdists, known, strict=True)
        return tuple(
            wheel if wheel is not None else refuse_builds([package]) for (package, _), wheel in pairs
        )
    with (
        progress.task("Building wheels from sdists", total=len(missing), unit="packages") as task,
        WorkerPool(max_workers=_AT_ONCE, thread_name_prefix="sdist") as pool,
    ):
        built = iter(list(pool.map(lambda pair: builder.attempt(pair[0], pair[1], task), missing)))
    return tuple(wheel if wheel is not None else next(built) for wheel in known)


@dataclass(frozen=True)
class _Builder:
    target: Target
    python: Interpreter
    store: Store
    indexes: BuildIndexes
    progress: Progress
    containers: ContainerBuilder | None
    uv: str

    def key(self, sdist: StoredFile, *, in_container: bool, is_for_all: bool = False) -> str:
        """Return the key of a wheel in the store: the sdist, and where it is built.

        A pure wheel that is built here is for all platforms.
        """
        platform = "any" if is_for_all else self.target.platform.name
        if in_container and self.containers is not None:
            place = f"container {self.containers.container.identity}"
        else:
            place = f"{self.python.platform} {self.python.libc}"
        return f"sdist {_FORMAT} {sdist.digest} {self.python.minor} {platform} {place}"

    def recall(self, sdist: StoredFile) -> StoredFile | None:
        """Return the wheel of *sdist* from the store, built here or in a container, or ``None``."""
        keys = (
            self.key(sdist, in_container=False, is_for_all=True),
            self.key(sdist, in_container=False),
            self.key(sdist, in_container=True),
        )
        for key in keys:
            stored = self.store.recall(key, progress=self.progress)
            if stored is not None and self._fits(stored.path, stored.filename):
                return stored
        return None

    def attempt(self, package: LockedPackage, sdist: StoredFile, task: Task) -> StoredFile | WheelError:
        """Return the wheel of *sdist*, or the error of its build."""
        task.describe(f"{package.name} {package.version}")
        try:
            return self.make(package, sdist)
        except WheelError as error:
            return error
        finally:
            task.advance(1)

    def make(self, package: LockedPackage, sdist: StoredFile, within: tuple[str, ...] = ()) -> StoredFile:
        """Return the wheel of *sdist*, in the store.

        *within* are the packages whose builds require this one.
        """
        if package.name in within:
            raise WheelError(
                f"{package.name} {package.version} needs itself to be built: {' -> '.join(within)}.",
                hint="Choose a version that has wheels for Linux.",
            )
        with self.store.lock(f"sdist-{sdist.digest.removeprefix('sha256:')}", progress=self.progress):
            if (stored := self.recall(sdist)) is not None:
                return stored
            with build_folder(package.name) as folder:
                wheel, in_container = self._build(package, sdist, folder, within)
                if not (in_container or is_pure(wheel.name) or host_is_target(self.python, self.target)):
                    raise _foreign(package, self.python, self.target)
                check_wheel(wheel, filename=wheel.name, target=self.target)
                check_identity(wheel.name, name=package.name)
                stored = self.store.add_file(wheel)
                is_for_all = not in_container and is_pure(wheel.name)
                key = self.key(sdist, in_container=in_container, is_for_all=is_for_all)
                self.store.remember(key, stored)
        return stored

    def _build(
        self, package: LockedPackage, sdist: StoredFile, folder: Path, within: tuple[str, ...]
    ) -> tuple[Path, bool]:
        """Return the wheel, and True if it was built in a container."""
        label = f"{package.name} {package.version}"
        is_target = host_is_target(self.python, self.target)
        if self.containers is None or is_target or _was_pure(package):
            wheel = self._build_here(package, sdist, folder)
            # It may have extension modules after all, or one may require the glibc of this machine, which the
            # base image may not have.
            if self.containers is None or self._fits(wheel, wheel.name):
                return wheel, False
        try:
            wheel = self.containers.build(
                package.name,
                package.version,
                unpack_sdist(sdist.path, folder / "container", name=label),
                log=log_path(package, self.store.root / LOGS),
                output=folder / "output",
                build_requirement=lambda needed, file: self.make(needed, file, (*within, package.name)),
            )
        except (EngineNotFound, ForeignPlatform) as error:
            raise WheelError(
                f"{label} has no wheel for {self.target.platform}, and one can only be built in a container. "
                + error.message,
                hint=error.hint,
            ) from error
        return wheel, True

    def _build_here(self, package: LockedPackage, sdist: StoredFile, folder: Path) -> Path:
        request = BuildRequest(
            name=package.name,
            version=package.version,
            source=unpack_sdist(sdist.path, folder / "here", name=f"{package.name} {package.version}"),
            python=self.python,
            indexes=self.indexes,
            uv=self.uv,
            log=log_path(package, self.store.root / LOGS),
        )
        return build_wheel(request, output=folder / "wheel", progress=self.progress)

    def _fits(self, wheel: Path, filename: str) -> bool:
        try:
            check_wheel(wheel, filename=filename, target=self.target)
        except WheelError:
            return False
        return True


def _was_pure(package: LockedPackage) -> bool:
    """Return True if the wheel of *package* that is installed here is for all platforms."""
    installed = None if package.planned is None else package.planned.installed
    return installed is not None and installed.purelib is True and not has_extension_modules(installed)


def _foreign(package: LockedPackage, python: Interpreter, target: Target) -> WheelError:
    return WheelError(
        f"{package.name} {package.version} has no wheel for {target.platform}, and its sdist has "
        f"extension modules, which can't be built for it on {python.platform}.",
        hint="Choose a version that has wheels for Linux, or set its level to `ignore`.",
    )
