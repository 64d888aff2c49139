"""The artifacts of a lock, fetched or made on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from uv import find_uv_bin

from imagesync.errors import ArtifactGone
from imagesync.image.dockerfile import Wheels
from imagesync.image_layout import site_packages
from imagesync.lock.conda.missing_archives import KnownArchive, fetch_archives
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.lock.update_lock import leave_out_unbuilt, replace_missing, update_versions
from imagesync.pipeline.artifact_sources import ArtifactSources, download_of, uv_installer
from imagesync.store.download import Download
from imagesync.store.layout import LOGS
from imagesync.store.parallel_fetch import fetch, fetch_available
from imagesync.store.store import StoredFile
from imagesync.wheels.bytecode import OnCompiled, compile_bytecode, compiled_ahead
from imagesync.wheels.installed_fallback import use_installed_files
from imagesync.wheels.rewrite import installable
from imagesync.wheels.sdists.container import ContainerBuilder
from imagesync.wheels.sdists.sdist import build_sdists
from imagesync.wheels.secret_files import report_secrets
from imagesync.wheels.vendor import needing_builds, vendor
from imagesync.wheels.wheel_checks import check_wheel

if TYPE_CHECKING:
    from imagesync.lock.lock import Target


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of an image, all of them in the store.

    Parameters
    ----------
    packages, vendored
        The wheels from indexes, and those made on this machine.
    conda
        The archives from channels, in the order of ``lock.conda``.
    locked_digests
        The digest in the lock of each wheel that an index has, by its file name; here it may be rewritten.
    lock
        The lock, with the versions that the wheels made on this machine have, and what they were made from.
    """

    lock: Lock
    packages: Wheels
    vendored: Wheels
    conda: tuple[StoredFile, ...] = ()
    locked_digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def wheels(self) -> tuple[StoredFile, ...]:
        """Return all wheels, those from indexes first."""
        return (*self.packages.wheels, *self.vendored.wheels)


def fetch_artifacts(
    lock: Lock,
    sources: ArtifactSources,
    *,
    without: Collection[str] = (),
    known: Mapping[str, KnownArchive] = MappingProxyType({}),
    on_compiled: OnCompiled = lambda *_: None,
) -> Artifacts:
    """Return the artifacts of *lock*: from the store, from an index or a channel, or made now.

    Parameters
    ----------
    lock, sources
        The lock, and where its artifacts come from.
    without
        Names of packages of indexes whose artifacts aren't needed.
    known
        The archives of conda packages that aren't needed, by the names of these.
    on_compiled
        Called with wheels and their bytecode while others arrive, in several threads.

    Raises
    ------
    FetchError, StoreError, WheelError
        An artifact can't be fetched, stored or made.
    """
    conda: tuple[StoredFile, ...] = ()
    if lock.conda:
        lock, conda = fetch_archives(
            lock,
            channels=sources.channels,
            record_distributions=sources.record_distributions(lock.target),
            exactly=sources.is_locked,
            known=known,
        )
    whole = lock
    lock = replace(lock, packages=tuple(package for package in lock.packages if package.name not in without))
    with _compiling_ahead(lock, sources, on_compiled) as compile_wheel:
        lock, fetched = _fetch_all(lock, sources, on_arrival=compile_wheel)
    lock, packages = _build(lock, fetched, sources)
    locked_digests = {
        wheel.filename: package.artifact.digest
        for package, wheel in zip(lock.packages, packages, strict=True)
        if package.artifact.is_wheel
    }
    lock = _rejoined(lock, whole, without)
    lock, vendored = make_wheels(lock, sources)
    return Artifacts(
        lock=lock,
        packages=Wheels(packages, _compile(packages, lock, sources)),
        locked_digests=locked_digests,
        vendored=Wheels(vendored, _compile(vendored, lock, sources)),
        conda=conda,
    )


