"""Artifacts: everything that a lock names, fetched or made on this machine, with its bytecode."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import ArtifactGone, FetchError
from imagesync.lock.lock import Lock, LockedPackage, VendoredPackage
from imagesync.lock.resolver import ResolutionRequest
from imagesync.store.fetch import Download, fetch, fetch_available
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.conda.installer import CondaInstaller
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.conda.gone import RecordContent
    from imagesync.lock.conda.solver import CondaSolver
    from imagesync.lock.hold import InstalledContent
    from imagesync.lock.lock import Target
    from imagesync.lock.resolver import Resolver
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
    from imagesync.render.make import Wheels
    from imagesync.scan.environment import Interpreter, Package
    from imagesync.settings import Settings
    from imagesync.store.access import Access
    from imagesync.store.store import Store
    from imagesync.ui.progress import Progress
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.container import Container, ContainerBuilder


@dataclass(frozen=True)
class Artifacts:
    """What an image is made of, all of it in the store.

    Parameters
    ----------
    packages, vendored
        The wheels from indexes, and those made on this machine.
    conda
        The archives from channels, in the order of ``lock.conda``.
    installer
        A uv executable for the image's platform; ``None`` where no package is from an index.
    lock
        The lock, with the versions that the wheels made on this machine have, and what they were made from.
    """

    lock: Lock
    packages: Wheels
    vendored: Wheels
    installer: Path | None
    conda: tuple[StoredFile, ...] = ()


@dataclass(frozen=True)
class Workshop:
    """Where artifacts come from and go to.

    Parameters
    ----------
    python
        The scanned interpreter, which wheels and bytecode are made with.
    indexes
        Where build requirements come from.
    access
        How to read the user's indexes.
    container
        Where sdists are built that this machine can't build for the target; ``None`` for nowhere.
    no_isolation
        Names and patterns of packages that are built in the scanned environment itself.
    channels
        The user's conda channels; ``None`` where nothing is from one.
    solver
        What solves for conda packages; ``None`` for the channels themselves.
    provided
        The installed distributions that conda packages provide.
    """

    python: Interpreter
    store: Store
    resolver: Resolver
    indexes: BuildIndexes
    access: Access
    progress: Progress
    container: Container | None = None
    no_isolation: tuple[str, ...] = ()
    channels: Channels | None = None
    solver: CondaSolver | None = None
    provided: tuple[Package, ...] = ()

    def answering_resolver(self) -> Resolver:
        """Return the resolver of the indexes that weren't found silent."""
        silent = self.indexes.silent
        return self.resolver.without(silent) if silent else self.resolver

    def installed_content(self, target: Target) -> InstalledContent:
        """Return what gives the digest of a package's installed files, if *target* can use them."""

        def content(package: PlannedPackage) -> str:
            from imagesync.wheels.repack import installed_content

            trees = self.store.root / "trees"
            return installed_content(package.installed, python=self.python, target=target, cache=trees)

        return content

    def record_content(self, target: Target) -> RecordContent:
        """Return what gives the distributions of a conda package, if their files can stand in for it."""

        def content(package: PlannedConda) -> Sequence[tuple[PlannedPackage, str]]:
            from imagesync.wheels.conda_files import record_content

            prefix, installed = Path(self.python.prefix), self.installed_content(target)
            return record_content(package, self.provided, prefix=prefix, installed_content=installed)

        return content

    def lock(self, plan: Plan, *, target: Target, contents: Mapping[NormalizedName, str]) -> Lock:
        """Return the exact artifact of each package of *plan*; see :func:`~imagesync.lock.make.make_lock`."""
        from imagesync.lock.make import make_lock

        try:
            return make_lock(
                plan,
                target=target,
                contents=contents,
                resolver=self.resolver,
                progress=self.progress,
                installed_content=self.installed_content(target),
                silent=self.indexes.leave_out,
                solver=self.solver or self.channels,
                record_content=self.record_content(target),
            )
        finally:
            if self.channels is not None:
                self.channels.close()


