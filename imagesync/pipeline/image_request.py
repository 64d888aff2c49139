"""One request for an image: found by its hash, or built; then named, pushed and attested as asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from imagesync.core.progress import Severity
from imagesync.pipeline.known_hashes import KnownHash

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.image_builder import ImageBuilder
    from imagesync.pipeline.image_finder import ImageFinder
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.outputs import Output


@dataclass(frozen=True)
class RequestOptions:
    """What is asked of an image besides its content.

    Parameters
    ----------
    tags, no_cache, push, with_digest
        As for :meth:`imagesync.session.Session.build`.
    outputs
        Where else the image is put.
    is_locked
        Whether it is the image of a lock file.
    index_tags
        References outside of its repository that the index of the image gets, for which it must be here.
    """

    tags: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    no_cache: bool = False
    push: bool = False
    with_digest: bool = False
    is_locked: bool = False
    index_tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageRequest:
    """A request for an image.

    Parameters
    ----------
    context
        The context of the command.
    finder
        Looks for images, names and publishes them.
    open_builder
        Returns the builder of an image on a base image.
    inputs
        What the image is made from.
    options
        What is asked of it.
    """

    context: Context
    finder: ImageFinder
    open_builder: Callable[[BuildInputs, BaseImage], ImageBuilder]
    inputs: BuildInputs
    options: RequestOptions

    @cached_property
    def known(self) -> KnownHash | None:
        """Return the environment hash as far as it is known without a build, or ``None``.

        Raises
        ------
        BaseImageError
            The base image can't be had; an engine is asked for it later.
        """
        return self.finder.known_hash(self.inputs)

    def image(self) -> Image:
        """Return the image, found or built, and pushed if that was asked for."""
        finder, inputs, push = self.finder, self.inputs, self.options.push
        image, is_published = self._find(inputs, self.known)
        if image is None:
            image, is_published = self._build(inputs)
            if not push:
                finder.complete(image)
        if is_published or not (push or self.options.with_digest):
            return image
        artifacts = image.artifacts_digest if self.options.is_locked else ""
        known = KnownHash(image.environment_hash, image.deviations, artifacts, image.verified_imports)

        def accepts(other: Image) -> bool:
            return finder.accepted(other, inputs, known) is not None

        published = (
            finder.publish(image, tags=self.options.tags, rebuilt=self.options.no_cache, accepts=accepts)
            if push
            else finder.find_published(image, accepts=accepts)
        )
        return replace(published, deviations=image.deviations)

    def write(self, image: Image, output: Output) -> None:
        """Put *image* in a further place."""
        self.finder.write(image, output, tags=self.options.tags)

    def attest(self, image: Image) -> None:
        """Attach SBOM and provenance to *image* in its registry."""
        from imagesync.pipeline.attest import attest

        def lock_and_base() -> tuple[Lock, BaseImage]:
            checked = self.inputs.checked()
            base = self.finder.base_to_lock_for(checked.plan)
            return checked.lock(base, checked.artifact_sources(for_files=True)), base

        assert image.digest is not None  # noqa: S101  it was pushed
        attest(image.digest, lock_and_base, context=self.context)

    def _find(self, inputs: BuildInputs, known: KnownHash | None) -> tuple[Image | None, bool]:
        """Return the image of *inputs*, from the engine or the registry, and whether nothing is to be pushed.

        An image that was found gets the tags, and its deviations are reported.
        """
        finder, options = self.finder, self.options
        image = None if options.no_cache else finder.find(inputs, known)
        is_published = False
        if image is None:
            if known is not None:
                finder.check_kept(elsewhere=options.push or bool(options.outputs))
            tags = (*options.tags, *options.index_tags)
            image = finder.find_in_registry(
                inputs, known, tags=tags, no_cache=options.no_cache, push=options.push
            )
            is_published = image is not None and options.push and not options.tags
        if image is None or known is None:
            return None, False
        finder.remember(inputs, known)
        finder.tag(image, options.tags)
        if image.deviations:
            from imagesync.lock.lock import Deviation

            for deviation in map(Deviation.from_dict, image.deviations):
                self.context.progress.line(deviation.message, Severity.DEVIATION)
        return image, is_published

    def _build(self, inputs: BuildInputs) -> tuple[Image, bool]:
        """Return the image of *inputs*, built unless it is found once its content is known.

        Local wheels are made for that, and versions chosen that the scan doesn't tell. The second value is
        whether nothing is to be pushed.
        """
        from imagesync.image_layout import image_tag
        from imagesync.pipeline.artifact_sources import check_conda_installer

        context, finder = self.context, self.finder
        inputs = inputs.checked()
        check_conda_installer(inputs.plan, context.settings)
        builder = self.open_builder(inputs, finder.base_image(inputs.plan, subject=inputs.subject))
        builder.refuse_failing_imports()
        builder.lock_in_background()
        image, is_published = self._find(builder.made_inputs, builder.planned_hash())
        if image is not None:
            return image, is_published
        known = builder.locked_hash()
        # A second build of the same environment waits here, and finds the image of the first one.
        with context.store.lock(f"build-{image_tag(known.digest)}", progress=context.progress):
            finder.look_again()
            image, is_published = self._find(builder.made_inputs, known)
            if image is not None:
                return image, is_published
            image = builder.build(tags=self.options.tags, no_cache=self.options.no_cache)
        known = known._replace(digest=image.environment_hash, deviations=image.deviations)
        finder.remember(builder.made_inputs, known)
        return image, False
