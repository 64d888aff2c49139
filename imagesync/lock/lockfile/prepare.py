"""The lock of a file, prepared for a build: completed from conda archives, checked for the base image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import Level
from imagesync.errors import ArtifactGone, LockError
from imagesync.lock.conda.archive_files import ArchiveInfo, read_archives
from imagesync.lock.conda.locked_records import needed_glibc, refuse_duplicates, refuse_free_threaded
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import LockedConda
from imagesync.lock.resolve_installed import pin
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.lock.wheel_tags import target_tags
from imagesync.scan.environment import CondaRecord
from imagesync.settings.bases import base_hint

if TYPE_CHECKING:
    from imagesync.image_layout import BaseImage
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.lockfile.models import ReadLock
    from imagesync.lock.resolvers.resolver import Resolver
    from imagesync.store.store import StoredFile

_SHOWN = 10


def with_artifacts(read: ReadLock, target: Target, resolver: Resolver) -> Lock:
    """Return the lock of *read* with the artifacts that the indexes have for its digests.

    Raises
    ------
    LockError
        An index doesn't have an artifact with one of the digests of a package, or doesn't answer.
    """
    wanted = [package for package in read.lock.packages if package.name in read.hashes]
    pins = tuple(pin(package.name, package.version) for package in wanted)
    found = resolver.resolve(ResolutionRequest(target, pins, hashes=read.hashes))
    artifacts = {package.name: package.artifact for package in found}
    for package in wanted:
        if package.name not in artifacts or artifacts[package.name].digest not in read.hashes[package.name]:
            raise LockError(
                f"{read.path}: the indexes have no {package.name} {package.version} with the locked digest.",
                hint=f"Look at {resolver.indexes.source}, or lock again.",
            )
    packages = (replace(p, artifact=artifacts.get(p.name, p.artifact)) for p in read.lock.packages)
    return replace(read.lock, packages=tuple(packages))


def unasked_indexes(read: ReadLock, indexes: IndexConfiguration) -> Iterator[str]:
    """Yield a line for the options of a requirements file that name places which aren't asked.

    A digest says which file is installed, whoever has it; so an index that isn't asked can only be missed.
    """
    asked = {_place(url) for url in (*indexes.public_urls, *map(strip_credentials, indexes.find_links))}
    others = [
        option
        for option in read.index_options
        if _place(option.split()[-1], read.path.parent) not in asked
        and _place(option.split()[-1]) not in asked
    ]
    if others:
        verb = "isn't" if len(others) == 1 else "aren't"
        yield (
            f"{read.path} has {', '.join(others)}, which {verb} applied: "
            f"packages are looked for on the indexes of your configuration ({indexes.source})."
        )


def _place(text: str, folder: Path | None = None) -> str:
    """Return a URL or a path in one form: a folder may be written as either.

    pip takes a relative path in a file as relative to that file where it exists, else to the current folder.
    """
    place = text
    try:
        if text.startswith("file:"):
            from urllib.parse import urlsplit
            from urllib.request import url2pathname

            place = url2pathname(urlsplit(text).path)
        if "://" in place:
            return place.rstrip("/")
        return str((folder or Path()).joinpath(place).expanduser().resolve())
    except (ValueError, RuntimeError):
        return text  # neither a URL nor a path: a NUL, half an IPv6 address, the home of nobody


def enrich(lock: Lock, channels: Channels) -> Lock:
    """Return *lock* with the facts from the archives of its conda packages, which are fetched for that.

    Raises
    ------
    FetchError
        An archive can't be fetched.
    LockError
        An archive can't be read, or is of another package.
    """
    conda = [_with_digest(package, channels) for package in lock.conda]
    files = [_present(file) for file in channels.archives(lock.conda).obtain(conda)]
    enriched = map(_enrich, conda, files, read_archives(files))
    return replace(lock, conda=tuple(enriched))


def _present(archive: StoredFile | ArtifactGone) -> StoredFile:
    if isinstance(archive, ArtifactGone):
        raise archive
    return archive


def _with_digest(package: LockedConda, channels: Channels) -> LockedConda:
    if package.artifact.digest:
        return package
    record = CondaRecord(
        name=package.name,
        version=package.version,
        build=package.build,
        build_number=package.build_number,
        channel=package.channel,
        subdir=package.subdir,
        filename=package.artifact.filename,
        url=package.artifact.url,
        md5=package.md5,
    )
    return replace(package, artifact=replace(package.artifact, digest=channels.digest(record)))


def _enrich(package: LockedConda, archive: StoredFile, info: ArchiveInfo) -> LockedConda:
    index = info.index
    if (index.get("name"), index.get("version")) != (package.name, package.version):
        raise LockError(
            f"{archive.filename} holds {index.get('name')} {index.get('version')}, and the lock file says "
            f"{package.name} {package.version}.",
            hint="Lock again.",
        )
    return replace(
        package,
        artifact=replace(package.artifact, size=archive.size),
        build=index.get("build", package.build),
        build_number=index.get("build_number", 0),
        noarch=_noarch(index),
        depends=tuple(index.get("depends", package.depends)),
        constrains=tuple(index.get("constrains", ())),
        distributions=info.distributions,
    )


def _noarch(index: Mapping[str, Any]) -> Literal["", "python", "generic"]:
    noarch = index.get("noarch")
    if noarch == "python":
        return "python"
    return "generic" if noarch else ""


def check_target(read: ReadLock, base: BaseImage, target: Target) -> Lock:
    """Return the lock of *read* for an image on *base*.

    *target* is that of the base image; Python of a conda lock replaces its interpreter.

    Raises
    ------
    LockError
        The base image has another Python or too old a glibc, or doesn't support one of the wheels.
    """
    refuse_free_threaded(read.lock.conda)
    from_conda = any(package.name == "python" for package in read.lock.conda)
    version = read.interpreter_version
    minor = ".".join(version.split(".")[:2])
    if from_conda:
        target = replace(target, python_version=version)
    elif version and minor != target.minor:
        raise LockError(
            f"{read.path} is locked for Python {version}, and the base image {base.root} has "
            f"{target.python_version}.",
            hint=f"{base_hint(minor)}\nOr lock again.",
        )
    unfit = [*_older_glibc(read.lock, target), *_unfit_wheels(read.lock, target)]
    if unfit:
        more = [f"- and {len(unfit) - _SHOWN} more"] if len(unfit) > _SHOWN else []
        raise LockError(
            f"{read.path} doesn't fit the image ({target.platform}, Python {target.minor}, "
            f"glibc {'.'.join(map(str, target.glibc))}):\n" + "\n".join([*unfit[:_SHOWN], *more]),
            hint="Choose another base image (--base), or lock again for this one.",
        )
    names = [*(p.name for p in read.lock.packages), *(p.name for p in read.lock.vendored)]
    refuse_duplicates(read.lock.conda, names)
    return with_target(read, target)


def with_target(read: ReadLock, target: Target) -> Lock:
    """Return the lock of *read* for *target*, with the deviation that its interpreter is."""
    from_conda = any(package.name == "python" for package in read.lock.conda)
    version = read.interpreter_version
    deviations = tuple(each for each in read.lock.deviations if each.name != "python" or from_conda)
    if not from_conda and version and version != target.python_version:
        reason = f"the base image has Python {target.python_version}"
        python = Deviation("python", version, target.python_version, Level.CRITICAL, reason)
        deviations = tuple(sorted((*deviations, python), key=lambda each: each.name))
    return replace(read.lock, target=target, deviations=deviations)


def _older_glibc(lock: Lock, target: Target) -> Iterator[str]:
    for package in lock.conda:
        needed = needed_glibc(package.depends)
        if needed is not None and needed > target.glibc:
            yield f"- {package.name} {package.version} needs glibc {needed[0]}.{needed[1]}"


def _unfit_wheels(lock: Lock, target: Target) -> Iterator[str]:
    fitting = frozenset(target_tags(target))
    names = [package.artifact.filename for package in lock.packages if package.artifact.is_wheel]
    bundled = [package for package in lock.vendored if package.is_bundled]
    names += [(package.planned.source.url or "").rpartition("/")[2] for package in bundled]
    for filename in names:
        try:
            tags = parse_wheel_filename(filename)[3]
        except InvalidWheelFilename:
            yield f"- {filename} isn't named as a wheel is"
            continue
        if fitting.isdisjoint(tags):
            yield f"- {filename} is for another platform or interpreter"