def _rejoined(lock: Lock, whole: Lock, without: Collection[str]) -> Lock:
    """Return *lock* with the packages of *whole* that it was fetched without, in the order of *whole*."""
    fetched = {package.name: package for package in lock.packages}
    packages = (fetched.get(each.name, each if each.name in without else None) for each in whole.packages)
    return replace(lock, packages=tuple(package for package in packages if package is not None))


def fetch_wheels(lock: Lock, sources: ArtifactSources) -> tuple[StoredFile, ...]:
    """Return the wheels of *lock* alone, fetched or made as by :func:`fetch_artifacts`."""
    lock, fetched = _fetch_all(lock, sources)
    lock, packages = _build(lock, fetched, sources)
    _, vendored = make_wheels(lock, sources)
    return (*packages, *vendored)


def make_wheels(lock: Lock, sources: ArtifactSources) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the lock with the versions of the built wheels, and the wheels of its vendored packages.

    A wheel that came with a lock file is used as it is.

    Raises
    ------
    FetchError, WheelError
        A wheel can't be fetched or built, or doesn't fit the target.
    """
    if sources.leaves_out:
        lock = _leave_out_unbuilt(lock, sources)
    bundled = [package for package in lock.vendored if package.is_bundled]
    built = vendor(
        [package for package in lock.vendored if not package.is_bundled],
        python=sources.python,
        target=lock.target,
        store=sources.context.store,
        indexes=sources.build_indexes,
        progress=sources.context.progress,
        no_isolation=sources.context.settings.no_isolation,
        no_build=sources.no_build,
        containers=_containers(lock, sources),
    )
    bundled_wheels = iter(_bundled_wheels(bundled, sources, lock.target) if bundled else ())
    built_wheels = iter((each.wheel, each.content) for each in built)
    wheels = [next(bundled_wheels if package.is_bundled else built_wheels) for package in lock.vendored]
    filenames = [wheel.filename for wheel, _ in wheels]
    return update_versions(lock, filenames, [content for _, content in wheels]), tuple(
        wheel for wheel, _ in wheels
    )


def _leave_out_unbuilt(lock: Lock, sources: ArtifactSources) -> Lock:
    """Return *lock* without the local packages that need a build back-end; each is reported."""
    unbuilt = needing_builds(
        [package for package in lock.vendored if not package.is_bundled],
        python=sources.python,
        target=lock.target,
        store=sources.context.store,
        indexes=sources.build_indexes,
        progress=sources.context.progress,
    )
    for package in unbuilt:
        sources.context.progress.line(
            f"left out: {package.name} {package.version}: only a build back-end can make its wheel, and with "
            "--prefix none is run for a lock or a context. If you trust its sources, `imagesync build` makes "
            "it, and so does --python with the interpreter; else leave it out (--ignore "
            f"{package.name})."
        )
    return leave_out_unbuilt(lock, unbuilt)


def report_local_secrets(lock: Lock, wheels: Sequence[StoredFile], sources: ArtifactSources) -> None:
    """Warn of what looks like a secret in *wheels* that were made of the user's folders; see ``strict``.

    What third parties publish, in a repository or an archive, isn't the user's secret.

    Parameters
    ----------
    wheels
        In the order of ``lock.vendored``.

    Raises
    ------
    DeviationError
        The setting ``strict`` allows none.
    """
    own = [
        (wheel.filename, wheel.path)
        for package, wheel in zip(lock.vendored, wheels, strict=True)
        if package.planned.source.kind == "directory" or package.planned.source.editable
    ]
    report_secrets(own, sources.context.progress, strict=sources.context.settings.strict)


def _bundled_wheels(
    packages: Sequence[VendoredPackage], sources: ArtifactSources, target: Target
) -> Iterator[tuple[StoredFile, str]]:
    planned = [package.planned.source for package in packages]
    downloads = [
        Download(source.url or "", source.hash or "", (source.url or "").rpartition("/")[2])
        for source in planned
    ]
    wheels = fetch(
        downloads, store=sources.context.store, access=sources.access, progress=sources.context.progress
    )
    for package, wheel in zip(packages, wheels, strict=True):
        check_wheel(wheel.path, filename=wheel.filename, target=target)
        yield wheel, package.content


@contextmanager
def _compiling_ahead(
    lock: Lock, sources: ArtifactSources, on_compiled: OnCompiled
) -> Iterator[Callable[[StoredFile], None]]:
    """Give a function that compiles wheels while others arrive; it does nothing if none has to be fetched."""
    store = sources.context.store
    if all(store.has(package.artifact.digest) for package in lock.packages):
        yield _ignore
        return
    with compiled_ahead(
        python=sources.python,
        target=lock.target,
        site_packages=site_packages(lock.target.minor),
        store=store,
        progress=sources.context.progress,
        on_compiled=on_compiled,
    ) as compile_wheel:
        yield lambda file: compile_wheel(file) if file.filename.endswith(".whl") else None


def _ignore(file: StoredFile) -> None:
    del file


def _fetch_all(
    lock: Lock, sources: ArtifactSources, *, on_arrival: Callable[[StoredFile], None] = _ignore
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the files of *lock* from indexes, and the lock with missing ones replaced.

    *on_arrival* is called with each file as soon as it is there.
    """
    while lock.packages:
        found = fetch_available(
            [download_of(package) for package in lock.packages],
            store=sources.context.store,
            access=sources.access,
            progress=sources.context.progress,
            on_arrival=on_arrival,
        )
        pairs = list(zip(lock.packages, found, strict=True))
        gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not gone:
            return lock, tuple(file for file in found if isinstance(file, StoredFile))
        lock = replace_missing(
            lock,
            gone,
            resolver=sources.responding_resolver(),
            installed_digest=sources.installed_digests(lock.target),
        )
    return lock, ()


