"""Other forms of a lock: an explicit file for conda and micromamba, and PEP 751's ``pylock.toml``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagesync.core.credentials import strip_credentials
from imagesync.lock.lockfile.bundle import Frozen
from imagesync.lock.lockfile.write import SUBDIRS, specs

if TYPE_CHECKING:
    from packaging.pylock import Package

    from imagesync.lock.lock import LockedConda

_EXPLICIT = """\
# Written by `imagesync lock`. An environment of it:
#   micromamba create --name YOURENV --file {name}
# platform: {platform}
@EXPLICIT
"""


def render_explicit(frozen: Frozen, *, name: str) -> str:
    """Return the conda packages as an explicit file, each with its sha256 as micromamba reads it.

    pip's part follows as comments, which conda passes over, and which micromamba and conda-lock read.

    Parameters
    ----------
    name
        Of the file that it goes to, for its comments.
    """
    lock = frozen.lock
    places = frozen.places
    lines = [
        f"{_place(package.artifact.url, package.artifact.digest, places)}#{package.artifact.digest}"
        for package in _in_order(lock.conda)
    ]
    return (
        _EXPLICIT.format(name=name, platform=SUBDIRS[lock.target.platform])
        + "".join(f"{line}\n" for line in lines)
        + "".join(f"# pip {line}\n" for line in _pip_lines(frozen))
    )


def _in_order(packages: Iterable[LockedConda]) -> list[LockedConda]:
    """Return *packages*, each after what it depends on, as tools that install line by line need them."""
    by_name = {package.name: package for package in packages}
    graph = {
        name: sorted(specs(package.depends).keys() & by_name.keys()) for name, package in by_name.items()
    }
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError:
        return list(by_name.values())


def _pip_lines(frozen: Frozen) -> Iterator[str]:
    places = frozen.places
    for package in frozen.lock.packages:
        url = _place(package.artifact.url, package.artifact.digest, places)
        yield f"{package.name} @ {url}#{package.artifact.digest.replace(':', '=')}"
    for made in frozen.lock.vendored:
        wheel = frozen.wheels[made.name]
        yield f"{made.name} @ file:{places[wheel.digest]}#{wheel.digest.replace(':', '=')}"


def _place(url: str, digest: str, places: dict[str, str]) -> str:
    return f"file:{places[digest]}" if digest in places else strip_credentials(url)


def render_pylock(frozen: Frozen) -> str:
    """Return pip's part of a lock as ``pylock.toml`` (PEP 751)."""
    import tomli_w
    from packaging.pylock import Pylock

    lock = frozen.lock
    packages = sorted(_pylock_packages(frozen), key=lambda package: package.name)
    pylock = Pylock(
        lock_version=Version("1.0"),
        environments=[Marker(f"sys_platform == 'linux' and platform_machine == '{_machine(frozen)}'")],
        requires_python=SpecifierSet(f"=={lock.target.minor}.*"),
        created_by="imagesync",
        packages=packages,
    )
    pylock.validate()
    return tomli_w.dumps(dict(pylock.to_dict()))


def _machine(frozen: Frozen) -> str:
    from imagesync.lock.tags import machine

    return machine(frozen.lock.target)


def _pylock_packages(frozen: Frozen) -> Iterator[Package]:
    from packaging.pylock import Package, PackageSdist, PackageWheel

    places = frozen.places
    for package in frozen.lock.packages:
        artifact = package.artifact
        place = places.get(artifact.digest)
        where = {"path": place} if place else {"url": strip_credentials(artifact.url)}
        file: dict[str, Any] = {
            "name": artifact.filename,
            "size": artifact.size,
            "hashes": {"sha256": artifact.digest.removeprefix("sha256:")},
            **where,
        }
        yield Package(
            name=canonicalize_name(package.name),
            version=Version(package.version),
            wheels=[PackageWheel(**file)] if artifact.is_wheel else None,
            sdist=None if artifact.is_wheel else PackageSdist(**file),
        )
    for made in frozen.lock.vendored:
        wheel = frozen.wheels[made.name]
        yield Package(
            name=canonicalize_name(made.name),
            version=Version(made.version),
            wheels=[
                PackageWheel(
                    name=wheel.filename,
                    path=places[wheel.digest],
                    size=wheel.size,
                    hashes={"sha256": wheel.digest.removeprefix("sha256:")},
                )
            ],
        )
