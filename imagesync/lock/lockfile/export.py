"""Exports of a lock: an explicit file for conda, requirements, and ``pylock.toml`` (PEP 751)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagesync.core.credentials import strip_credentials
from imagesync.core.platforms import SUBDIRS
from imagesync.lock.conda.records import topological_order
from imagesync.lock.lockfile.bundle import Bundle
from imagesync.lock.resolve_installed import pin

if TYPE_CHECKING:
    from packaging.pylock import Package

    from imagesync.lock.lock import Lock

_EXPLICIT = """\
# Written by `imagesync lock`. An environment of it:
#   micromamba create --name YOURENV --file {name}
# platform: {platform}
@EXPLICIT
"""


def render_explicit(bundle: Bundle, *, name: str) -> str:
    """Return the conda packages as an explicit file, each with its sha256 in micromamba's syntax.

    pip's packages follow as comments, which conda ignores, and micromamba and conda-lock read. *name* is that
    of the file, for its comments.
    """
    lock = bundle.lock
    paths = bundle.paths
    lines = [
        # micromamba refuses file URLs without a leading slash.
        f"{paths.get(package.artifact.digest) or strip_credentials(package.artifact.url)}"
        f"#{package.artifact.digest}"
        for package in topological_order(lock.conda)
    ]
    return (
        _EXPLICIT.format(name=name, platform=SUBDIRS[lock.target.platform])
        + "".join(f"{line}\n" for line in lines)
        + "".join(f"# pip {line}\n" for line in _pip_lines(bundle))
    )


def _pip_lines(bundle: Bundle) -> Iterator[str]:
    paths = bundle.paths
    for package in bundle.lock.packages:
        url = _url(package.artifact.url, package.artifact.digest, paths)
        yield f"{package.name} @ {url}#{package.artifact.digest.replace(':', '=')}"
    for vendored in bundle.lock.vendored:
        wheel = bundle.wheels[vendored.name]
        yield f"{vendored.name} @ file:{paths[wheel.digest]}#{wheel.digest.replace(':', '=')}"


def _url(url: str, digest: str, paths: dict[str, str]) -> str:
    return f"file:{paths[digest]}" if digest in paths else strip_credentials(url)


def render_requirements(lock: Lock) -> str:
    """Return a requirements file of the packages from indexes, each with its digest.

    It is for ``pip install --no-deps --require-hashes -r``, and for uv. Vendored packages are omitted,
    because no index has them.
    """
    return "".join(
        f"{pin(package.name, package.version)} \\\n    --hash={package.artifact.digest}\n"
        for package in lock.packages
    )


def render_pylock(bundle: Bundle) -> str:
    """Return the packages of pip as ``pylock.toml`` (PEP 751)."""
    import tomli_w
    from packaging.pylock import Pylock

    lock = bundle.lock
    packages = sorted(_pylock_packages(bundle), key=lambda package: package.name)
    pylock = Pylock(
        lock_version=Version("1.0"),
        environments=[Marker(f"sys_platform == 'linux' and platform_machine == '{_machine(bundle)}'")],
        requires_python=SpecifierSet(f"=={lock.target.minor}.*"),
        created_by="imagesync",
        packages=packages,
    )
    pylock.validate()
    return tomli_w.dumps(dict(pylock.to_dict()))


def _machine(bundle: Bundle) -> str:
    from imagesync.lock.tags import machine

    return machine(bundle.lock.target)


def _pylock_packages(bundle: Bundle) -> Iterator[Package]:
    from packaging.pylock import Package, PackageSdist, PackageWheel

    paths = bundle.paths
    for package in bundle.lock.packages:
        artifact = package.artifact
        path = paths.get(artifact.digest)
        where = {"path": path} if path else {"url": strip_credentials(artifact.url)}
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
    for vendored in bundle.lock.vendored:
        wheel = bundle.wheels[vendored.name]
        yield Package(
            name=canonicalize_name(vendored.name),
            version=Version(vendored.version),
            wheels=[
                PackageWheel(
                    name=wheel.filename,
                    path=paths[wheel.digest],
                    size=wheel.size,
                    hashes={"sha256": wheel.digest.removeprefix("sha256:")},
                )
            ],
        )
