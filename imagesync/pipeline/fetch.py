"""Artifacts: everything that a lock names, fetched or made on this machine, with its bytecode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import ArtifactGone
from imagesync.lock.lock import Lock, VendoredPackage
from imagesync.pipeline.artifact_sources import Workshop, download_of
from imagesync.pipeline.installers import uv_installer
from imagesync.store.download import Download
from imagesync.store.fetch import fetch, fetch_available
from imagesync.store.layout import LOGS
from imagesync.store.store import StoredFile

if TYPE_CHECKING:
    from imagesync.image.dockerfile import Wheels
    from imagesync.lock.lock import Target
    from imagesync.wheels.sdists.container import ContainerBuilder


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


def gather(lock: Lock, workshop: Workshop) -> Artifacts:
    """Return everything that *lock* names, from the store, from an index, or made now.

    Raises
    ------
    FetchError, StoreError, WheelError
        Something can't be had, kept or made.
    """
    from imagesync.image.dockerfile import Wheels

    conda: tuple[StoredFile, ...] = ()
    if lock.conda and workshop.channels is not None:
        from imagesync.lock.conda.fetch import fetch_archives

        lock, conda = fetch_archives(
            lock,
            channels=workshop.channels,
            record_content=workshop.record_content(lock.target),
            exactly=workshop.locked,
        )
    lock, fetched = _fetch_all(lock, workshop)
    lock, packages = _build(lock, fetched, workshop)
    lock, vendored = make_wheels(lock, workshop)
    return Artifacts(
        lock=lock,
        packages=Wheels(packages, _compile(packages, lock, workshop)),
        vendored=Wheels(vendored, _compile(vendored, lock, workshop)),
        installer=uv_installer(lock, workshop) if lock.packages else None,
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
    from imagesync.lock.update_versions import update_versions
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
    return update_versions(lock, filenames, [content for _, content in wheels]), tuple(
        wheel for wheel, _ in wheels
    )


def _given_wheels(
    packages: Sequence[VendoredPackage], workshop: Workshop, target: Target
) -> Iterator[tuple[StoredFile, str]]:
    from imagesync.wheels.check_target import check_wheel

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
    from imagesync.lock.replace_missing import replace_missing

    while lock.packages:
        found = fetch_available(
            [download_of(package) for package in lock.packages],
            store=workshop.store,
            access=workshop.access,
            progress=workshop.progress,
        )
        pairs = list(zip(lock.packages, found, strict=True))
        gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
        if not gone:
            return lock, tuple(file for file in found if isinstance(file, StoredFile))
        lock = replace_missing(
            lock,
            gone,
            resolver=workshop.answering_resolver(),
            installed_content=workshop.installed_content(lock.target),
        )
    return lock, ()


def _build(
    lock: Lock, fetched: Sequence[StoredFile], workshop: Workshop
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the wheels of the packages from indexes, sdists built; and the lock without those that can't be.

    What can't be built is made from its installed files, where the target can use them.
    """
    from imagesync.wheels.sdists.sdist import build_sdists
    from imagesync.wheels.sdists.sdist_fallback import stand_in

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
        logs=workshop.store.root / LOGS,
        progress=workshop.progress,
    )
    files = {**{package.name: file for package, file in pairs}, **wheels}
    return lock, tuple(files[package.name] for package in lock.packages)


def _containers(lock: Lock, workshop: Workshop) -> ContainerBuilder | None:
    from imagesync.wheels.sdists.container import ContainerBuilder

    if workshop.container is None:
        return None
    return ContainerBuilder(
        workshop.container,
        lock.target,
        store=workshop.store,
        resolver=workshop.resolver,
        access=workshop.access,
        indexes=workshop.indexes,
        uv=lambda: uv_installer(lock, workshop),
        progress=workshop.progress,
    )


def _compile(wheels: tuple[StoredFile, ...], lock: Lock, workshop: Workshop) -> tuple[StoredFile, ...]:
    from imagesync.image_layout import site_packages
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
