"""Overlays: the wheels and the loose code that synchronise a running cluster with the client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from imagesync.core.names import Level
from imagesync.errors import FetchError, LockError, WheelError
from imagesync.inventory.comparison import Comparison, Group, Row
from imagesync.inventory.inventory import LOOSE_CODE
from imagesync.lock.lock import Lock, Target
from imagesync.plan.loose_code import MODULE_SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.environment_inputs import EnvironmentInputs
    from imagesync.plan.plan import PlannedPackage

_FORMAT = 1  # raised when the same wheels give another overlay
_HINT = "build an image that has it, and start a cluster from that: imagesync build"


@dataclass(frozen=True)
class Unsynced:
    """A package that can't be sent to a running cluster, with the reason and what to do instead."""

    name: str
    reason: str
    hint: str = _HINT


@dataclass(frozen=True)
class Selection:
    """The packages of a comparison that can be sent, and those that can't.

    Parameters
    ----------
    names
        Names of distributions, and :data:`~imagesync.inventory.inventory.LOOSE_CODE`.
    unsynced
        Packages that differ but can't be sent.
    """

    names: frozenset[str]
    unsynced: tuple[Unsynced, ...]


@dataclass(frozen=True)
class Overlay:
    """Wheels and code that take precedence over the environment in each process of a cluster.

    Parameters
    ----------
    wheels
        Contents of the wheels.
    code
        ZIP archive of the loose code; empty if there is none.
    contents
        Digest of the sources of local code by name; empty for packages of an index.
    modules
        Importable modules by name: top-level ones, and those directly below namespace packages.
    """

    wheels: tuple[bytes, ...] = ()
    code: bytes = b""
    contents: Mapping[str, str] | None = None
    modules: Mapping[str, tuple[str, ...]] | None = None

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the overlay."""
        parts = [
            str(_FORMAT).encode(),
            *self.wheels,
            self.code,
            repr(sorted((self.contents or {}).items())).encode(),
        ]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def content(self) -> dict[str, Any]:
        """The overlay as plain values, for ``standalone/cluster/apply_sync.py``."""
        description = {
            "packages": dict(self.contents or {}),
            "modules": {name: list(modules) for name, modules in (self.modules or {}).items()},
        }
        return {
            "digest": self.digest,
            "wheels": list(self.wheels),
            "code": self.code,
            "description": description,
        }


def select_packages(comparison: Comparison) -> Selection:
    """Return the packages of *comparison* to send to a cluster.

    Parameters
    ----------
    comparison
        Comparison of the client with the cluster's image.
    """
    names = set()
    unsynced = []
    for row in comparison.rows:
        if row.intended or row.group not in (Group.DIFFERS, Group.ONE_SIDED):
            continue
        if (reason := _obstacle(row)) is None:
            names.add(row.name)
        elif row in comparison.differences:
            unsynced.append(Unsynced(row.name, reason))
    return Selection(frozenset(names), tuple(unsynced))


def _obstacle(row: Row) -> str | None:
    """Return the reason why a package can't be sent, or ``None``."""
    from distributed.versions import required_packages

    if not row.left[0].present:
        return "it isn't installed here, and a package of the image can't be removed"
    if row.kind == "python":
        return "another Python needs another image"
    if row.kind == "conda" or any(state.build for state in row.left):
        return "conda's packages are binaries that are tied to their environment"
    if row.level is Level.CRITICAL or row.name in required_packages:
        return "scheduler and workers run on it, and a scheduler can't be restarted with its tasks"
    return None


def make_overlay(
    names: Iterable[str], *, inputs: EnvironmentInputs, target: Target
) -> tuple[Overlay, tuple[Unsynced, ...]]:
    """Return the overlay of some packages of an environment, with fetched and built wheels.

    Parameters
    ----------
    names
        Canonical names of distributions, and :data:`~imagesync.inventory.inventory.LOOSE_CODE`.
    inputs
        Inputs of the environment, with its plan.
    target
        Platform and Python of the cluster.

    Returns
    -------
    tuple
        The overlay, and the packages whose installed version no index has for the target.

    Raises
    ------
    WheelError
        A wheel of local code can't be built.
    """
    wanted = set(names)
    plan = inputs.plan
    sources = inputs.artifact_sources()
    planned = [package for package in plan.packages if package.name in wanted]
    vendored = [package for package in planned if package.vendored]
    local_lock, local_wheels = _make_local_wheels(vendored, inputs, sources, target)
    others = [package for package in planned if not package.vendored]
    indexed, unsynced = _fetch_index_wheels(others, inputs, sources, target) if others else ([], ())
    contents: dict[str, str] = {package.name: package.content for package in local_lock.vendored}
    modules: dict[str, tuple[str, ...]] = {}
    paths = [*zip((package.name for package in local_lock.vendored), local_wheels, strict=True), *indexed]
    for name, path in paths:
        contents.setdefault(name, "")
        with ZipFile(path) as archive:
            modules[name] = importable(archive.namelist())
    code = b""
    if LOOSE_CODE in wanted:
        code = _loose_code(inputs, sources, target)
        contents[LOOSE_CODE], modules[LOOSE_CODE] = plan.code.digest, plan.code.modules
    return Overlay(tuple(path.read_bytes() for _, path in paths), code, contents, modules), unsynced