def open_workshop(
    python: Interpreter,
    *,
    resolver: str,
    store: Store,
    environ: Mapping[str, str],
    progress: Progress,
    channels: Sequence[str] = (),
    given_channels: Sequence[str] = (),
    cuda: str = "",
    provided: Sequence[Package] = (),
) -> Workshop:
    """Return the workshop of an environment, with the user's configuration of pip.

    Parameters
    ----------
    resolver
        ``uv`` or ``pip-tools``.
    channels
        URLs of conda channels, without credentials; none for an environment without conda.
    given_channels
        Channels as the settings name them, with credentials where they have some.
    cuda
        The version of CUDA that the cluster's machines have a driver for; empty for none.
    provided
        The installed distributions that conda packages provide.
    """
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.index_environment import make_access
    from imagesync.lock.pip_tools import PipToolsResolver
    from imagesync.lock.remembered import RememberingResolver
    from imagesync.lock.uv import UvResolver
    from imagesync.scan.pip_configuration import read_pip_configuration
    from imagesync.wheels.build_indexes import BuildIndexes

    configured = read_pip_configuration(prefix=Path(python.prefix), environ=environ)
    access = make_access(configured, environ)
    chosen = UvResolver if resolver == "uv" else PipToolsResolver
    return Workshop(
        python,
        store,
        RememberingResolver(chosen(configured, environ=environ, access=access), store.root, environ),
        BuildIndexes(configured, access=access, environ=environ, progress=progress),
        access,
        progress,
        channels=Channels(
            channels,
            given=given_channels,
            prefix=Path(python.prefix),
            environ=environ,
            store=store,
            progress=progress,
            cuda=cuda,
        ),
        provided=tuple(provided),
    )


def gather(lock: Lock, workshop: Workshop) -> Artifacts:
    """Return everything that *lock* names, from the store, from an index, or made now.

    Raises
    ------
    FetchError, StoreError, WheelError
        Something can't be had, kept or made.
    """
    from imagesync.render.make import Wheels

    conda: tuple[StoredFile, ...] = ()
    if lock.conda and workshop.channels is not None:
        from imagesync.lock.conda.fetching import fetch_archives

        lock, conda = fetch_archives(
            lock, channels=workshop.channels, record_content=workshop.record_content(lock.target)
        )
    lock, fetched = _fetch_all(lock, workshop)
    lock, packages = _build(lock, fetched, workshop)
    lock, vendored = make_wheels(lock, workshop)
    return Artifacts(
        lock=lock,
        packages=Wheels(packages, _compile(packages, lock, workshop)),
        vendored=Wheels(vendored, _compile(vendored, lock, workshop)),
        installer=_installer(lock, workshop) if lock.packages else None,
        conda=conda,
    )


def make_wheels(lock: Lock, workshop: Workshop) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the wheels of the vendored packages of *lock*, in their order, and the lock as it is then.

    A package of which a lock file brought the wheel isn't made: its wheel is taken as it is.

    Raises
    ------
    FetchError, WheelError
        A wheel can't be had, made, or used on the target.
    """
    from imagesync.lock.as_built import as_built
    from imagesync.wheels.vendor import vendor

    given = [package for package in lock.vendored if package.is_given]
    made = vendor(
        [package for package in lock.vendored if not package.is_given],
        python=workshop.python,
        target=lock.target,
        store=workshop.store,
        indexes=workshop.indexes,
        progress=workshop.progress,
        no_isolation=workshop.no_isolation,
    )
    there = iter(_given_wheels(given, workshop, lock.target) if given else ())
    others = iter((each.wheel, each.content) for each in made)
    wheels = [next(there) if package.is_given else next(others) for package in lock.vendored]
    filenames = [wheel.filename for wheel, _ in wheels]
    return as_built(lock, filenames, [content for _, content in wheels]), tuple(wheel for wheel, _ in wheels)


def _given_wheels(
    packages: Sequence[VendoredPackage], workshop: Workshop, target: Target
) -> Iterator[tuple[StoredFile, str]]:
    from imagesync.wheels.fit import check_wheel

    sources = [package.planned.source for package in packages]
    downloads = [
        Download(source.url or "", source.hash or "", (source.url or "").rpartition("/")[2])
        for source in sources
    ]
    wheels = fetch(downloads, store=workshop.store, access=workshop.access, progress=workshop.progress)
    for package, wheel in zip(packages, wheels, strict=True):
        check_wheel(wheel.path, filename=wheel.filename, target=target)
        yield wheel, package.content


def _fetch_all(lock: Lock, workshop: Workshop) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return what indexes have of *lock*, and the lock with something else for what they list in vain."""
    from imagesync.lock.gone import replace_gone

    while lock.packages:
        found = fetch_available(
            [_download(package) for package in lock.packages],
            store=workshop.store,
            access=workshop.access,
            progress=workshop.progress,
        )
        pairs = list(zip(lock.packages, found, strict=True))
        gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not gone:
            return lock, tuple(file for file in found if isinstance(file, StoredFile))
        lock = replace_gone(
            lock,
            gone,
            resolver=workshop.answering_resolver(),
            installed_content=workshop.installed_content(lock.target),
        )
    return lock, ()


def fetch_locked(packages: Sequence[LockedPackage], workshop: Workshop) -> tuple[StoredFile, ...]:
    """Return the artifacts of *packages*, in their order.

    Raises
    ------
    FetchError
        One can't be had, or isn't what its digest says.
    """
    return fetch(
        [_download(package) for package in packages],
        store=workshop.store,
        access=workshop.access,
        progress=workshop.progress,
    )


