"""The workshop: where artifacts come from and go to, by the user's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.store.layout import ANSWERS, TREES

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.core.progress import Progress
    from imagesync.indexes.pypi.access import Access
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.conda.replace_missing import RecordContent
    from imagesync.lock.conda.solver import CondaSolver
    from imagesync.lock.lock import Lock, LockedPackage, Target
    from imagesync.lock.resolve_installed import InstalledContent
    from imagesync.lock.resolvers.resolver import Resolver
    from imagesync.plan.dependencies import ExternalPackage
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
    from imagesync.scan.environment import Interpreter, Package
    from imagesync.store.download import Download
    from imagesync.store.store import Store, StoredFile
    from imagesync.wheels.build_indexes import BuildIndexes
    from imagesync.wheels.sdists.container import Container


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
    allow_inconsistent
        Whether an added package may be another than what installed ones require.
    locked
        Whether a lock file says what is made, so that nothing may take the place of what has gone.
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
    allow_inconsistent: bool = False
    locked: bool = False

    def answering_resolver(self) -> Resolver:
        """Return the resolver of the indexes that weren't found silent."""
        silent = self.indexes.silent
        return self.resolver.without(silent) if silent else self.resolver

    def installed_content(self, target: Target) -> InstalledContent:
        """Return what gives the digest of a package's installed files, if *target* can use them."""

        def content(package: PlannedPackage) -> str:
            from imagesync.wheels.repack import installed_content

            trees = self.store.root / TREES
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
                source_digests=contents,
                resolver=self.resolver,
                progress=self.progress,
                installed_content=self.installed_content(target),
                silent=self.indexes.leave_out,
                solver=self.solver or self.channels,
                record_content=self.record_content(target),
                allow_inconsistent=self.allow_inconsistent,
            )
        finally:
            if self.channels is not None:
                self.channels.close()

    def fetch(self, packages: Sequence[LockedPackage]) -> tuple[StoredFile, ...]:
        """Return the artifacts of *packages*, in their order.

        Raises
        ------
        FetchError
            One can't be had, or isn't what its digest says.
        """
        from imagesync.store.fetch import fetch

        downloads = [download_of(package) for package in packages]
        return fetch(downloads, store=self.store, access=self.access, progress=self.progress)


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
    externally_provided: Sequence[ExternalPackage] = (),
    pins: Sequence[str] = (),
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
    externally_provided
        What conda packages depend on and the image doesn't get from conda.
    pins
        Match specs of conda packages that hold wherever a version has to be chosen.
    """
    from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
    from imagesync.indexes.pypi.uv_environment import make_access
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.resolvers.pip_tools import PipToolsResolver
    from imagesync.lock.resolvers.resolver_cache import CachingResolver
    from imagesync.lock.resolvers.uv import UvResolver
    from imagesync.wheels.build_indexes import BuildIndexes

    configured = read_pip_configuration(prefix=Path(python.prefix), environ=environ)
    access = make_access(configured, environ)
    chosen = UvResolver if resolver == "uv" else PipToolsResolver
    return Workshop(
        python,
        store,
        CachingResolver(chosen(configured, environ=environ, access=access), store.root / ANSWERS, environ),
        BuildIndexes(configured, access=access, environ=environ, progress=progress),
        access,
        progress,
        channels=Channels(
            channels,
            configured=given_channels,
            prefix=Path(python.prefix),
            environ=environ,
            store=store,
            progress=progress,
            cuda=cuda,
            externally_provided=externally_provided,
            pins=pins,
        ),
        provided=tuple(provided),
    )


def download_of(package: LockedPackage) -> Download:
    """Return what to fetch for *package*."""
    from imagesync.store.download import Download

    artifact = package.artifact
    return Download(artifact.url, artifact.digest, artifact.filename, artifact.size)
