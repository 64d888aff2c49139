"""What a build asks of the place that keeps images: an engine, or the OCI layout of the cache folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from imagesync.core.image_reference import parse_reference
from imagesync.core.progress import Severity
from imagesync.errors import RegistryError
from imagesync.image.base import base_identity
from imagesync.image.templates import build_files_digest
from imagesync.pipeline.environment_hash import BaseInputs
from imagesync.pipeline.known_hashes import joined_deviations, recall_hash, remember_hash

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash
    from imagesync.pipeline.outputs import Output
    from imagesync.plan.plan import Plan
    from imagesync.registry.manifest import Descriptor, Index
    from imagesync.registry.oci_image import OCIImage
    from imagesync.settings.model import Settings


class ImageFinder(Protocol):
    """Finds the image of one build and its base image, and puts an image where it is wanted."""

    def query_in_background(self, *, for_image: bool = False) -> None:
        """Start to look for images; an error is raised where the answer is needed.

        Parameters
        ----------
        for_image
            Whether an image will be found or built, for which the base image has to be read.
        """

    def look_again(self) -> None:
        """Look for images anew: another build may have made the image meanwhile.

        Raises
        ------
        EngineError
            There is no engine, or it doesn't answer.
        """

    def check_usable(self) -> None:
        """Check that images can be built here.

        Raises
        ------
        EngineError
            There is no engine, or it doesn't answer.
        BuildError
            The settings ask for what only an engine can do.
        """

    def check_kept(self, *, elsewhere: bool) -> None:
        """Check that an image stays that isn't here yet.

        Parameters
        ----------
        elsewhere
            Whether it is pushed or put in a further place, too.

        Raises
        ------
        StoreError
            It would be in a folder that goes at the end.
        """

    def known_hash(self, inputs: BuildInputs) -> KnownHash | None:
        """Return the environment hash of *inputs* as far as it is known without a build, or ``None``."""

    def remember(self, inputs: BuildInputs, known: KnownHash) -> None:
        """Remember the environment hash of *inputs*, so that a later build need not work it out."""

    def find(self, inputs: BuildInputs, known: KnownHash | None) -> Image | None:
        """Return the image of *inputs*, if it is here and is accepted, or ``None``.

        Parameters
        ----------
        inputs
            The inputs of the build.
        known
            The environment hash of *inputs*; no image is found without one.

        Raises
        ------
        EngineError
            There is no engine, or it doesn't answer.
        """

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

        It is fetched, unless it would only be pushed again.

        Parameters
        ----------
        inputs
            The inputs of the build.
        known
            The environment hash of *inputs*; without it nothing is looked up. The registry is asked
            once per hash.
        tags
            Further references that the image will get.
        no_cache
            Whether the image will be built in any case.
        push
            Whether the image will be pushed: if it isn't found, the user must be allowed to push.

        Raises
        ------
        RegistryError
            The image will be pushed, and the registry refuses or doesn't answer.
        """

    def accepted(self, image: Image, inputs: BuildInputs, known: KnownHash) -> Image | None:
        """Return *image* with its deviations from the environment of *inputs*; ``None`` if it won't do."""

    def base_image(self, plan: Plan, *, subject: str = "The environment") -> BaseImage:
        """Return the base image to build on.

        *plan* is that of *subject*, the environment or a lock file, in messages.

        Raises
        ------
        BaseImageError
            There is none, or its interpreter isn't the one that *plan* needs.
        UsageError
            The settings contradict what it has.
        """

    def base_to_read_for(self) -> BaseImage:
        """Return the base image as far as reading a lock file needs it: its Python and its C library.

        Raises
        ------
        BaseImageError
            It can't be had.
        """

    def base_to_lock_for(self, plan: Plan) -> BaseImage:
        """Return the base image as far as a lock needs it.

        Raises
        ------
        BaseImageError
            It can't be had, or its interpreter isn't the one that *plan* needs.
        UsageError
            The settings contradict what is known of it.
        """

    def tag(self, image: Image, tags: Sequence[str]) -> None:
        """Give the image further names."""

    def publish(
        self, image: Image, *, tags: Sequence[str], rebuilt: bool, accepts: Callable[[Image], bool]
    ) -> Image:
        """Return *image* as the registry has it, pushed if it lacks its environment.

        Parameters
        ----------
        image
            An image that was found or built.
        tags
            Further references that it has.
        rebuilt
            Whether it was built though the registry may have its environment.
        accepts
            Returns whether another image of the same environment hash will do, too.
        """

    def find_published(self, image: Image, *, accepts: Callable[[Image], bool]) -> Image:
        """Return *image* with its digest, if the registry that its repository names has it."""

    def complete(self, image: Image) -> None:
        """Fetch what is missing here of an image that was built now."""

    def write(self, image: Image, output: Output, *, tags: Sequence[str]) -> None:
        """Put *image* in a further place.

        Raises
        ------
        LayoutError, EngineError, RegistryError
            It can't be read, or written there.
        """

    def manifest_of(self, image: Image) -> Descriptor | None:
        """Return the descriptor of the manifest of *image*, or ``None`` if only its registry has it."""

    def stored(self, image: Image) -> OCIImage:
        """Return *image* with a source of its layers.

        Raises
        ------
        LayoutError, EngineError, RegistryError
            It can't be read.
        """

    def keep_index(self, index: Index, references: Sequence[str], images: Mapping[Platform, Image]) -> None:
        """Give names to the index of several images; a place that keeps none gives them to one of these.

        Raises
        ------
        EngineError
            The engine runs none of them by its own processor.
        """

    def close(self) -> None:
        """Close what was opened to find images."""


