"""Build an image without a container engine: layers from artifacts, put into the OCI layout of the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from uv import find_uv_bin

from imagesync.core.background import BackgroundCall
from imagesync.core.image_location import parse_location
from imagesync.core.progress import Severity
from imagesync.errors import BaseImageError
from imagesync.image.base import target_of
from imagesync.image.built_image import image_of_lock
from imagesync.image.dockerfile_options import environment_variables, owner_of
from imagesync.image.labels import image_labels
from imagesync.image.layers.assemble import assemble
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.environment import write_environment
from imagesync.image.layers.system import system_entries
from imagesync.image.layers.system_files import system_files
from imagesync.image.layers.verify import verify_wheels
from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart
from imagesync.image.templates import render_template
from imagesync.image_layout import HOME, PREFIX, Label, image_tag
from imagesync.inventory.inventory import image_inventory, to_json
from imagesync.lock.layers import join_layers, shared_layer
from imagesync.lock.make_lock import refuse_deviations
from imagesync.pipeline.artifact_sources import ArtifactSources
from imagesync.pipeline.artifacts import Artifacts
from imagesync.pipeline.layer_packages import LayerPackages, PackageSource
from imagesync.pipeline.local_wheels import (
    LocalWheels,
    report_differences,
    wheel_contents,
    with_first_sources,
)
from imagesync.pipeline.system_requirements import check_layers
from imagesync.pipeline.wheel_container import wheel_container
from imagesync.registry.manifest import BASE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagesync.image.built_image import Image
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.image.layers.layer import Layer
    from imagesync.image_layout import BaseImage
    from imagesync.inventory.inventory import Inventory
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash
    from imagesync.pipeline.layout_finder import LayoutFinder
    from imagesync.registry.oci_image import OCIImage

# 1980-01-01, as the files in layers.
_CREATED = 315_532_800
# Of a line in /etc/passwd and /etc/group.
_ID_FIELD = 2


def owner_ids(user: str, base: BaseContents, *, root: str) -> tuple[int, int]:
    """Return the ids of *user* and its group, as ``chown`` finds them in an image.

    Parameters
    ----------
    user
        As in a Dockerfile.
    base
        The contents of the base image, whose accounts count besides that of imagesync.
    root
        Its name, for messages.

    Raises
    ------
    BaseImageError
        It has no such user or group.
    """
    files = {path: file.content for path, file in base.accounts.items()}
    files |= {entry.path: b"".join(entry.read()) for entry in system_entries(base) if entry.kind == "file"}

    def find(name: str, path: str, kind: str) -> int:
        if name.isdecimal():
            return int(name)
        for line in files.get(path, b"").decode(errors="surrogateescape").splitlines():
            fields = line.split(":")
            if fields[0] == name and len(fields) > _ID_FIELD and fields[_ID_FIELD].isdecimal():
                return int(fields[_ID_FIELD])
        raise BaseImageError(
            f"The base image {root} has no {kind} called {name}, which the setting `user` names.",
            hint="Give numbers, such as user = '1000:1000'. With an engine, `run` can add the account.",
        )

    name, _, group = owner_of(user).partition(":")
    return find(name, "etc/passwd", "user"), find(group, "etc/group", "group") if group else 0


def _template(name: str, lock: Lock) -> str:
    return render_template(name, {"prefix": str(PREFIX), "lock": lock}, folder=None)


@dataclass(frozen=True)
class LayerBuilder:
    """Builds the image of *inputs* on the base image *base* by writing its layers.

    Parameters
    ----------
    inputs
        The inputs of the build.
    base
        The base image.
    finder
        Has the layout that gets the image, and the contents of the base image.
    for_files
        Whether only a lock is written, and no image is built.
    """

    inputs: BuildInputs
    base: BaseImage
    finder: LayoutFinder
    for_files: bool = False

    @cached_property
    def sources(self) -> ArtifactSources:
        """Return the sources of the artifacts; an engine that answers may build wheels of the platform."""
        container = wheel_container(self.base, self.inputs.context)
        return replace(self.inputs.artifact_sources(for_files=self.for_files), container=container)

    @cached_property
    def lock(self) -> Lock:
        """Return the exact artifact of each package; indexes and channels are asked for it, if need be."""
        return self._locking.result()

    def lock_in_background(self) -> None:
        """Start to lock while local wheels are made; an error is raised where the lock is needed."""
        _ = self._locking

    @cached_property
    def _locking(self) -> BackgroundCall[Lock]:
        sources = self.sources
        find_uv_bin()  # loads sysconfig, which two threads can't do at once
        return BackgroundCall(lambda: self.inputs.lock(self.base, sources))

    @cached_property
    def wheels(self) -> LocalWheels:
        """Return the wheels of local packages."""
        return LocalWheels(self.inputs, self.sources, target_of(self.inputs.plan, self.base))

    @property
    def made_inputs(self) -> BuildInputs:
        """Return the inputs with all files that went into the local wheels."""
        return self.wheels.made_inputs

    def planned_hash(self) -> KnownHash | None:
        """Return the environment hash where the installed versions are the lock, or ``None``."""
        return self.wheels.planned_hash(self.finder.base_inputs)

    def locked_hash(self) -> KnownHash:
        """Return the environment hash of the lock."""
        lock = join_layers(shared_layer(self.lock), self.wheels.lock)
        refuse_deviations(self.inputs.plan, lock)
        return self.inputs.locked_hash(lock, self.finder.base_inputs, self.wheels.contents)

    def refuse_failing_imports(self) -> None:
        """Do nothing: a plan that is strict has been refused, because only a container tests imports."""

    def build(self, *, tags: tuple[str, ...] = (), no_cache: bool = False) -> Image:
        """Return the image, which the layout has under its reference and *tags* then.

        Parameters
        ----------
        tags
            Further references that the image gets.
        no_cache
            Has no effect: layers don't depend on what was built before.

        Raises
        ------
        BuildError
            The settings, or a package, need a running container.
        """
        del no_cache
        _ = self._created  # refuses a wrong time before anything is fetched
        self._workdir()  # refuses an account that the base lacks, before anything is fetched
        packages = self._packages.fetch()
        artifacts = packages.artifacts
        refuse_deviations(self.inputs.plan, artifacts.lock)
        report_differences(artifacts.lock, self.inputs.context.progress)
        self._check_system(packages.wheels)
        inventory = self._inventory(artifacts)
        environment_hash = inventory.environment_hash
        layers = self._layers(packages, inventory)
        image = self._image(packages, layers, self._labels(artifacts.lock, inventory))
        reference = f"{self.inputs.context.settings.repository}:{image_tag(environment_hash)}"
        written = {layer.blob.digest: layer.path for layer in layers if layer.is_new and layer.path}
        self.finder.keep(image, (reference, *tags), written)
        if not self.inputs.context.settings.keep_archives:
            self.inputs.context.store.prune_archives(with_own=True)
        return image_of_lock(
            artifacts.lock,
            reference=reference,
            image_id=image.manifest.config.digest,
            environment_hash=environment_hash,
        )

    @cached_property
    def _packages(self) -> PackageSource:
        lock = self.wheels.in_lock(self.lock)
        return PackageSource(self.inputs, lock, self.sources, self.finder.base, self.finder.cached)

    def _check_system(self, wheels: Sequence[WheelPart | KnownWheel]) -> None:
        """Report the libraries and programs that packages need and the base image lacks."""
        base = self.finder.base
        listed = system_files(base.contents, base.image.config.container.variables)
        here = [part.wheel for part in wheels if isinstance(part, WheelPart)]
        check_layers(self.inputs, self.base, listed=listed, wheels=here)

    def _layers(self, packages: LayerPackages, inventory: Inventory) -> tuple[Layer, ...]:
        """Return the layers of the environment, and remember what they were made of."""
        context, plan, lock = self.inputs.context, self.inputs.plan, packages.artifacts.lock
        base, cached, conda = self.finder.base, self.finder.cached, packages.conda
        verify_wheels(packages.wheels, lock)
        for name in conda.scripts if conda is not None else ():
            context.progress.line(
                f"The post-link script of the conda package {name} is skipped", Severity.DEVIATION
            )
        files = self._packages.files_of(packages)
        layers = write_environment(
            replace(
                files,
                code=self.wheels.code_layer(),
                copied=plan.options.files,
                inventory=to_json(inventory),
                activation=_template("image/activate.sh.j2", lock) if lock.conda else "",
                profile=_template("image/profile.sh.j2", lock),
                workdir=self._workdir(),
            ),
            budget=context.settings.max_layers - len(base.image.config.diff_ids),
            store=context.store,
            compression=compression_of(context.settings.compression),
            progress=context.progress,
            **({"known": cached.layer} if cached is not None else {}),
        )
        wheels = [part for part in packages.wheels if isinstance(part, WheelPart)]
        archives = [
            (part, conda.contents[part.locked.name])
            for part in files.conda_parts(context.store)
            if conda is not None
        ]
        locked = packages.artifacts.locked_digests
        with_digests = [(part, locked[part.filename]) for part in wheels if part.filename in locked]
        self._packages.stored.remember(layers, with_digests, archives)
        if cached is not None:
            cached.add(
                layers, packages.wheels, base=base.image.digest, cache=context.cache_folder, conda=archives
            )
        return layers

    def _image(self, packages: LayerPackages, layers: Sequence[Layer], labels: Mapping[str, str]) -> OCIImage:
        plan, lock = self.inputs.plan, packages.artifacts.lock
        base, cached, conda = self.finder.base, self.finder.cached, packages.conda
        return assemble(
            base.image,
            layers,
            options=plan.options,
            environment=environment_variables(lock, plan.options),
            labels=labels,
            conda=conda is not None,
            activated=conda is not None and not conda.activates,
            created=self._created,
            elsewhere=cached.repository if cached is not None else None,
        )

    def _workdir(self) -> tuple[str, int, int] | None:
        """Return the working directory with the ids of its owner, unless it's the home."""
        options, root = self.inputs.plan.options, self.base.root
        uid, gid = owner_ids(options.user, self.finder.base.contents, root=root)
        return None if options.workdir == str(HOME) else (options.workdir, uid, gid)

    @property
    def _created(self) -> int:
        epoch = self.inputs.context.source_date_epoch
        return _CREATED if epoch is None else epoch

    def _inventory(self, artifacts: Artifacts) -> Inventory:
        """Return the inventory of the image, with the environment hash."""
        context, plan, lock = self.inputs.context, self.inputs.plan, artifacts.lock
        wheels = wheel_contents(lock, artifacts.vendored.wheels, plan, context)
        digest = self.inputs.locked_hash(lock, self.finder.base_inputs, wheels).digest
        return image_inventory(plan, with_first_sources(lock, plan, context), environment_hash=digest)

    def _labels(self, lock: Lock, inventory: Inventory) -> dict[str, str]:
        """Return the labels of the image."""
        context = self.inputs.context
        labels = image_labels(
            lock,
            self.base,
            environment_hash=inventory.environment_hash,
            input_hash="",
            name=f"{context.settings.repository}:{image_tag(inventory.environment_hash)}",
            version=version("imagesync"),
            created=self._created,
            file_conflicts=self.inputs.file_conflicts,
            shared_conda_files=self.inputs.shared_conda_files if lock.conda else None,
            # Nobody has imported anything in it.
            critical_imports=(),
            inventory=inventory,
            own=self.inputs.plan.options.labels,
        )
        labels[Label.LAYER_FORM] = self.finder.layer_form(self.inputs)
        # It covers the user's indexes, and the same content has the same bytes wherever it came from.
        del labels[Label.INPUT_HASH]
        if parse_location(self.base.root, given_as="base").transport != "registry":
            # A path of this machine means nothing elsewhere.
            del labels[BASE_NAME]
        return labels
