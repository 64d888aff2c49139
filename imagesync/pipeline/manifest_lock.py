"""Solving a manifest for the image: its conda packages by a solver, then pip's part by a resolver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import Level, canonical_name
from imagesync.errors import LockError
from imagesync.lock.conda.locked_records import provided_distributions
from imagesync.lock.conda.solver import CondaRequest, virtual_packages
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import LockedPackage, VendoredPackage
from imagesync.lock.manifest_files import Manifest, python_specs
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.pipeline.artifact_sources import ArtifactSources, open_artifact_sources
from imagesync.pipeline.freeze import freeze
from imagesync.pipeline.target_environment import critical_imports, target_interpreter
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import Environment, Package, Source
from imagesync.settings.bases import base_hint
from imagesync.store.layout import TREES
from imagesync.wheels.sources.source_digests import package_digest

if TYPE_CHECKING:
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lockfile.write import Bundle
    from imagesync.pipeline.context import Context


def lock_manifest(
    manifest: Manifest, context: Context, *, base: Callable[[], BaseImage], with_pip: bool = False
) -> Bundle:
    """Return the lock of *manifest* for the image, with the files that a lock file brings along.

    Parameters
    ----------
    manifest
        What is wanted.
    context
        The context of the command.
    base
        Returns the base image, as far as it is known.
    with_pip
        Whether to add conda's pip for others; see :func:`~imagesync.pipeline.freeze.freeze`.

    Raises
    ------
    UnsolvableError
        No set of versions meets it.
    LockError
        The base image has a Python that it doesn't admit, or an index or channel doesn't answer.
    """
    known = base()
    target = Target(context.platform, known.python_version, known.glibc)
    plan = _plan(manifest, context, target)
    sources = open_artifact_sources(plan, context, project=manifest.path.absolute().parent, for_files=True)
    lock = Lock(target, (), resolver=sources.resolver.name, channels=plan.channels)
    try:
        if manifest.conda:
            lock = _with_conda(lock, manifest, sources)
            plan = replace(plan, conda=tuple(_planned_conda(lock)))
        _refuse_other_python(manifest, lock, known)
        lock = _with_pip(lock, manifest, sources)
    finally:
        sources.channels.close()
    plan = _complete(plan, lock)
    return freeze(plan, _with_levels(lock), replace(sources, python=plan.python), with_pip=with_pip)


def _plan(manifest: Manifest, context: Context, target: Target) -> Plan:
    """Return the plan by which sources are opened; no packages are known yet."""
    python = target_interpreter(target.python_version)
    channels: tuple[str, ...] = ()
    if manifest.conda:
        from imagesync.plan.conda import with_channels

        named = context.settings.channels or manifest.channels
        channels = with_channels(Environment(python, ()), named, environ=context.environ).channels
    return Plan(python, (), channels=channels, strict=context.settings.strict)


def _with_conda(lock: Lock, manifest: Manifest, sources: ArtifactSources) -> Lock:
    machine_has = virtual_packages(lock.target, cuda=sources.context.settings.cuda)
    specs = (*manifest.conda, *python_specs(manifest))
    with sources.context.progress.task("Solving", total=None, unit="packages"):
        found = sources.conda_solver().solve(CondaRequest(specs, machine_has))
    conda = tuple(sorted(found, key=lambda package: package.name))
    python = next((package.version for package in conda if package.name == "python"), "")
    target = replace(lock.target, python_version=python or lock.target.python_version)
    return replace(lock, target=target, conda=conda)


def _refuse_other_python(manifest: Manifest, lock: Lock, base: BaseImage) -> None:
    from packaging.specifiers import SpecifierSet

    version = lock.target.python_version
    if SpecifierSet(manifest.python).contains(version, prereleases=True):
        return
    if any(package.name == "python" for package in lock.conda):
        raise LockError(
            f"{manifest.path} is for Python {manifest.python}, and its conda packages have {version}.",
            hint="Change requires-python, or the version of python among the conda packages.",
        )
    raise LockError(
        f"{manifest.path} is for Python {manifest.python}, and the base image {base.root} has {version}.",
        hint="Choose a base image with such a Python (--base), or change requires-python.\n"
        + base_hint(".".join(manifest.python.lstrip("<>=!~ ").split(",")[0].split(".")[:2])),
    )


def _with_pip(lock: Lock, manifest: Manifest, sources: ArtifactSources) -> Lock:
    cache = sources.context.cache_folder / TREES
    vendored = []
    for name, source in sorted(manifest.projects.items()):
        planned = PlannedPackage(name, "", Level.EXACT, "", _reason(manifest), source)
        vendored.append(VendoredPackage(planned.name, "", package_digest(planned, cache=cache), planned))
    names = {*manifest.projects, *manifest.metadata}
    provided = provided_distributions(lock.conda, ())
    packages: tuple[LockedPackage, ...] = ()
    if manifest.pip or manifest.metadata:
        present = (*provided, *_local_metadata(manifest))
        request = ResolutionRequest(lock.target, manifest.pip, vendored=present, dependencies=True)
        with sources.context.progress.task("Resolving", total=None, unit="packages"):
            found = sources.resolver.resolve(request)
        packages = tuple(package for package in found if package.name not in names)
    return replace(
        lock,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        vendored=tuple(vendored),
    )


def _local_metadata(manifest: Manifest) -> Iterator[PlannedPackage]:
    """Yield the local projects with their requirements, which no index is asked for."""
    for name, metadata in sorted(manifest.metadata.items()):
        package = Package(name, metadata.version, "pip", Source("directory"), requires=metadata.requires)
        yield PlannedPackage(name, metadata.version, Level.EXACT, "", _reason(manifest), installed=package)


def _planned_conda(lock: Lock) -> list[PlannedConda]:
    return [PlannedConda(p.name, p.version, p.build, Level.EXACT, f"=={p.version}", "") for p in lock.conda]


def _complete(plan: Plan, lock: Lock) -> Plan:
    """Return the plan of an image of *lock*."""
    python = canonical_name("python")
    version = lock.target.python_version
    planned = [PlannedPackage(python, version, Level.CRITICAL, f"=={version}", "")]
    planned += [PlannedPackage(p.name, p.version, Level.EXACT, f"=={p.version}", "") for p in lock.packages]
    planned += [package.planned for package in lock.vendored]
    names = {package.name for package in planned}
    names |= {name for package in lock.conda for name in package.distributions}
    return replace(
        plan,
        python=target_interpreter(version),
        packages=tuple(sorted(planned, key=lambda package: package.name)),
        critical_imports=tuple(critical_imports(names)),
        interpreter="conda" if any(package.name == "python" for package in lock.conda) else "base",
    )


def _with_levels(lock: Lock) -> Lock:
    """Return *lock* with its packages planned, so that a check misses those that aren't installed."""
    planned = {package.name: package for package in _planned_conda(lock)}
    return replace(
        lock,
        conda=tuple(replace(package, planned=planned[package.name]) for package in lock.conda),
        packages=tuple(
            replace(p, planned=PlannedPackage(p.name, p.version, Level.EXACT, f"=={p.version}", ""))
            for p in lock.packages
        ),
    )


def _reason(manifest: Manifest) -> str:
    return f"{manifest.path.name} names it."
