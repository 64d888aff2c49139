"""Build an image in two layers: the packages image, which environments share, and local code on top.

The packages image holds the interpreter and everything from indexes and channels. It has a hash and a tag, by
the digests of what it holds, and its lock in a label, and it is verified once. After an edit of local
packages only their wheels are built, sent to the engine and verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from imagesync.errors import BuildError
from imagesync.image.base import ensure_stage, target_of
from imagesync.image.builder import EngineContainer, build_checked, build_image
from imagesync.image.conda.layer import conda_packages
from imagesync.image.conda.layer import make_layer as make_conda_layer
from imagesync.image.conda.mounted_images import with_mounted_images
from imagesync.image.dockerfile import make_context
from imagesync.image.labels import Part
from imagesync.image.templates import is_in_parts
from imagesync.image.verify import verify
from imagesync.image_layout import USER, image_tag
from imagesync.inventory.inventory import image_inventory
from imagesync.lock.layers import join_layers, local_layer, shared_layer
from imagesync.lock.lock import Lock, Target
from imagesync.lock.make_lock import refuse_deviations
from imagesync.pipeline.artifact_sources import ArtifactSources, conda_installer, uv_installer
from imagesync.pipeline.artifacts import (
    Artifacts,
    fetch_artifacts,
    fetch_wheels,
    report_local_secrets,
)
from imagesync.pipeline.image_finder import base_inputs
from imagesync.pipeline.local_wheels import (
    LocalWheels,
    report_differences,
    wheel_contents,
    with_first_sources,
)
from imagesync.pipeline.packages_image import PackagesImage
from imagesync.pipeline.system_requirements import check_fetched, check_installed

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.image.built_image import Image
    from imagesync.image.conda.layer import CondaLayer
    from imagesync.image.image_context import BuildContext
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.engine_finder import EngineFinder
    from imagesync.pipeline.environment_hash import BaseInputs
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash


@dataclass(frozen=True)
class EngineBuilder:
    """Builds the image of *inputs* on the base image *base*.

    Parameters
    ----------
    inputs
        The inputs of the build.
    base
        The base image.
    finder
        Finds the packages image.
    for_files
        Whether only files are written, a lock or a build context, and no image is built.
    """

    inputs: BuildInputs
    base: BaseImage
    finder: EngineFinder
    for_files: bool = False

    @cached_property
    def sources(self) -> ArtifactSources:
        """Return the sources of the artifacts; sdists can be built in a container of the base image."""
        container = EngineContainer(self.base, lambda: self.finder.base_for_wheels(self.base))
        return replace(self.inputs.artifact_sources(for_files=self.for_files), container=container)

    @cached_property
    def lock(self) -> Lock:
        """Return the exact artifact of each package; indexes and channels are asked for it, if need be."""
        return self.inputs.lock(self.base, self.sources)

    @cached_property
    def shared_conda_files(self) -> Mapping[str, tuple[str, ...]]:
        """Return the files that several conda packages have, as far as it is known which are installed."""
        return self.inputs.shared_conda_files or {}

    @cached_property
    def base_inputs(self) -> BaseInputs:
        """Return the inputs that all hashes cover besides the plan and the settings."""
        settings = self.inputs.context.settings
        return base_inputs(settings, self.base.identity, self.base.python_version)

    @cached_property
    def packages_image(self) -> PackagesImage:
        """Return the packages image, with its name and look-up."""
        return PackagesImage(
            self.inputs,
            self.base_inputs,
            self.target,
            self.finder,
            {
                **(self.inputs.file_conflicts or {}),
                **{path: names[0] for path, names in self.shared_conda_files.items()},
            },
            self.sources.installed_digests(self.target),
        )

    @cached_property
    def target(self) -> Target:
        """Return the platform, Python and glibc of the image."""
        return target_of(self.inputs.plan, self.base)

    @cached_property
    def wheels(self) -> LocalWheels:
        """Return the wheels of local packages."""
        return LocalWheels(self.inputs, self.sources, self.target)

    def lock_in_background(self) -> None:
        """Do nothing: most builds find their packages image, whose lock is known."""

    @property
    def made_inputs(self) -> BuildInputs:
        """Return the inputs with all files that went into the local wheels."""
        return self.wheels.made_inputs

    def planned_hash(self) -> KnownHash | None:
        """Return the environment hash where the installed versions are the lock, or ``None``."""
        return self.wheels.planned_hash(self.base_inputs)

    def locked_hash(self) -> KnownHash:
        """Return the environment hash of the lock."""
        lock = self._joined_lock()
        return self.inputs.locked_hash(lock, self.base_inputs, self.wheels.contents)

    def _joined_lock(self) -> Lock:
        shared = self.packages_image.find() or shared_layer(self.lock)
        lock = join_layers(shared, self.wheels.lock)
        refuse_deviations(self.inputs.plan, lock)
        return lock

    def single_stage_context(self, engine: Engine | None = None, *, standalone: bool = False) -> BuildContext:
        """Return the build context of the whole image, which needs no packages image.

        Parameters
        ----------
        engine
            Has the base image, which the wheels are checked against; ``None`` for no check.
        standalone
            Whether its Dockerfile makes the base image, too.
        """
        artifacts = fetch_artifacts(self.lock, self.sources)
        refuse_deviations(self.inputs.plan, artifacts.lock)
        if standalone:  # a build has reported them when it made its local wheels
            report_local_secrets(artifacts.lock, artifacts.vendored.wheels, self.sources)
        if engine is not None:
            self._check_wheels(engine, artifacts)
            self._ensure_minimal(engine, artifacts.lock)
        return self._context("whole", artifacts.lock, artifacts, standalone=standalone)

    def build(self, *, tags: tuple[str, ...] = (), no_cache: bool = False) -> Image:
        """Return the image, built on its packages image, which is built first if the engine lacks it.

        Parameters
        ----------
        tags
            Further references that the image gets.
        no_cache
            Whether to build both images anew.
        """
        with self.inputs.context.open_engine() as engine:
            engine.remove_abandoned()
            return self._build(engine, tags=tags, no_cache=no_cache)

    def _build(self, engine: Engine, *, tags: tuple[str, ...], no_cache: bool) -> Image:
        plan, progress = self.inputs.plan, self.inputs.context.progress
        check_installed(engine, self.inputs, self.base)
        templates = self.inputs.context.settings.templates
        has_layers = is_in_parts(templates)
        context = (
            self._local_context(engine, no_cache=no_cache)
            if has_layers
            else self.single_stage_context(engine)
        )
        report_differences(context.lock, progress)
        # The shipped templates only add packages; the steps of the user's own may have changed anything.
        local = local_layer(context.lock).vendored
        only_added = has_layers and templates is None and not plan.options.run
        new = [package.name for package in local] if only_added else None
        try:
            return build_image(
                context,
                engine=engine,
                extra_tags=tags,
                no_cache=no_cache,
                verify=lambda image: verify(
                    engine,
                    image,
                    lock=context.lock,
                    critical_imports=plan.critical_imports,
                    code_modules=plan.code.modules,
                    progress=progress,
                    new=new,
                    # Whoever wants root in the image still has an environment that others can't change.
                    user=USER if plan.options.user.partition(":")[0] in ("0", "root") else None,
                ),
                progress=progress,
            )
        except BuildError:
            reference = self.packages_image.reference(shared_layer(context.lock))
            if not has_layers or engine.inspect(reference) is not None:
                raise
            # The packages image has been removed since the engine was asked.
            self.finder.look_again()
            return self._build(engine, tags=tags, no_cache=no_cache)

    def refuse_failing_imports(self) -> None:
        """Raise an error if the plan is strict, and an import fails for want of a system library.

        Also an image that is found may have been built without this check. Where the installed binaries say
        nothing about it, the wheels are fetched.

        Raises
        ------
        BaseImageError
            One does.
        """
        if not self.inputs.plan.strict:
            return
        with self.inputs.context.open_engine() as engine:
            check_installed(engine, self.inputs, self.base, quiet=True)
            if not self.inputs.has_image_binaries:
                wheels = fetch_wheels(self._joined_lock(), self.sources)
                check_fetched(engine, self.inputs, self.base, wheels=wheels, quiet=True)

    def _local_context(self, engine: Engine, *, no_cache: bool) -> BuildContext:
        """Return the build context of the layer on top of the packages image, which exists then."""
        plan, context = self.inputs.plan, self.inputs.context
        shared = None if no_cache else self.packages_image.find()
        lock = shared_layer(self.lock) if shared is None else shared
        artifacts = fetch_artifacts(self.wheels.lock, self.sources)
        joined = join_layers(lock, artifacts.lock)
        refuse_deviations(plan, joined)
        if shared is None:
            tag = image_tag(self.packages_image.digest(lock))
            with context.store.lock(f"packages-{tag}", progress=context.progress):
                # A build of another environment may have made the packages image meanwhile.
                self.finder.look_again()
                shared = None if no_cache else self.packages_image.find(lock)
                if shared is None:
                    shared = self._build_packages(engine, lock, no_cache=no_cache)
            joined = join_layers(shared, artifacts.lock)
            refuse_deviations(plan, joined)
        return self._context("environment", joined, artifacts)

    def _ensure_minimal(self, engine: Engine, lock: Lock) -> None:
        """Make the base image without Python, if the environment is built on it."""
        if lock.conda:
            context = self.inputs.context
            ensure_stage(engine, self.base, "minimal", settings=context.settings, progress=context.progress)

    def _check_wheels(self, engine: Engine, artifacts: Artifacts) -> None:
        check_fetched(engine, self.inputs, self.base, wheels=artifacts.wheels)

    def _build_packages(self, engine: Engine, shared: Lock, *, no_cache: bool) -> Lock:
        """Build the packages image, and return the lock of what it holds in the end."""
        progress = self.inputs.context.progress
        artifacts = fetch_artifacts(shared, self.sources)
        lock = artifacts.lock
        refuse_deviations(self.inputs.plan, lock)
        self._check_wheels(engine, artifacts)
        self._ensure_minimal(engine, lock)
        name = self.packages_image.reference(lock)
        progress.line(f"Making {name}, the base of all environments with the same packages")
        build_checked(
            self._context("packages", lock, artifacts, engine),
            engine=engine,
            no_cache=no_cache,
            # Critical imports may need the user's own packages: they are tried in the finished image.
            verify=lambda image: verify(
                engine, image, lock=lock, critical_imports=(), user=USER, progress=progress
            ),
            progress=progress,
        )
        self.packages_image.remember(lock)
        return lock

    def _context(
        self,
        part: Part,
        lock: Lock,
        artifacts: Artifacts,
        engine: Engine | None = None,
        *,
        standalone: bool = False,
    ) -> BuildContext:
        from importlib.metadata import version

        context = self.inputs.context
        is_shared = part == "packages"
        packages_reference = self.packages_image.reference(shared_layer(lock))
        if is_shared:
            environment_hash = self.packages_image.digest(lock)
            hashed_inputs = self.packages_image.input_hash
        else:
            wheels = wheel_contents(artifacts.lock, artifacts.vendored.wheels, self.inputs.plan, context)
            environment_hash = self.inputs.locked_hash(lock, self.base_inputs, wheels).digest
            built = {p.name: p.content for p in lock.vendored if p.name in self.inputs.source_digests}
            hashed_inputs = self.inputs.with_sources(built).input_hash(self.base_inputs)
        reference = f"{context.settings.repository}:{image_tag(environment_hash)}"
        return make_context(
            lock,
            base=self.base,
            environment_hash=environment_hash,
            input_hash=hashed_inputs,
            name=packages_reference if is_shared else reference,
            packages=artifacts.packages,
            vendored=artifacts.vendored,
            installer=uv_installer(artifacts.lock, self.sources)
            if part != "environment" and artifacts.lock.packages
            else None,
            templates=context.settings.templates,
            version=version("imagesync"),
            created=context.source_date_epoch or 0,
            file_conflicts=self.inputs.file_conflicts,
            shared_conda_files=self.inputs.shared_conda_files if lock.conda else None,
            part=part,
            # Nobody imports anything in an image that is built without imagesync.
            critical_imports=() if standalone else self.inputs.plan.critical_imports,
            standalone=standalone,
            packages_image=packages_reference if part == "environment" else None,
            code=None if is_shared else self.wheels.code_layer(),
            options=None if is_shared else self.inputs.plan.options,
            conda=self._conda_layer(lock, artifacts, engine) if part != "environment" else None,
            inventory=None
            if is_shared
            else image_inventory(
                self.inputs.plan,
                with_first_sources(lock, self.inputs.plan, context),
                environment_hash=environment_hash,
            ),
        )

    def _conda_layer(self, lock: Lock, artifacts: Artifacts, engine: Engine | None) -> CondaLayer | None:
        if not lock.conda:
            return None
        context = self.inputs.context
        packages = conda_packages(
            lock,
            artifacts.conda,
            wheels=artifacts.wheels,
            python=self.sources.python,
            store=context.store,
            progress=context.progress,
            shared_files=self.shared_conda_files,
        )
        installer = conda_installer(lock, self.sources)
        layer = make_conda_layer(packages, installer, progress=context.progress)
        # A context without an engine is complete in itself, and the user's own templates know no mounts.
        if engine is None or context.settings.templates is not None:
            return layer
        return with_mounted_images(engine, layer, platform=context.platform, progress=context.progress)
