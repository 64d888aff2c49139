"""The artifacts of a lock, fetched or made on this machine: for an image, or to lie beside a lock file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from imagesync.errors import ArtifactGone, FetchError, HashMismatch, LockError
from imagesync.image.dockerfile import Wheels
from imagesync.image_layout import site_packages
from imagesync.lock.conda.missing_archives import fetch_archives, replace_missing_archives
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import LockedConda, VendoredPackage
from imagesync.lock.lockfile.conda_pip import find_pip, needs_pip
from imagesync.lock.lockfile.write import ARCHIVES, WHEELS, Bundle, is_local
from imagesync.lock.update_lock import replace_missing, update_versions
from imagesync.pipeline.artifact_sources import ArtifactSources, download_of, fetch_packages, uv_installer
from imagesync.plan.plan import Plan
from imagesync.store.download import Download
from imagesync.store.layout import LOGS
from imagesync.store.parallel_fetch import fetch, fetch_available
from imagesync.store.store import StoredFile
from imagesync.wheels.bytecode import compile_bytecode
from imagesync.wheels.installed_fallback import use_installed_files
from imagesync.wheels.rewrite import installable
from imagesync.wheels.sdists.container import ContainerBuilder
from imagesync.wheels.sdists.sdist import build_sdists
from imagesync.wheels.vendor import vendor
from imagesync.wheels.wheel_checks import check_wheel
from imagesync.wheels.wheel_contents import WheelContent, archive_content, remember_content

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.lock import Target
    from imagesync.pipeline.context import Context


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of an image, all of them in the store.

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


def fetch_artifacts(lock: Lock, sources: ArtifactSources) -> Artifacts:
    """Return the artifacts of *lock*: from the store, from an index or a channel, or made now.

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
        )
    lock, fetched = _fetch_all(lock, sources)
    lock, packages = _build(lock, fetched, sources)
    lock, vendored = make_wheels(lock, sources)
    return Artifacts(
        lock=lock,
        packages=Wheels(packages, _compile(packages, lock, sources)),
        vendored=Wheels(vendored, _compile(vendored, lock, sources)),
        installer=uv_installer(lock, sources) if lock.packages else None,
        conda=conda,
    )


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
    bundled = [package for package in lock.vendored if package.is_bundled]
    built = vendor(
        [package for package in lock.vendored if not package.is_bundled],
        python=sources.python,
        target=lock.target,
        store=sources.context.store,
        indexes=sources.build_indexes,
        progress=sources.context.progress,
        no_isolation=sources.context.settings.no_isolation,
        no_build=sources.context.settings.no_build,
    )
    bundled_wheels = iter(_bundled_wheels(bundled, sources, lock.target) if bundled else ())
    built_wheels = iter((each.wheel, each.content) for each in built)
    wheels = [next(bundled_wheels if package.is_bundled else built_wheels) for package in lock.vendored]
    filenames = [wheel.filename for wheel, _ in wheels]
    return update_versions(lock, filenames, [content for _, content in wheels]), tuple(
        wheel for wheel, _ in wheels
    )


def wheel_contents(
    lock: Lock, wheels: Sequence[StoredFile], plan: Plan, context: Context
) -> Mapping[NormalizedName, WheelContent]:
    """Return the content of the *wheels* of the local packages of *lock*, and remember it.

    That of a wheel that came with a lock file isn't remembered: nobody here has seen its sources.

    Parameters
    ----------
    lock
        The lock.
    wheels
        In the order of ``lock.vendored``.
    plan
        The plan.
    context
        The context of the command.
    """
    contents = {}
    for package, wheel in zip(lock.vendored, wheels, strict=True):
        if package.repacked:
            continue
        digest = archive_content(wheel.path, wheel.digest, cache=context.cache_folder)
        contents[package.name] = content = WheelContent(digest, package.version)
        if package.is_bundled:
            continue
        remember_content(
            plan,
            package.name,
            package.content,
            content,
            no_isolation=context.settings.no_isolation,
            cache=context.cache_folder,
        )
    return contents


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


