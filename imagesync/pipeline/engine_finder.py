"""Find images and the base image in a container engine, by one request, and in a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from imagesync.core.background import BackgroundCall
from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import parse_reference
from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.core.progress import Severity
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.lookup import Lookup, look_up
from imagesync.errors import EngineError, EngineNotFound, ForeignPlatform, RegistryError, UsageError
from imagesync.image.base import check_interpreter, ensure_base, ensure_stage, find_base
from imagesync.image.built_image import image_of
from imagesync.image.known_base import facts_of, known_base, known_python, refuse_contradiction, remember
from imagesync.image_layout import image_tag
from imagesync.pipeline.image_finder import (
    RegistrySearch,
    accepted,
    base_inputs,
    known_hash,
    needs_of_container,
    remember_known,
)
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.engine.endpoint import Endpoint
    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_hash import BaseInputs
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash
    from imagesync.pipeline.outputs import Output
    from imagesync.pipeline.registry_images import RegistryImages
    from imagesync.plan.plan import Plan
    from imagesync.registry.manifest import Descriptor, Index
    from imagesync.registry.oci_image import OCIImage
    from imagesync.settings.model import Settings


class EngineFinder:
    """Finds the image of one build in the engine; it remembers what the engine answered.

    Parameters and errors of its methods are those of :class:`~imagesync.pipeline.image_finder.ImageFinder`.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._query: BackgroundCall[Lookup] | None = None
        self._registry = RegistrySearch(context, self._open_registry)

    def query_in_background(self, *, for_image: bool = False) -> None:
        """Start to ask the engine for its images; an error is raised where the answer is needed."""
        del for_image
        settings, environ = self._context.settings, self._context.environ
        self._query = BackgroundCall(
            lambda: look_up(find_endpoint(environ), base=settings.base, repository=settings.repository)
        )

    def look_again(self) -> None:
        """Ask the engine anew: another build may have made the image meanwhile.

        Raises
        ------
        EngineError
            There is no engine, or it doesn't answer.
        """
        self.query_in_background()
        _ = self.lookup

    def check_usable(self) -> None:
        """Raise an error if no engine answers, with a hint about what can be done without one.

        Raises
        ------
        EngineError
            There is no engine, it doesn't answer, or doesn't run the image's platform.
        """
        try:
            _ = self.lookup
        except EngineNotFound as error:
            without = (
                "A build needs an engine, for it has the base image and knows its digest. `imagesync lock`"
                " needs none, nor does `imagesync render -o DIR`: `docker build DIR` makes the image"
                " elsewhere."
            )
            error.hint = "\n".join(filter(None, (error.hint, without)))
            raise
        if self._context.platform == DEFAULT_PLATFORM:
            return  # asking the engine for its own takes a fifth of a second
        try:
            self.check_runs_platform(by_emulation=self._is_needed)
        except ForeignPlatform as error:
            if error.hint:
                error.hint += ", or build without an engine: --builder oci"
            raise

    @property
    def _is_needed(self) -> bool:
        """Return False if layers that imagesync writes itself will do."""
        settings = self._context.settings
        return settings.builder != "auto" or bool(needs_of_container(settings))

    def check_runs_platform(self, *, by_emulation: bool = True) -> None:
        """Check that the engine runs programs of the image's platform, by its own processor or an emulator.

        Parameters
        ----------
        by_emulation
            Whether an emulator will do.

        Raises
        ------
        EngineError
            There is no engine, or it doesn't answer.
        ForeignPlatform
            It doesn't run them.
        """
        context, platform = self._context, self._context.platform
        with context.open_engine() as engine:
            own = engine.info().platform
            if not is_foreign(platform, own):
                return
            if not by_emulation:
                raise ForeignPlatform(f"the engine runs {own}, and the image is for {platform}")
            from imagesync.engine.emulation import emulates

            if not emulates(engine, platform, cache=context.cache_folder / ANSWERS):
                raise ForeignPlatform(
                    f"The container engine runs {own}, and doesn't emulate {platform}.",
                    hint="Install an emulator (Debian and Ubuntu: apt-get install qemu-user-static)",
                )

    @property
    def lookup(self) -> Lookup:
        """Return the images that the engine had when it was asked last."""
        if self._query is None:
            self.query_in_background()
        assert self._query is not None  # noqa: S101  set above
        return self._query.result()

    def check_kept(self, *, elsewhere: bool) -> None:
        """Do nothing: an engine keeps images."""
        del elsewhere

    def known_hash(self, inputs: BuildInputs) -> KnownHash | None:
        """Return the environment hash of *inputs* as far as it is known without a build, or ``None``."""
        return known_hash(inputs, self._known_base_inputs(), self._context)

    def remember(self, inputs: BuildInputs, known: KnownHash) -> None:
        """Remember the environment hash of *inputs*, so that a later build need not work it out."""
        remember_known(inputs, known, self._known_base_inputs(), self._context)

    def find(self, inputs: BuildInputs, known: KnownHash | None) -> Image | None:
        """Return the image of *inputs* that the engine has, if it is accepted, or ``None``."""
        found = None if known is None else self.lookup.tagged(image_tag(known.digest))
        if known is None or found is None:
            return None
        image = image_of(found, repository=self._context.settings.repository, environment_hash=known.digest)
        return None if image is None else self.accepted(image, inputs, known)

    def tag(self, image: Image, tags: Sequence[str]) -> None:
        """Give the image further names."""
        if tags:
            with self._context.open_engine() as engine:
                for tag in tags:
                    engine.tag(image.image_id, tag)

    def publish(
        self, image: Image, *, tags: Sequence[str], rebuilt: bool, accepts: Callable[[Image], bool]
    ) -> Image:
        """Return *image* as the registry has it, pushed if it lacks its environment."""
        with self._open_registry() as images:
            return images.publish(image, tags=tags, rebuilt=rebuilt, accepts=accepts)

    def find_published(self, image: Image, *, accepts: Callable[[Image], bool]) -> Image:
        """Return *image* with its digest, if the registry that its repository names has it."""
        if image.digest is not None or not self._registry.is_possible:
            return image
        with self._open_registry() as images:
            try:
                return images.find_published(image, accepts=accepts) or image
            except RegistryError as error:
                self._context.progress.line(error.message, Severity.WARNING)
                return image

    def write(self, image: Image, output: Output, *, tags: Sequence[str]) -> None:
        """Put *image* in a further place; the engine has it already."""
        del image, output, tags

    def stored(self, image: Image) -> OCIImage:
        """Raise an error: an engine's image is written by itself."""
        raise EngineError(f"{image.reference} is in the engine.", hint="Write it with `docker save`.")

    def manifest_of(self, image: Image) -> Descriptor | None:
        """Return ``None``: an engine tells no descriptor of a manifest, and the registry does."""
        del image
        return None

    def keep_index(self, index: Index, references: Sequence[str], images: Mapping[Platform, Image]) -> None:
        """Give the names that no registry gets to the image of the engine's own platform: it keeps no index.

        Raises
        ------
        EngineError
            The engine runs none of the images by its own processor.
        """
        del index
        names = [each for each in references if not parse_reference(each).names_registry]
        if names:
            own = self._context.engine_platform(images)
            self.tag(images[own], names)
            self._context.progress.line(
                f"{', '.join(names)} names the image for {own} alone: a container engine keeps no index"
            )

    def complete(self, image: Image) -> None:
        """Do nothing: an engine has images whole."""

    def close(self) -> None:
        """Close what was opened to find images."""

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

        It is pulled, unless it would only be pushed again.
        """
        return self._registry.find(
            known,
            accepted=lambda image, known: self.accepted(image, inputs, known),
            tags=tags,
            no_cache=no_cache,
            push=push,
        )

    def accepted(self, image: Image, inputs: BuildInputs, known: KnownHash) -> Image | None:
        """Return *image* with its deviations from the environment of *inputs*; ``None`` if it won't do."""
        return accepted(image, inputs, known, strict=self._context.settings.strict)

    def base_image(self, plan: Plan, *, subject: str = "The environment") -> BaseImage:
        """Return the base image: one that the engine has, or a new one.

        *plan* is that of *subject*, the environment or a lock file, in messages.

        Raises
        ------
        BaseImageError
            There is none, or its interpreter isn't the one that *plan* needs.
        UsageError
            The settings contradict what it has.
        """
        base = find_base(self.lookup, settings=self._context.settings)
        if base is None:
            base = self._make_base()
        else:
            self._remember(base)
        check_interpreter(base, plan, subject=subject)
        return base

    def base_to_read_for(self) -> BaseImage:
        """Return the base image as far as reading a lock file needs it: its Python and its C library.

        Raises
        ------
        BaseImageError
            There is no engine, and nothing else knows enough of it.
        """
        base = self._known_base()
        is_known = base is not None and base.python_version.count(".") == 2
        return base if base is not None and is_known else self._make_base()

    def base_to_lock_for(self, plan: Plan) -> BaseImage:
        """Return the base image as far as a lock needs it; it's made only if nothing else knows it.

        Raises
        ------
        BaseImageError
            There is no engine, and nothing else knows enough of it; or its interpreter isn't the one that
            *plan* needs.
        UsageError
            The settings contradict what is known of it.
        """
        base = self._known_base()
        if base is None:
            return self.base_image(plan)
        check_interpreter(base, plan)
        return base

    def base_for_wheels(self, base: BaseImage) -> tuple[Endpoint, BaseImage]:
        """Return the engine's endpoint, and *base* with a compiler, to build wheels there."""
        context = self._context
        base = base if base.image_id else self._make_base()
        with context.open_engine() as engine:
            base = ensure_stage(engine, base, "build", settings=context.settings, progress=context.progress)
        return find_endpoint(context.environ), base

    def _known_base(self) -> BaseImage | None:
        context = self._context
        digest = problem = ""
        try:
            lookup = self.lookup
        except EngineError as error:
            problem = error.message
            context.progress.line(f"Going on without an engine: {problem}", Severity.WARNING)
        else:
            base = find_base(lookup, settings=context.settings)
            if base is not None:
                self._remember(base)
                return base
            digest = lookup.base_digest or ""
        return known_base(
            context.settings,
            cache=context.cache_folder,
            progress=context.progress,
            digest=digest,
            problem=problem,
        )

    def _make_base(self) -> BaseImage:
        with self._context.open_engine() as engine:
            base = ensure_base(engine, settings=self._context.settings, progress=self._context.progress)
        self._remember(base)
        return base

    def _remember(self, base: BaseImage) -> None:
        refuse_contradiction(self._context.settings, facts_of(base))
        remember(self._context.cache_folder, base, self._context.platform)

    def _open_registry(self) -> AbstractContextManager[RegistryImages]:
        from imagesync.pipeline.registry_images import open_registry_images

        return open_registry_images(self._context)

    def _known_base_inputs(self) -> BaseInputs | None:
        """Return the inputs that all hashes cover as far as they are known without making the base image."""
        root_digest, settings = self._root_digest(), self._context.settings
        if root_digest is None:
            return None
        base = find_base(self.lookup, settings=settings)
        if base is not None:
            return base_inputs(settings, root_digest, base.python_version)
        python = known_python(settings, cache=self._context.cache_folder, digest=root_digest)
        return base_inputs(settings, root_digest, python)

    def _root_digest(self) -> str | None:
        """Return the digest of the root image, from its registry if the engine doesn't have it."""
        if self.lookup.base_digest is not None or not self._registry.is_possible:
            return self.lookup.base_digest
        with self._open_registry() as images:
            return images.base_digest(self._context.settings.base)


def check_base_of_engine(settings: Settings) -> None:
    """Check that an engine can have the base image by its name.

    Raises
    ------
    UsageError
        It is in a layout or an archive, or is named as ``docker-daemon:``.
    """
    if not is_in_registry(settings):
        raise UsageError(
            f"The base image {settings.base} is outside of the engine, which builds the image.",
            hint="Load the image and name it as the engine does, or build without it:"
            " imagesync build --builder oci",
        )


def is_foreign(platform: Platform, own: str) -> bool:
    """Return True if an engine of the platform *own* runs programs of *platform* by an emulator at best.

    Programs of the default platform count as run by every engine.
    """
    return platform != DEFAULT_PLATFORM and not platform.is_platform_of(own)


def is_in_registry(settings: Settings) -> bool:
    """Return True if the base image is named as an engine names it: not in a layout, archive or engine."""
    location = parse_location(settings.base, given_as=settings.origins.get("base", "base"))
    return location.transport == "registry"
