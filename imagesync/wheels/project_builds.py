"""Builds of the wheels of local packages: isolated, with what is installed here, or in a container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagesync.core.progress import Severity
from imagesync.errors import EngineNotFound, ForeignPlatform, ModuleMissing, WheelError
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.plan.checks.sources import has_extension_modules
from imagesync.scan.environment import Interpreter
from imagesync.store.layout import BUILD_PINS, LOGS
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build_environments import BuildRequest
from imagesync.wheels.build_requirements import (
    BuildPins,
    InstalledRequirements,
    can_find_module,
    installed_requirements,
)
from imagesync.wheels.build_wheel import build_wheel
from imagesync.wheels.kept_environment import kept_environment
from imagesync.wheels.sdists.sdist import build_sdists

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.locked_packages import LockedPackage
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.sdists.container import ContainerBuilder

Way = Literal["isolated", "installed", "container"]
"""How a wheel is built: in an environment of its build requirements, in the scanned one, in a container."""


@dataclass(frozen=True)
class ProjectBuilds:
    """Builds the wheels of local packages.

    Parameters
    ----------
    python
        The scanned interpreter.
    target
        The platform and interpreter of the image.
    store
        Keeps logs and versions of build requirements.
    indexes
        The indexes of build requirements.
    progress
        Gets a line for each build that isn't the usual one.
    uv
        The executable that creates environments.
    not_isolated
        Packages that are built with the installed distributions.
    retries
        Whether an isolated build that lacks an installed module is tried again without isolation.
    containers
        Builds what this machine can't build for *target*; ``None`` if it can build all, or there are none.
    """

    python: Interpreter
    target: Target
    store: Store
    indexes: BuildIndexes
    progress: Progress
    uv: str
    not_isolated: frozenset[str]
    retries: bool
    containers: ContainerBuilder | None = None

    def way(self, package: VendoredPackage) -> Way:
        """Return how *package* is built at first."""
        if self.containers is not None and has_extension_modules(package.planned.installed):
            return "container"
        return "installed" if package.name in self.not_isolated else "isolated"

    def ways(self, package: VendoredPackage) -> Iterator[Way]:
        """Yield all ways in which *package* may have been built, the first one first."""
        yield self.way(package)
        if self._may_retry(package):
            yield "installed"
        if self.containers is not None and self.way(package) != "container":
            yield "container"

    def identity(self, way: Way) -> str:
        """Return the part of a wheel's key that depends on the way it was built."""
        if way == "installed":
            return f"\0no-isolation\0{self._installed.digest}"
        if way == "container" and self.containers is not None:
            return f"\0container\0{self.containers.container.identity}"
        return ""

    def build(
        self, way: Way, package: VendoredPackage, source: Path, folder: Path, commit: str
    ) -> tuple[Path, Way]:
        """Return the wheel of the project in *source*, made in *folder*, and how it was built in the end.

        Raises
        ------
        EngineError
            A container can't be started.
        WheelError
            The project can't be built.
        """
        if way == "container":
            return self._build_in_container(package, source, folder / "wheel", commit), way
        try:
            return self._build_here(way, package, source, folder / "build", commit), way
        except ModuleMissing as error:
            if way != "isolated" or not can_find_module(self.python, error.module):
                raise
            if not self._may_retry(package):
                raise _with_isolation_hint(package, error) from error
            self.progress.line(
                f"{package.name} {package.version}: its isolated build lacks the module {error.module}, "
                "which is installed here; building without isolation (no-isolation = auto)"
            )
        return self._build_here("installed", package, source, folder / "retry", commit), "installed"

    @cached_property
    def _installed(self) -> InstalledRequirements:
        """Return the distributions of the scanned interpreter."""
        return installed_requirements(self.python)

    def _may_retry(self, package: VendoredPackage) -> bool:
        """Return True if *package* is built again without isolation if an installed module is missing."""
        is_own = package.planned.source.kind == "directory"
        return self.retries and is_own and self.way(package) == "isolated" and bool(self.python.executable)

    def _build_here(
        self, way: Way, package: VendoredPackage, source: Path, folder: Path, commit: str
    ) -> Path:
        # With all configured indexes, so that the cache also works while one doesn't answer.
        configured, environ = self.indexes.facts()
        pins = BuildPins(
            self.store.root / BUILD_PINS, python=self.python, indexes=configured, environ=environ
        )
        request = BuildRequest(
            name=package.name,
            version=package.version,
            source=source,
            python=self.python,
            indexes=self.indexes,
            uv=self.uv,
            installed=self._installed if way == "installed" else None,
            commit=commit,
            pins=pins,
            kept=kept_environment(folder.parent, package.name),
            log=self._log(package),
        )
        return build_wheel(request, output=folder / "wheel", progress=self.progress)

    def _build_in_container(self, package: VendoredPackage, source: Path, output: Path, commit: str) -> Path:
        assert self.containers is not None  # noqa: S101  what makes it the way
        label, platform = f"{package.name} {package.version}", self.target.platform
        self.progress.line(f"{label} is built for {platform} in a container")
        if package.name in self.not_isolated:
            self.progress.line(
                f"{label}: the container doesn't have what is installed here, so no-isolation doesn't apply",
                Severity.WARNING,
            )
        try:
            return self.containers.build(
                package.name,
                package.version,
                source,
                log=self._log(package),
                output=output,
                build_requirement=self._build_requirement,
                commit=commit,
            )
        except (EngineNotFound, ForeignPlatform) as error:
            raise WheelError(
                f"{label} has extension modules, and its wheel for {platform} can only be built in a "
                f"container. {error.message}",
                hint=error.hint,
            ) from error

    def _build_requirement(self, package: LockedPackage, sdist: StoredFile) -> StoredFile:
        (built,) = build_sdists(
            [(package, sdist)],
            target=self.target,
            python=self.python,
            store=self.store,
            indexes=self.indexes,
            progress=self.progress,
            containers=self.containers,
        )
        if isinstance(built, WheelError):
            raise built
        return built

    def _log(self, package: VendoredPackage) -> Path:
        return self.store.root / LOGS / f"{package.name}-{package.content.removeprefix('sha256:')[:12]}.log"


def _with_isolation_hint(package: VendoredPackage, error: ModuleMissing) -> WheelError:
    return WheelError(
        error.message,
        hint=f"{error.module} is installed here, and the build doesn't declare it: build {package.name} with "
        f'what is installed here (--no-isolation {package.name}; no-isolation = ["{package.name}"] or '
        f'no-isolation = "auto" in the settings), or add {error.module} to `build-system.requires` in its '
        f"pyproject.toml.\n{error.hint}",
    )