def _download(package: LockedPackage) -> Download:
    artifact = package.artifact
    return Download(artifact.url, artifact.digest, artifact.filename, artifact.size)


def _build(
    lock: Lock, fetched: Sequence[StoredFile], workshop: Workshop
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the wheels of the packages from indexes, sdists built; and the lock without those that can't be.

    What can't be built is made from its installed files, where the target can use them.
    """
    from imagesync.wheels.sdist import build_sdists
    from imagesync.wheels.standins import stand_in

    pairs = list(zip(lock.packages, fetched, strict=True))
    sdists = [(package, file) for package, file in pairs if not package.artifact.is_wheel]
    built = build_sdists(
        sdists,
        target=lock.target,
        python=workshop.python,
        store=workshop.store,
        indexes=workshop.indexes,
        progress=workshop.progress,
        containers=_containers(lock, workshop) if sdists else None,
    )
    lock, wheels = stand_in(
        lock,
        {package.name: wheel for (package, _), wheel in zip(sdists, built, strict=True)},
        installed_content=workshop.installed_content(lock.target),
        logs=workshop.store.root / "logs",
        progress=workshop.progress,
    )
    files = {**{package.name: file for package, file in pairs}, **wheels}
    return lock, tuple(files[package.name] for package in lock.packages)


def _containers(lock: Lock, workshop: Workshop) -> ContainerBuilder | None:
    from imagesync.wheels.container import ContainerBuilder

    if workshop.container is None:
        return None
    return ContainerBuilder(
        workshop.container,
        lock.target,
        store=workshop.store,
        resolver=workshop.resolver,
        access=workshop.access,
        indexes=workshop.indexes,
        uv=lambda: _installer(lock, workshop),
        progress=workshop.progress,
    )


def _compile(wheels: tuple[StoredFile, ...], lock: Lock, workshop: Workshop) -> tuple[StoredFile, ...]:
    from imagesync.render.layout import site_packages
    from imagesync.wheels.bytecode import compile_bytecode

    if not wheels:
        return ()
    return compile_bytecode(
        wheels,
        python=workshop.python,
        target=lock.target,
        site_packages=site_packages(lock.target.minor),
        store=workshop.store,
        progress=workshop.progress,
    )


def conda_installer(lock: Lock, settings: Settings, workshop: Workshop) -> CondaInstaller:
    """Return what a build installs the conda packages of *lock* with.

    Raises
    ------
    UsageError
        The micromamba that the settings name can't be used.
    """
    from imagesync.conda.installer import choose_installer

    return choose_installer(
        settings.conda_installer,
        micromamba=settings.micromamba,
        channels=workshop.channels,
        store=workshop.store,
        wheel=lambda requirement: _tool(requirement, lock, workshop),
    )


def _tool(requirement: str, lock: Lock, workshop: Workshop) -> StoredFile:
    """Return the wheel of a tool for the image's platform, from the user's index."""
    name = requirement.partition("==")[0]
    resolver = workshop.answering_resolver()
    found = resolver.resolve(ResolutionRequest(target=lock.target, requirements=(requirement,)))
    (wheel,) = fetch_locked([package for package in found if package.name == name], workshop)
    return wheel


def _installer(lock: Lock, workshop: Workshop) -> Path:
    """Return uv for the image's platform: our own where it runs there, else the one in uv's wheel."""
    import uv

    if sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc":
        return Path(uv.find_uv_bin())
    from importlib.metadata import version

    key = f"installer {lock.target.platform} uv {version('uv')}"
    executable = workshop.store.recall(key, progress=workshop.progress)
    if executable is None:
        request = ResolutionRequest(target=lock.target, requirements=(f"uv=={version('uv')}",))
        (locked,) = workshop.resolver.resolve(request)
        (wheel,) = fetch_locked([locked], workshop)
        executable = extract_installer(wheel, workshop.store)
        workshop.store.remember(key, executable)
    return executable.path


def extract_installer(wheel: StoredFile, store: Store) -> StoredFile:
    """Return the executable that uv's wheel holds among its scripts.

    Raises
    ------
    FetchError
        The wheel holds none.
    """
    import zipfile

    with zipfile.ZipFile(wheel.path) as archive:
        for name in archive.namelist():
            if name.endswith(".data/scripts/uv"):
                with archive.open(name) as file:
                    return store.add(iter(lambda: file.read(1 << 20), b""), filename="uv")
    raise FetchError(
        f"{wheel.filename} holds no uv executable.",
        hint="Install another version of uv beside imagesync: pip install --upgrade uv",
    )