def _fetch_all(lock: Lock, sources: ArtifactSources) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return the files of *lock* from indexes, and the lock with missing ones replaced."""
    while lock.packages:
        found = fetch_available(
            [download_of(package) for package in lock.packages],
            store=sources.context.store,
            access=sources.access,
            progress=sources.context.progress,
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
        no_build=sources.context.settings.no_build,
    )
    lock, wheels = use_installed_files(
        lock,
        {package.name: wheel for (package, _), wheel in zip(sdists, built, strict=True)},
        installed_digest=sources.installed_digests(lock.target),
        logs=sources.context.cache_folder / LOGS,
        progress=sources.context.progress,
        no_build=sources.context.settings.no_build,
    )
    files = {**{package.name: file for package, file in pairs}, **wheels}
    return lock, installable(
        [files[package.name] for package in lock.packages],
        minor=lock.target.minor,
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


def freeze(plan: Plan, lock: Lock, sources: ArtifactSources, *, with_pip: bool = False) -> Bundle:
    """Return *lock* with the files that a lock file must bring along.

    These are wheels made on this machine, and what comes from an index or a channel in a folder of it.

    Parameters
    ----------
    plan
        The plan.
    lock
        The lock.
    sources
        The sources of its artifacts.
    with_pip
        Whether to add conda's pip for others, if the lock has packages of pip beside conda's Python.

    Raises
    ------
    FetchError, WheelError
        A file can't be had, or a wheel can't be made.
    """
    # First, because wheels may have to stand in for archives that are gone.
    lock, archives = _archives(lock, sources)
    lock, made = make_wheels(lock, sources)
    local = [package for package in lock.packages if is_local(package.artifact)]
    fetched = fetch_packages(local, sources) if local else ()
    files = {f"{WHEELS}/{file.filename}": file for file in (*made, *fetched)}
    pip, of_pip = _pip_for_others(lock, sources) if with_pip else ((), [])
    md5 = {package.name: package.md5 for package in (*lock.conda, *pip) if package.md5}
    for package, archive in (*archives, *of_pip):
        md5.setdefault(package.name, _md5(archive.path))
        if is_local(package.artifact):
            files[f"{ARCHIVES}/{package.subdir}/{archive.filename}"] = archive
    wheels = {str(package.name): wheel for package, wheel in zip(lock.vendored, made, strict=True)}
    return Bundle(plan, lock, files, wheels, md5, pip)


def _archives(lock: Lock, sources: ArtifactSources) -> tuple[Lock, list[tuple[LockedConda, StoredFile]]]:
    """Return the archives that are needed, and the lock with something else for those that are gone."""
    while True:
        found, gone = _obtain(lock.conda, sources)
        if not gone:
            return lock, found
        content = sources.record_distributions(lock.target)
        lock = replace_missing_archives(lock, gone, solver=sources.channels, record_distributions=content)


def _obtain(
    packages: Sequence[LockedConda], sources: ArtifactSources
) -> tuple[list[tuple[LockedConda, StoredFile]], dict[str, ArtifactGone]]:
    """Return the archives of packages that a lock file needs, and by name the errors for missing ones."""
    wanted = [package for package in packages if not package.md5 or is_local(package.artifact)]
    found = sources.channels.archives(wanted).obtain(wanted) if wanted else ()
    pairs = list(zip(wanted, found, strict=True))
    gone = {package.name: file for package, file in pairs if isinstance(file, ArtifactGone)}
    return [(package, file) for package, file in pairs if not isinstance(file, ArtifactGone)], gone


def _pip_for_others(
    lock: Lock, sources: ArtifactSources
) -> tuple[tuple[LockedConda, ...], list[tuple[LockedConda, StoredFile]]]:
    """Return conda's pip and what it needs for a lock file, and their archives; nothing if there is none."""
    if not needs_pip(lock):
        return (), []
    try:
        pip = find_pip(lock, prefix=sources.python.prefix, solver=sources.channels)
        found, gone = _obtain(pip, sources)
    except HashMismatch:
        raise
    except (LockError, FetchError):
        pip, found, gone = (), [], {}
    finally:
        sources.channels.close()
    if pip and not gone:
        return pip, found
    sources.context.progress.line(
        "The lock has packages of pip and no channel has conda's pip: conda-lock and micromamba need one to "
        "install them"
    )
    return (), []


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        found = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()