class SearchedRegistry(Protocol):
    """The repository of a registry that a build looks for its image in."""

    def find(self, environment_hash: str) -> Image | None:
        """Return the image with *environment_hash*, or ``None``; nothing is fetched."""

    def fetch(self, image: Image) -> Image:
        """Return an image that :meth:`find` found, fetched."""

    def check_push(self, tags: Sequence[str]) -> None:
        """Check that the user may push there and to the registries that *tags* name."""


class RegistrySearch:
    """The look-ups of one build in the registry that the setting ``repository`` names.

    Parameters
    ----------
    context
        The context of the command.
    open_registry
        Opens the registry.
    """

    def __init__(
        self, context: Context, open_registry: Callable[[], AbstractContextManager[SearchedRegistry]]
    ) -> None:
        self._context = context
        self._open = open_registry
        self._asked_for: set[str] = set()

    @property
    def is_possible(self) -> bool:
        """Return True if the repository names a registry."""
        return parse_reference(self._context.settings.repository).names_registry

    def find(
        self,
        known: KnownHash | None,
        *,
        accepted: Callable[[Image, KnownHash], Image | None],
        tags: Sequence[str],
        no_cache: bool,
        push: bool,
    ) -> Image | None:
        """Return the image with the environment hash *known* if it is *accepted*, or ``None``.

        The others are as for :meth:`ImageFinder.find_in_registry`.
        """
        digest, progress = "" if known is None else known.digest, self._context.progress
        if not self.is_possible or digest in self._asked_for:
            return None
        if not push and (no_cache or known is None):
            return None
        is_first = not self._asked_for
        self._asked_for.add(digest)
        with self._open() as registry:
            try:
                found = None if known is None or no_cache else registry.find(known.digest)
                image = accepted(found, known) if found is not None and known is not None else None
                if image is not None:
                    progress.line(f"The registry has it already: {image.digest}")
                    # It would only be pushed again.
                    return image if push and not tags else registry.fetch(image)
                if push and is_first:
                    registry.check_push(tags)
            except RegistryError as error:
                if push:
                    raise
                progress.line(f"{error.message} Building without it.", Severity.WARNING)
        return None


def known_hash(inputs: BuildInputs, base: BaseInputs | None, context: Context) -> KnownHash | None:
    """Return the environment hash of *inputs* on *base* as far as it is known without a build, or ``None``.

    Under ``strict`` it must be remembered: a build has made the other checks then.
    """
    if base is None:
        return None
    remembered = recall_hash(context.cache_folder, inputs.input_hash(base))
    return inputs.known_hash(base) if remembered is None and not context.settings.strict else remembered


def remember_known(inputs: BuildInputs, known: KnownHash, base: BaseInputs | None, context: Context) -> None:
    """Remember the environment hash of *inputs* on *base*, if that is known."""
    if base is not None:
        remember_hash(context.cache_folder, inputs.input_hash(base), known)


def accepted(image: Image, inputs: BuildInputs, known: KnownHash, *, strict: bool) -> Image | None:
    """Return *image* with its deviations from the environment of *inputs*; ``None`` if it won't do.

    An image with deviations won't do where none may be (*strict*): its build says why there are some.
    """
    if known.artifacts and image.artifacts_digest != known.artifacts:
        return None
    if not set(known.imports) <= set(image.verified_imports) or not inputs.accepts(image):
        return None
    deviations = known.deviations
    if image.deviations:  # else a lock file needn't be parsed
        deviations = joined_deviations(image.deviations, deviations, inputs.plan)
    return None if deviations and strict else replace(image, deviations=deviations)


def base_inputs(settings: Settings, root_digest: str, python_version: str) -> BaseInputs:
    """Return the inputs that all hashes cover besides the plan and the settings.

    Parameters
    ----------
    settings
        Name the system packages and the templates.
    root_digest
        The digest of the base's root image, ``sha256:<hex>``.
    python_version
        Of the base's interpreter; empty if it isn't known.
    """
    return BaseInputs(
        base_identity(root_digest, settings), build_files_digest(settings.templates), python_version
    )


def needs_of_container(settings: Settings) -> dict[str, str]:
    """Return the settings that need a running container, each with the reason."""
    reasons = {
        "apt": "installs Debian packages" if settings.apt else "",
        "run": "runs commands" if settings.run else "",
        "toolchain": "installs a compiler" if settings.toolchain else "",
        "templates": "builds by a Dockerfile of your own" if settings.templates else "",
        "strict": "imports modules in the finished image" if settings.strict else "",
    }
    return {setting: reason for setting, reason in reasons.items() if reason}