def _make_local_wheels(
    planned: Sequence[PlannedPackage], inputs: EnvironmentInputs, sources: ArtifactSources, target: Target
) -> tuple[Lock, list[Path]]:
    from imagesync.lock.layers import local_packages
    from imagesync.pipeline.artifacts import make_wheels, report_local_secrets

    plan = replace(inputs.plan, packages=tuple(planned))
    lock, wheels = make_wheels(Lock(target, (), local_packages(plan, inputs.source_digests)), sources)
    report_local_secrets(lock, wheels, sources)
    return lock, [wheel.path for wheel in wheels]


def _fetch_index_wheels(
    planned: Sequence[PlannedPackage], inputs: EnvironmentInputs, sources: ArtifactSources, target: Target
) -> tuple[list[tuple[str, Path]], tuple[Unsynced, ...]]:
    from imagesync.lock.make_lock import make_lock
    from imagesync.pipeline.artifacts import fetch_artifacts

    try:
        lock = make_lock(
            replace(inputs.plan, packages=tuple(planned), conda=(), interpreter="base"),
            target=target,
            source_digests=inputs.source_digests,
            resolver=sources.resolver,
            progress=sources.context.progress,
            installed_digest=sources.installed_digests(target),
        )
        artifacts = fetch_artifacts(lock, sources)
    except (LockError, FetchError, WheelError) as error:
        return [], tuple(Unsynced(package.name, error.message) for package in planned)
    # Another version of a package doesn't match the client either: report it.
    deviations = {deviation.name: deviation.reason for deviation in artifacts.lock.deviations}
    names = [package.name for package in artifacts.lock.packages]
    names += [package.name for package in artifacts.lock.vendored]
    wheels = artifacts.wheels
    paths: list[tuple[str, Path]] = []
    paths += [(name, wheel.path) for name, wheel in zip(names, wheels, strict=True) if name not in deviations]
    return paths, tuple(
        Unsynced(package.name, deviations[package.name]) for package in planned if package.name in deviations
    )


def _loose_code(inputs: EnvironmentInputs, sources: ArtifactSources, target: Target) -> bytes:
    from imagesync.loose_code.code_layer import make_layer

    layer = make_layer(
        inputs.plan.code,
        python=sources.python,
        target=target,
        store=sources.context.store,
        progress=sources.context.progress,
    )
    return b"" if layer is None else layer.archive.path.read_bytes()


def importable(members: Iterable[str]) -> tuple[str, ...]:
    """Return the importable packages and modules of a wheel: of a namespace package, its members.

    >>> importable(["elder/__init__.py", "elder/bark.py", "rowan.py", "google/cloud/leaf/__init__.py"])
    ('elder', 'google.cloud.leaf', 'rowan')
    >>> importable(["elder-1.0.dist-info/RECORD", "elder-1.0.data/purelib/oak.py", "space/fir.py"])
    ('oak', 'space.fir')
    """
    paths = [PurePosixPath(_installed(member)) for member in members]
    modules = [path for path in paths if path.name.endswith(MODULE_SUFFIXES) and path.suffix]
    packages = {path.parent for path in modules if path.name.partition(".")[0] == "__init__"}
    found = set()
    for path in modules:
        inside = [folder for folder in reversed(path.parents) if folder in packages]
        parts = inside[0].parts if inside else (*path.parent.parts, path.name.partition(".")[0])
        if all(part.isidentifier() for part in parts):
            found.add(".".join(parts))
    return tuple(sorted(found))


def _installed(member: str) -> str:
    first, _, rest = member.partition("/")
    if not first.endswith(".data"):
        return member
    scheme, _, inside = rest.partition("/")
    return inside if scheme in ("purelib", "platlib") else ""