def _build(
    lock: Lock, fetched: Sequence[StoredFile], sources: ArtifactSources
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the wheels of the packages from indexes, with sdists built, and the updated lock.

    The wheel of an sdist that can't be built is made from the installed files, if the target can use them.
    """
    pairs = list(zip(lock.packages, fetched, strict=True))
    sdists = [(package, file) for package, file in pairs if not package.artifact.is_wheel]
    built = build_sdists(
        sdists,
        target=lock.target,
        python=sources.python,
        store=sources.context.store,
        indexes=sources.build_indexes,
        progress=sources.context.progress,
        containers=_containers(lock, sources) if sdists else None,
        no_build=sources.no_build,
    )
    lock, wheels = use_installed_files(
        lock,
        {package.name: wheel for (package, _), wheel in zip(sdists, built, strict=True)},
        installed_digest=sources.installed_digests(lock.target),
        logs=sources.context.cache_folder / LOGS,
        progress=sources.context.progress,
        no_build=sources.no_build,
    )
    files = {**{package.name: file for package, file in pairs}, **wheels}
    return lock, installable(
        [files[package.name] for package in lock.packages],
        target=lock.target,
        store=sources.context.store,
        uv=find_uv_bin(),
        progress=sources.context.progress,
    )


def _containers(lock: Lock, sources: ArtifactSources) -> ContainerBuilder | None:
    if sources.container is None:
        return None
    return ContainerBuilder(
        sources.container,
        lock.target,
        store=sources.context.store,
        resolver=sources.resolver,
        access=sources.access,
        indexes=sources.build_indexes,
        uv=lambda: uv_installer(lock, sources),
        progress=sources.context.progress,
    )


def _compile(wheels: tuple[StoredFile, ...], lock: Lock, sources: ArtifactSources) -> tuple[StoredFile, ...]:
    if not wheels:
        return ()
    return compile_bytecode(
        wheels,
        python=sources.python,
        target=lock.target,
        site_packages=site_packages(lock.target.minor),
        store=sources.context.store,
        progress=sources.context.progress,
    )
