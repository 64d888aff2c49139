"""Find images and the base image without an engine: in the OCI layout of the cache folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.image_reference import parse_reference, split_reference
from imagesync.core.progress import Severity
from imagesync.engine.lookup import FoundImage
from imagesync.errors import BuildError, LayoutError, RegistryError, StoreError
from imagesync.image.built_image import image_of
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.layer_form import layer_form
from imagesync.image_layout import Label, image_tag
from imagesync.pipeline.image_finder import (
    RegistrySearch,
    accepted,
    known_hash,
    needs_of_container,
    remember_known,
)
from imagesync.pipeline.layout_base import ChosenBase
from imagesync.pipeline.layout_registry import LayoutRegistry
from imagesync.pipeline.outputs import Output, write_output
from imagesync.registry.image_source import fetch_layers
from imagesync.registry.oci_layout import ImageLayout
from imagesync.store.layout import IMAGES
from imagesync.wheels.compilers import find_compiler

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.core.platforms import Platform
    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.cached_layers import CachedLayers
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_hash import BaseInputs
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash
    from imagesync.pipeline.layout_base import LayoutBase
    from imagesync.plan.plan import Plan
    from imagesync.registry.manifest import Descriptor, Index
    from imagesync.registry.oci_image import OCIImage


class LayoutFinder:
    """Finds the image of one build in the OCI layout of the cache folder, and its base image.

    Parameters
    ----------
    context
        The context of the command.
    base_digest
        The digest of the base image in its registry; by default the one that its name stands for now.
    announces
        Whether a line says where an image is that was built.
    engine_problem
        Why no engine tells about the base image, if one was asked.
    """

    def __init__(
        self, context: Context, *, base_digest: str = "", announces: bool = True, engine_problem: str = ""
    ) -> None:
        self._context = context
        self._announces = announces
        self._search = RegistrySearch(context, lambda: nullcontext(self.registry))
        # Labels of the images that were found, by their IDs.
        self._labels: dict[str, Mapping[str, str]] = {}
        self._cached: CachedLayers | None = None
        # Images that were built now, by their references: not all layers of them are in the layout.
        self._built: dict[str, OCIImage] = {}
        # The registries that images are fetched from and pushed to.
        self.registry = LayoutRegistry(context, self.layout, self._labels)
        self._chosen = ChosenBase(
            context, digest=base_digest, engine_problem=engine_problem, open_cached=lambda: self.cached
        )

    def close(self) -> None:
        """Close the base image, and the connections to registries."""
        with closing(self.registry):
            self._chosen.close()

    @property
    def layout(self) -> ImageLayout:
        """Return the layout that keeps the images of builds without an engine."""
        return ImageLayout(self._context.cache_folder / IMAGES, is_cache=True)

    @property
    def cached(self) -> CachedLayers | None:
        """Return the layers of the setting ``cache-from``; ``None`` without it, or if they can't be had."""
        context = self._context
        if self._cached is None and context.settings.cache_from:
            from imagesync.pipeline.cached_layers import open_cached_layers

            repository = self.registry.open(context.settings.cache_from)
            compression = compression_of(context.settings.compression)
            self._cached = open_cached_layers(
                repository, context.store, compression, progress=context.progress
            )
        return self._cached

    def keep(self, image: OCIImage, references: Sequence[str], written: Mapping[str, Path]) -> None:
        """Put an image that was built now in the layout, but for layers that are in registries.

        :meth:`complete` puts these there, too.

        Parameters
        ----------
        written
            The files of the layers that were written now, by their digests.
        """
        layout = self.layout
        for layer in image.manifest.layers:
            if (path := written.get(layer.digest)) is not None:
                layout.link(layer, path)
        known = {layer.digest for layer in self.base.image.manifest.layers}
        if self._cached is not None:
            known |= self._cached.blobs
        missing = {layer.digest for layer in image.manifest.layers if not layout.has(layer)}
        for reference in references:
            layout.put(image, name=reference, without=known & missing)
            self._built[reference] = image

    def complete(self, image: Image) -> None:
        """Copy the layers of *image* to the layout that are only in registries."""
        if self._context.read_only_cache is not None:
            return
        if (built := self._built.get(image.reference)) is not None:
            fetch_layers(built, self.layout, progress=self._context.progress)
        if self._announces:
            self._context.progress.line(
                f"The image is in the OCI layout {self.layout.root}."
                f" `imagesync push {image.reference}` sends it, and --output puts it elsewhere."
            )

    @property
    def base(self) -> LayoutBase:
        """Return the base image that the settings name, or the one with Python in place of the default.

        Raises
        ------
        BaseImageError
            It can't be had, or an environment can't be put on it.
        """
        return self._chosen.base

    def query_in_background(self, *, for_image: bool = False) -> None:
        """Start to open the base image if it is needed; images are read one by one, by their names."""
        if for_image:
            self._chosen.open_in_background()

    def look_again(self) -> None:
        """Do nothing: the layout is read each time."""

    def check_kept(self, *, elsewhere: bool) -> None:
        """Check that an image stays that isn't in the layout yet.

        Parameters
        ----------
        elsewhere
            Whether it is pushed or put in a further place, too.

        Raises
        ------
        StoreError
            The cache folder can only be read, and the layout is one for this build alone.
        """
        if self._context.read_only_cache is not None and not elsewhere:
            raise StoreError(
                f"The cache folder {self._context.read_only_cache} can't be written to, so the image would be"
                " kept nowhere.",
                hint="Put it elsewhere (--output oci:DIR, or --push), or set IMAGESYNC_CACHE_DIR to a folder"
                " that you can write to.",
            )

    def known_hash(self, inputs: BuildInputs) -> KnownHash | None:
        """Return the environment hash of *inputs* as far as it is known without a build, or ``None``."""
        self._chosen.choose(inputs.plan)
        return known_hash(inputs, self.base_inputs, self._context)

    def remember(self, inputs: BuildInputs, known: KnownHash) -> None:
        """Remember the environment hash of *inputs*, so that a later build need not work it out."""
        remember_known(inputs, known, self.base_inputs, self._context)

    def find(self, inputs: BuildInputs, known: KnownHash | None) -> Image | None:
        """Return the image of *inputs* that the layout has whole, if it is accepted, or ``None``."""
        if known is None:
            return None
        repository, tag = self._context.settings.repository, image_tag(known.digest)
        stored = self.layout.whole_image(f"{repository}:{tag}")
        if stored is None:
            return None
        identifier, labels = stored.manifest.config.digest, stored.config.container.labels
        self._labels[identifier] = labels
        found = FoundImage(identifier, (tag,), labels)
        image = image_of(found, repository=repository, environment_hash=known.digest)
        chosen = None if image is None else self.accepted(image, inputs, known)
        if chosen is not None:
            self.layout.touch(stored.descriptor)
        return chosen

    def check_usable(self) -> None:
        """Check that the settings ask for nothing that only an engine can do; a folder always answers.

        Raises
        ------
        BuildError
            They do; the message names the setting.
        """
        for setting, reason in needs_of_container(self._context.settings).items():
            raise needs_container(setting, reason)

    def find_in_registry(
        self,
        inputs: BuildInputs,
        known: KnownHash | None,
        *,
        tags: Sequence[str],
        no_cache: bool,
        push: bool,
    ) -> Image | None:
        """Return the image of *inputs* that a colleague or a CI job has pushed, or ``None``.

        Its layers are copied to the layout, unless it would only be pushed again. The parameters and errors
        are those of :class:`~imagesync.pipeline.image_finder.ImageFinder`.
        """
        return self._search.find(
            known,
            accepted=lambda image, known: self.accepted(image, inputs, known),
            tags=tags,
            no_cache=no_cache,
            push=push,
        )

    def accepted(self, image: Image, inputs: BuildInputs, known: KnownHash) -> Image | None:
        """Return *image* with its deviations, if its layers have the form that a build gives them now.

        Nothing has imported modules in any image of the layout.
        """
        if self._labels.get(image.image_id, {}).get(Label.LAYER_FORM) != self.layer_form(inputs):
            return None
        return accepted(image, inputs, known._replace(imports=()), strict=self._context.settings.strict)

    def layer_form(self, inputs: BuildInputs) -> str:
        """Return the form that a build gives the layers of *inputs* now."""
        settings, contents, python = self._context.settings, self.base.contents, inputs.plan.python
        return layer_form(
            settings.compression,
            max_layers=settings.max_layers,
            has_bytecode=find_compiler(python, python.minor) is not None,
            skips_scripts=settings.skip_scripts and inputs.plan.interpreter == "conda",
            base=contents,
        )

    def base_image(self, plan: Plan, *, subject: str = "The environment") -> BaseImage:
        """Return the base image, as its layers tell.

        Raises
        ------
        BaseImageError
            It can't be had, or has another interpreter than *plan* needs.
        """
        return self._chosen.to_build_on(plan, subject=subject)

    def base_to_read_for(self) -> BaseImage:
        """Return the base image as far as reading a lock file needs it: its Python and its C library."""
        return self._chosen.to_read_for()

    def base_to_lock_for(self, plan: Plan) -> BaseImage:
        """Return the base image as far as a lock needs it; its layers are read only if nothing else tells.

        A lock can't say that an image has the environment's own Python, unless that has been chosen for it.
        """
        return self._chosen.to_lock_for(plan)

    def tag(self, image: Image, tags: Sequence[str]) -> None:
        """Give the image further names in the layout."""
        if any(not parse_reference(tag).names_registry for tag in tags):
            self.check_kept(elsewhere=False)
        for tag in tags:
            self.layout.put(self.stored(image), name=tag)

    def publish(
        self,
        image: Image,
        *,
        tags: Sequence[str],
        rebuilt: bool,
        accepts: Callable[[Image], bool],
    ) -> Image:
        """Return *image* with its digest, pushed under its own tag and *tags* that name a registry."""
        del rebuilt, accepts
        references = [image.reference, *(tag for tag in tags if parse_reference(tag).names_registry)]
        stored = self.stored(image)
        digest = self.registry.push(stored, references, base=self.base.source, cached=self._cached)
        return replace(image, digest=digest)

    def find_published(self, image: Image, *, accepts: Callable[[Image], bool]) -> Image:
        """Return *image* with its digest, if the registry that its repository names has the same bytes."""
        del accepts
        if image.digest is not None or not self._search.is_possible:
            return image
        try:
            digest = self.registry.digest(image.reference)
        except RegistryError as error:
            self._context.progress.line(error.message, Severity.WARNING)
            return image
        if digest is None or digest != self._image(image.reference).digest:
            return image
        repository, _ = split_reference(image.reference)
        return replace(image, digest=f"{repository}@{digest}")

    def write(self, image: Image, output: Output, *, tags: Sequence[str]) -> None:
        """Put *image* in a further place.

        Raises
        ------
        LayoutError, EngineError, RegistryError
            It can't be read, or written there.
        """
        stored = self.stored(image)
        write_output(output, stored, reference=image.reference, tags=tags, context=self._context)

    def stored(self, image: Image) -> OCIImage:
        """Return *image* with a source of its layers."""
        if image.digest is not None and self.layout.index().find(image.reference) is None:
            # It was in the registry already, and wasn't needed here.
            self.registry.fetch(image)
        return self._image(image.reference)

    def manifest_of(self, image: Image) -> Descriptor | None:
        """Return the descriptor of the manifest of *image*, or ``None`` if only its registry has it."""
        found = self._built.get(image.reference)
        entry = self.layout.index().find(image.reference) if found is None else found.descriptor
        if entry is None or (image.digest is not None and not image.digest.endswith(entry.digest)):
            return None
        return entry

    def keep_index(self, index: Index, references: Sequence[str], images: Mapping[Platform, Image]) -> None:
        """Name *index* in the layout, if that has all its images."""
        del images
        here = {entry.digest for entry in self.layout.index().manifests}
        if all(entry.digest in here for entry in index.manifests):
            for reference in references:
                self.layout.put_index(index, name=reference)

    def _image(self, reference: str) -> OCIImage:
        if reference in self._built:
            return self._built[reference]
        found = self.layout.index().find(reference)
        if found is None:
            raise LayoutError(
                f"The image {reference} was removed while it was used.", hint="Run the command again."
            )
        self.layout.touch(found)
        return self.layout.image(found)

    @property
    def base_inputs(self) -> BaseInputs:
        """Return the inputs that all hashes cover besides the plan and the settings."""
        return self._chosen.inputs


def needs_container(setting: str, reason: str) -> BuildError:
    """Return the error for a setting that needs a running container, which *reason* says."""
    return BuildError(
        f"The setting {setting} needs a running container: it {reason}.",
        hint="Build with an engine (--builder docker), or remove the setting.",
    )
