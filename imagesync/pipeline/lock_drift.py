"""The differences between an environment and a lock file, by what is in wheels and not by what made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.platforms import runs_on
from imagesync.core.progress import Severity
from imagesync.core.text import first_of
from imagesync.errors import ImagesyncError
from imagesync.lock.layers import local_packages
from imagesync.lock.lock import Lock, Target
from imagesync.lock.lockfile.differences import Difference, differences
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, Selection
from imagesync.lock.lockfile.read import read_lock, remedy
from imagesync.pipeline.lock_file_sources import with_digests
from imagesync.plan.checks.sources import local_path
from imagesync.settings.bases import well_known
from imagesync.wheels.wheel_contents import archive_content, recall_contents

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.core.progress import Progress
    from imagesync.lock.locked_packages import VendoredPackage
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_inputs import EnvironmentInputs

# Of images whose C library isn't known here: that of Ubuntu 24.04.
_USUAL_GLIBC = (2, 39)
# Packages that a warning names.
_SHOWN = 5


def _target(python: str, context: Context) -> Target:
    # Names and versions are compared, so the C library need not be exact.
    known = well_known(context.settings.base)
    glibc = known.glibc if known is not None and known.glibc is not None else _USUAL_GLIBC
    return Target(context.platform, python.rstrip("+"), glibc)


def read_to_compare(
    path: Path, context: Context, *, python: Callable[[], str], selection: Selection | None = None
) -> ReadLock:
    """Return the lock of the file at *path* for a comparison with an environment.

    *python* returns the version of the environment's Python, for which a lock file for several is read.
    """

    def target() -> Target:
        return _target(python(), context)

    return read_lock(ReadRequest(path, target, context.environ, context.platform, selection or Selection()))


def lock_differences(lock_file: ReadLock, inputs: EnvironmentInputs) -> tuple[Difference, ...]:
    """Return the packages by which the environment of *inputs* differs from a lock file.

    A file beside the sources of a local package, such as the lock file itself, is no difference: where the
    sources aren't those that were locked, the wheel is made and compared with the locked one.
    """
    target, python = lock_file.lock.target, inputs.plan.python
    if lock_file.lock.conda and not runs_on(target.platform, local=python.platform, libc=python.libc):
        inputs.context.progress.line(
            f"{lock_file.path} is for {target.platform}, and this environment is {python.platform}: versions "
            "of conda packages are compared, and not builds."
        )
    digests = {**inputs.source_digests, **same_wheels(lock_file, inputs)}
    return differences(lock_file, inputs.plan, digests)


def warn_of_drift(path: Path, compare: Callable[[], Iterable[Difference]], progress: Progress) -> None:
    """Report by which packages an environment differs from the lock file at *path*, or why it isn't known.

    *compare* returns the differences; those that several platforms have are reported once.
    """
    try:
        found = tuple(dict.fromkeys(compare()))
        hint = remedy(path) if found else ""
    except ImagesyncError as error:
        progress.line(str(error), Severity.WARNING)
        return
    if found:
        shown = first_of([f"{each.name} {each.here or 'is missing'}" for each in found], _SHOWN)
        progress.line(
            f"This environment, which the image is made of, differs from {path}: {shown}. {hint}",
            Severity.WARNING,
        )


def with_sources(
    vendored: tuple[VendoredPackage, ...], inputs: EnvironmentInputs
) -> tuple[VendoredPackage, ...]:
    """Return the local packages of a lock file with the digests of their sources.

    Those of a source tree that the environment of *inputs* has, too, are the environment's.
    """
    trees = {
        package.source.url: inputs.source_digests[package.name]
        for package in inputs.plan.packages
        if package.vendored and package.source.url and package.name in inputs.source_digests
    }
    return with_digests(vendored, cache=inputs.context.cache_folder, known=trees)


def same_wheels(lock_file: ReadLock, inputs: EnvironmentInputs) -> Mapping[NormalizedName, str]:
    """Return the locked digests of sources that differ here, but give the wheel beside the lock file.

    A wheel is made of sources that none is known of.
    """
    cache = inputs.context.cache_folder
    locked = {}
    for package in lock_file.lock.vendored:
        source, digest = package.planned.source, inputs.source_digests.get(package.name)
        wheel = local_path(source) if package.is_bundled and not package.repacked else None
        if digest is None or digest == package.content or wheel is None:
            continue
        if content := archive_content(Path(wheel), source.hash or "", cache=cache):
            locked[package.name] = (package.content, content)
    if not locked:
        return {}
    digests = {name: inputs.source_digests[name] for name in locked}
    contents = _contents(lock_file.lock.target, inputs, digests)
    return {name: digest for name, (digest, content) in locked.items() if contents.get(name) == content}


def same_sources(
    others: Mapping[NormalizedName, str], inputs: EnvironmentInputs
) -> frozenset[NormalizedName]:
    """Return the packages whose sources aren't those of *others*, but give the same wheel.

    Parameters
    ----------
    others
        Digests of sources, by the names of packages. Only if it is remembered here what wheel they gave, one
        of the sources here is made to compare it with.
    inputs
        The environment here.
    """
    here, context = inputs.source_digests, inputs.context
    changed = {name: digest for name, digest in others.items() if here.get(name, digest) != digest}
    no_isolation = context.settings.no_isolation
    known = recall_contents(inputs.plan, changed, no_isolation=no_isolation, cache=context.cache_folder)
    if not known:
        return frozenset()
    target = _target(inputs.plan.python.version, context)
    made = _contents(target, inputs, {name: here[name] for name in known})
    return frozenset(name for name, content in known.items() if made.get(name) == content.digest)


def _contents(
    target: Target, inputs: EnvironmentInputs, digests: Mapping[NormalizedName, str]
) -> dict[NormalizedName, str]:
    """Return the content of the wheels of local packages: remembered, or of wheels that are made now."""
    context = inputs.context
    no_isolation = context.settings.no_isolation
    recalled = recall_contents(inputs.plan, digests, no_isolation=no_isolation, cache=context.cache_folder)
    found = {name: content.digest for name, content in recalled.items()}
    missing = {name: digest for name, digest in digests.items() if name not in found}
    if not missing:
        return found
    from imagesync.pipeline.artifacts import make_wheels
    from imagesync.pipeline.local_wheels import wheel_contents

    local = Lock(target, (), local_packages(inputs.plan, missing))
    try:
        made, wheels = make_wheels(local, inputs.artifact_sources(for_files=True))
    except ImagesyncError as error:
        # What can't be built may have changed.
        context.progress.line(error.message, Severity.WARNING)
        return found
    contents = wheel_contents(made, wheels, inputs.plan, context)
    return {**found, **{name: content.digest for name, content in contents.items()}}
