"""The packages of an image without an engine: their archives, or what is known of those that aren't here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from imagesync.errors import BuildError, ImagesyncError, StoreError
from imagesync.image.conda.layer import CondaPackages, conda_packages
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.conda_parts import conda_paths
from imagesync.image.layers.environment import EnvironmentFiles, placed_request
from imagesync.image.layers.parts import PartStore
from imagesync.image.layers.wheel_parts import (
    KnownWheel,
    WheelPart,
    bytecode_by_wheel,
    needed_archives,
    without_shared_files,
)
from imagesync.image_layout import PREFIX
from imagesync.lock.conda.missing_archives import KnownArchive
from imagesync.pipeline.artifacts import Artifacts, fetch_artifacts
from imagesync.pipeline.package_facts import PartSources
from imagesync.pipeline.stored_parts import StoredParts
from imagesync.wheels.bytecode import compile_bytecode
from imagesync.wheels.compilers import compiler_version

if TYPE_CHECKING:
    from imagesync.image.dockerfile import Wheels
    from imagesync.image.layers.conda_parts import KnownConda
    from imagesync.image.layers.grouping import Kind
    from imagesync.image.layers.parts import Part
    from imagesync.lock.lock import Lock
    from imagesync.lock.locked_packages import LockedConda, LockedPackage
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.cached_layers import CachedLayers
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.layout_base import LayoutBase
    from imagesync.store.store import StoredFile


@dataclass(frozen=True)
class LayerPackages:
    """All packages of an image.

    Parameters
    ----------
    artifacts
        The artifacts that are here.
    wheels
        All wheels, those that aren't here among them.
    conda
        All conda packages; ``None`` without any.
    known_conda
        Those of conda whose archives aren't here.
    """

    artifacts: Artifacts
    wheels: tuple[WheelPart | KnownWheel, ...]
    conda: CondaPackages | None
    known_conda: Mapping[str, KnownConda]


@dataclass(frozen=True)
class PackageSource:
    """Fetches the packages of a lock, or finds their parts in the store or in a cache of layers.

    Parameters
    ----------
    inputs
        The inputs of the build.
    lock
        The exact artifact of each package.
    sources
        Where these come from.
    base
        The base image.
    cached
        The layers of the setting ``cache-from``; ``None`` without it.
    """

    inputs: BuildInputs
    lock: Lock
    sources: ArtifactSources
    base: LayoutBase
    cached: CachedLayers | None

    def fetch(self) -> LayerPackages:
        """Return the packages of the image: those whose parts are known aren't fetched.

        Raises
        ------
        BuildError
            A conda package has a post-link script, and none may be skipped.
        """
        minor = self.lock.target.minor
        if (self.lock.packages or self.lock.vendored) and not self._part_sources.compiler:
            self.inputs.context.progress.line(
                f"warning: no Python {minor} is here to compile bytecode, so the image has none"
            )
        found = ((package.name, self._known_wheel(package)) for package in self.lock.packages)
        wheels = {name: wheel for name, wheel in found if wheel is not None}
        known = ((package.name, self._known_conda(package)) for package in self.lock.conda)
        conda = {name: package for name, package in known if package is not None}
        while True:
            archives = {name: KnownArchive(each.archive, each.distributions) for name, each in conda.items()}
            artifacts = fetch_artifacts(
                self.lock, self.sources, without=wheels, known=archives, on_compiled=self._write_part
            )
            here = [
                *self._wheel_parts(artifacts.packages, "pip", artifacts),
                *self._wheel_parts(artifacts.vendored, "local", artifacts),
            ]
            packages = LayerPackages(
                artifacts, (*here, *wheels.values()), self._conda_packages(artifacts, conda), conda
            )
            if not (wheels or conda):
                return packages
            lacking = self._lacking(packages)
            if not lacking:
                return packages
            wheels = {name: wheel for name, wheel in wheels.items() if wheel.filename not in lacking}
            conda = {name: each for name, each in conda.items() if each.archive.filename not in lacking}

    def _write_part(self, wheel: StoredFile, bytecode: StoredFile) -> None:
        """Write the part of a wheel while others arrive, so that it is there when its layer is written."""
        context = self.inputs.context
        parts = PartStore(context.store, compression_of(context.settings.compression))
        part = WheelPart(wheel, bytecode, "pip", self.lock.target.minor, is_virtual=not self.lock.conda)
        # The error is raised again where the part is needed.
        with suppress(ImagesyncError):
            parts.get(placed_request(part.request, self.base.contents.tree))

    def _known_wheel(self, package: LockedPackage) -> KnownWheel | None:
        found = self.stored.wheel(package, self._part_sources, self._part)
        if found is None and self.cached is not None:
            found = self.cached.wheel(package, self._part_sources, self._part)
        return found

    def _known_conda(self, package: LockedConda) -> KnownConda | None:
        found = self.stored.conda(package, self._part_sources, self._part)
        if found is None and self.cached is not None:
            found = self.cached.conda(package, self._part_sources, self._part)
        return found

    def _has_part(self, inputs: str) -> bool:
        return self.stored.find(inputs) is not None or (
            self.cached is not None and self.cached.has_part(inputs)
        )

    def _part(self, inputs: str) -> Part:
        """Return a part that is known, from the store or from the cache of layers."""
        found = self.stored.find(inputs)
        if found is not None:
            return found
        if self.cached is None or not self.cached.has_part(inputs):
            raise StoreError(
                "A part of a layer was removed from the artifact store during the build.",
                hint="Run the command again, which makes it anew.",
            )
        return self.cached.part(inputs)

    @cached_property
    def stored(self) -> StoredParts:
        """Return the parts in the store."""
        # Where the installed files say nothing about the image, the archives tell what it needs of a system.
        needs_archives = not self.inputs.has_image_binaries
        return StoredParts(self.inputs.context.store, needs_archives=needs_archives)

    def _lacking(self, packages: LayerPackages) -> set[str]:
        """Return the names of the known archives that have to be fetched after all."""
        wheels, conda = packages.wheels, packages.conda
        below = {path for paths in conda_paths(conda).values() for path in paths} if conda is not None else ()
        lacking = needed_archives(wheels)
        known = [part for part in wheels if isinstance(part, KnownWheel)]
        # Their bytes tell whether they are those of the conda package.
        lacking |= {part.filename for part in known if not part.checksums.keys().isdisjoint(below)}
        if lacking:
            return lacking
        conflicts = self.inputs.file_conflicts or {}
        separate = without_shared_files(wheels, conflicts, minor=self.lock.target.minor)
        lacking = {
            part.filename
            for part in separate
            if isinstance(part, KnownWheel) and not self._has_part(part.request.inputs)
        }
        parts = self.files_of(packages).conda_parts(self.inputs.context.store)
        return lacking | {
            part.archive.filename
            for part in parts
            if part.known is not None and not self._has_part(part.request.inputs)
        }

    @cached_property
    def _part_sources(self) -> PartSources:
        settings, minor = self.inputs.context.settings, self.lock.target.minor
        return PartSources(
            minor,
            compiler_version(self.sources.python, minor),
            compression_of(settings.compression).identity,
            self.base.contents.tree.resolve(PREFIX.relative_to("/").as_posix()),
            is_virtual=not self.lock.conda,
        )

    @cached_property
    def _python_bytecode(self) -> StoredFile | None:
        """Return the archive of the compiled modules of the interpreter that is put on the base, if any."""
        python, context = self.base.python, self.inputs.context
        if python is None or self.lock.conda:
            return None
        compiled = compile_bytecode(
            [python.modules(context.store)],
            python=self.sources.python,
            target=self.lock.target,
            site_packages=python.library,
            store=context.store,
            progress=context.progress,
        )
        return next(iter(compiled), None)

    def files_of(self, packages: LayerPackages) -> EnvironmentFiles:
        """Return the artifacts of *packages* alone."""
        digests = {p.name: p.artifact.digest for p in packages.artifacts.lock.conda if p.artifact.digest}
        return EnvironmentFiles(
            self.base.contents,
            self.lock.target.minor,
            packages.wheels,
            conda=packages.conda,
            python=None if self.lock.conda else self.base.python,
            python_bytecode=self._python_bytecode,
            known_conda=packages.known_conda,
            conda_sources={name: self._part_sources.digest(digest) for name, digest in digests.items()},
            file_conflicts=self.inputs.file_conflicts or {},
        )

    def _conda_packages(self, artifacts: Artifacts, known: Mapping[str, KnownConda]) -> CondaPackages | None:
        """Return the conda packages; the archives of *known* aren't here."""
        lock, context = artifacts.lock, self.inputs.context
        if not lock.conda:
            return None
        return conda_packages(
            lock,
            artifacts.conda,
            wheels=artifacts.wheels,
            python=self.sources.python,
            store=context.store,
            progress=context.progress,
            shared_files=self.inputs.shared_conda_files or {},
            all_bytecode=True,
            known={name: each.content for name, each in known.items()},
            check_scripts=self._refuse_scripts,
        )

    def _refuse_scripts(self, names: tuple[str, ...]) -> None:
        if names and not self.inputs.context.settings.skip_scripts:
            raise BuildError(
                f"Conda packages have post-link scripts, which need a running container: {', '.join(names)}",
                hint="Build with an engine (--builder docker), or without what they do (--skip-scripts).",
            )

    def _wheel_parts(self, wheels: Wheels, kind: Kind, artifacts: Artifacts) -> list[WheelPart]:
        lock, digests = artifacts.lock, artifacts.locked_digests
        local = {package.name for package in lock.vendored if not package.repacked}
        bytecode = bytecode_by_wheel(wheels.wheels, wheels.bytecode)
        parts = [
            WheelPart(
                wheel,
                bytecode.get(wheel.filename),
                kind,
                lock.target.minor,
                source=self._part_sources.digest(digests[wheel.filename])
                if wheel.filename in digests
                else "",
                is_virtual=not lock.conda,
            )
            for wheel in wheels.wheels
        ]
        # What was repacked has its place among the packages of indexes.
        return [replace(p, kind="pip") if p.package.name not in local else p for p in parts]
