"""What a running cluster gets to have what the client has: wheels, and code of no package."""

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

_FORMAT = 1  # raised when the same wheels begin to give another overlay
_BUILD = "build an image that has it, and start a cluster from that: imagesync build"


@dataclass(frozen=True)
class Unsynced:
    """A package that a running cluster can't be given, why, and what to do instead."""

    name: str
    reason: str
    hint: str = _BUILD


@dataclass(frozen=True)
class Selection:
    """What of a comparison can be sent.

    Parameters
    ----------
    names
        Of distributions, and of the loose code.
    """

    names: frozenset[str]
    unsynced: tuple[Unsynced, ...]


@dataclass(frozen=True)
class Overlay:
    """What is laid over the environment of each process of a cluster.

    Parameters
    ----------
    wheels
        Their bytes.
    code
        A ZIP archive of code that no package owns; empty where there is none.
    contents
        By name the digest of what local code is made from; empty for what is from an index.
    modules
        By name what can be imported from it: packages and modules that no namespace is between.
    """

    wheels: tuple[bytes, ...] = ()
    code: bytes = b""
    contents: Mapping[str, str] | None = None
    modules: Mapping[str, tuple[str, ...]] | None = None

    @property
    def digest(self) -> str:
        """Return a digest over all of it, in hex."""
        parts = [
            str(_FORMAT).encode(),
            *self.wheels,
            self.code,
            repr(sorted((self.contents or {}).items())).encode(),
        ]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def content(self) -> dict[str, Any]:
        """Return it as ``inside/overlay.py`` takes it: plain values."""
        says = {
            "packages": dict(self.contents or {}),
            "modules": {name: list(modules) for name, modules in (self.modules or {}).items()},
        }
        return {"digest": self.digest, "wheels": list(self.wheels), "code": self.code, "says": says}


def select_packages(comparison: Comparison) -> Selection:
    """Return which packages of *comparison* a cluster must get, and which it can't be given.

    Parameters
    ----------
    comparison
        Of the client with what the cluster's image had.
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
    """Return why a package can't be sent, if it can't."""
    if not row.left[0].present:
        return "it isn't installed here, and what an image has can't be taken away"
    if row.kind == "python":
        return "another Python is another image"
    if row.kind == "conda" or any(state.build for state in row.left):
        return "conda's packages are binaries that are tied to their environment"
    if row.level is Level.CRITICAL and not row.local:
        return "scheduler and workers run on it, and a scheduler can't be restarted with its tasks"
    return None


def make_overlay(
    names: Iterable[str], *, inputs: EnvironmentInputs, target: Target
) -> tuple[Overlay, tuple[Unsynced, ...]]:
    """Return the overlay of some packages of an environment, their wheels fetched or built.

    Parameters
    ----------
    names
        Canonical names of distributions, and :data:`~imagesync.inventory.inventory.LOOSE_CODE`.
    target
        What the cluster runs.

    Returns
    -------
    tuple
        The overlay, and the packages that no index has for the target as they are here.

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
    from imagesync.pipeline.fetch import make_wheels

    plan = replace(inputs.plan, packages=tuple(planned))
    lock, wheels = make_wheels(Lock(target, (), local_packages(plan, inputs.source_digests)), sources)
    return lock, [wheel.path for wheel in wheels]


def _fetch_index_wheels(
    planned: Sequence[PlannedPackage], inputs: EnvironmentInputs, sources: ArtifactSources, target: Target
) -> tuple[list[tuple[str, Path]], tuple[Unsynced, ...]]:
    from imagesync.lock.make import make_lock
    from imagesync.pipeline.fetch import fetch_artifacts

    try:
        lock = make_lock(
            replace(inputs.plan, packages=tuple(planned), conda=(), interpreter="base"),
            target=target,
            source_digests=inputs.source_digests,
            resolver=sources.resolver,
            progress=sources.context.progress,
            installed_content=sources.installed_digests(target),
        )
        artifacts = fetch_artifacts(lock, sources)
    except (LockError, FetchError, WheelError) as error:
        return [], tuple(Unsynced(package.name, error.message) for package in planned)
    # The nearest version is no answer to what was edited here.
    other = {deviation.name: deviation.reason for deviation in artifacts.lock.deviations}
    names = [package.name for package in artifacts.lock.packages]
    names += [package.name for package in artifacts.lock.vendored]
    wheels = (*artifacts.packages.wheels, *artifacts.vendored.wheels)
    paths: list[tuple[str, Path]] = []
    paths += [(name, wheel.path) for name, wheel in zip(names, wheels, strict=True) if name not in other]
    return paths, tuple(
        Unsynced(package.name, other[package.name]) for package in planned if package.name in other
    )


def _loose_code(inputs: EnvironmentInputs, sources: ArtifactSources, target: Target) -> bytes:
    from imagesync.loose_code.archive import make_layer

    layer = make_layer(
        inputs.plan.code,
        python=sources.python,
        target=target,
        store=sources.context.store,
        progress=sources.context.progress,
    )
    return b"" if layer is None else layer.archive.path.read_bytes()


def importable(members: Iterable[str]) -> tuple[str, ...]:
    """Return the packages and modules that a wheel brings; of a namespace what lies in it.

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
