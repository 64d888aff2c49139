"""The wheels of local packages, which a build makes first: their builds are the likeliest to fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from imagesync.core.progress import Severity
from imagesync.lock.layers import local_packages
from imagesync.lock.lock import Lock
from imagesync.loose_code.code_layer import make_layer
from imagesync.pipeline.artifacts import make_wheels, report_local_secrets
from imagesync.wheels.wheel_contents import (
    WheelContent,
    archive_content,
    first_sources,
    remember_content,
)

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.core.progress import Progress
    from imagesync.lock.lock import Target
    from imagesync.loose_code.code_layer import CodeLayer
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_hash import BaseInputs
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash
    from imagesync.plan.plan import Plan
    from imagesync.store.store import StoredFile


@dataclass(frozen=True)
class LocalWheels:
    """The wheels of local packages.

    Parameters
    ----------
    inputs
        The inputs of the build.
    sources
        The sources of the artifacts.
    target
        The platform, Python and glibc of the image.
    """

    inputs: BuildInputs
    sources: ArtifactSources
    target: Target

    @property
    def lock(self) -> Lock:
        """Return the lock of the local packages, whose wheels are in the store."""
        return self._made[0]

    @property
    def contents(self) -> Mapping[NormalizedName, WheelContent]:
        """Return the content of each wheel, by the name of its package."""
        return self._made[1]

    @cached_property
    def made_inputs(self) -> BuildInputs:
        """Return the inputs with all files that went into the wheels."""
        return self.inputs.with_sources({package.name: package.content for package in self.lock.vendored})

    def in_lock(self, lock: Lock) -> Lock:
        """Return *lock* with the digests of all that went into the wheels, so that none is made again."""
        made = {package.name: package for package in self.lock.vendored}
        return replace(lock, vendored=tuple(made.get(package.name, package) for package in lock.vendored))

    def planned_hash(self, base: BaseInputs) -> KnownHash | None:
        """Return the environment hash where the installed versions are the lock, or ``None``."""
        return self.inputs.known_hash(base, self.contents)

    def code_layer(self) -> CodeLayer | None:
        """Return the archives of loose code, or ``None`` if the environment has none."""
        if not self.inputs.plan.code:
            return None
        context = self.inputs.context
        return make_layer(
            self.inputs.plan.code,
            python=self.sources.python,
            target=self.target,
            store=context.store,
            progress=context.progress,
        )

    @cached_property
    def _made(self) -> tuple[Lock, Mapping[NormalizedName, WheelContent]]:
        local = Lock(self.target, (), local_packages(self.inputs.plan, self.inputs.source_digests))
        local, wheels = make_wheels(local, self.sources)
        report_local_secrets(local, wheels, self.sources)
        return local, wheel_contents(local, wheels, self.inputs.plan, self.inputs.context)


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


def with_first_sources(lock: Lock, plan: Plan, context: Context) -> Lock:
    """Return *lock* with each local package's first sources that gave the same wheel, as scans name them.

    Else an image that was made after a README was written would differ from the environment that it has.

    Parameters
    ----------
    lock
        The lock, after :func:`wheel_contents` of its wheels.
    plan, context
        As for :func:`wheel_contents`.
    """
    first = first_sources(
        plan,
        {package.name: package.content for package in lock.vendored if not package.is_bundled},
        no_isolation=context.settings.no_isolation,
        cache=context.cache_folder,
    )
    vendored = [replace(each, content=first.get(each.name, each.content)) for each in lock.vendored]
    return replace(lock, vendored=tuple(vendored))


def report_differences(lock: Lock, progress: Progress) -> None:
    """Report by what the image of *lock* differs from the environment, and what was repacked for it."""
    for deviation in lock.deviations:
        progress.line(deviation.message, Severity.DEVIATION)
    for package in lock.repacked:
        progress.line(
            f"repacked: {package.name} {package.version}, from the installed files: {package.repacked}",
            Severity.DEVIATION,
        )
