"""One request for an image: found by its hash, or built; then named, pushed and attested as asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class ImageRequest:
    """A request for an image.

    Parameters
    ----------
    context
        The context of the command.
    finder
        Looks for images, names and publishes them.
    builder
        Returns the builder of an image on a base image.
    tags, no_cache, push
        As for :meth:`imagesync.session.Session.build`.
    is_locked
        Whether it is the image of a lock file.
    """

    context: Context
    finder: ImageFinder
    builder: Callable[[BuildInputs, BaseImage], ImageBuilder]
    tags: tuple[str, ...]
    no_cache: bool
    push: bool
    is_locked: bool

    def image(self, inputs: BuildInputs, *, with_digest: bool = False) -> Image:
        """Return the image of *inputs*, found or built, and pushed if that was asked for.

        *with_digest* is as for :meth:`imagesync.session.Session.build`.
        """
        finder, push = self.finder, self.push
        image, is_published = self._find(inputs, finder.known_hash(inputs))
        if image is None:
            image, is_published = self._build(inputs)
            if not push:
                finder.complete(image)
        if is_published or not (push or with_digest):
            return image
        artifacts = image.artifacts_digest if self.is_locked else ""
        known = KnownHash(image.environment_hash, image.deviations, artifacts, image.verified_imports)

        def accepts(other: Image) -> bool:
            return finder.accepted(other, inputs, known) is not None

        published = (
            finder.publish(image, tags=self.tags, rebuilt=self.no_cache, accepts=accepts)
            if push
            else finder.find_published(image, accepts=accepts)
        )
        return replace(published, deviations=image.deviations)

    def attest(self, image: Image, inputs: BuildInputs) -> None:
        """Attach SBOM and provenance to *image* in its registry."""
        from imagesync.pipeline.attest import attest

        def lock_and_base() -> tuple[Lock, BaseImage]:
            checked = inputs.checked()
            base = self.finder.base_to_lock_for(checked.plan)
            return checked.lock(base, checked.artifact_sources(for_files=True)), base

        assert image.digest is not None  # noqa: S101  it was pushed
        insecure = self.finder.takes_without_tls(image.digest)
        attest(image.digest, lock_and_base, context=self.context, insecure=insecure)

    def _find(self, inputs: BuildInputs, known: KnownHash | None) -> tuple[Image | None, bool]:
        """Return the image of *inputs*, from the engine or the registry, and whether nothing is to be pushed.

        An image that was found gets the tags, and its deviations are reported.
        """
        finder = self.finder
        image = None if self.no_cache else finder.find(inputs, known)
        is_published = False
        if image is None:
            image = finder.find_in_registry(
                inputs, known, tags=self.tags, no_cache=self.no_cache, push=self.push
            )
            is_published = image is not None and self.push and not self.tags
        if image is None or known is None:
            return None, False
        finder.remember(inputs, known)
        finder.tag(image, self.tags)
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
        builder = self.builder(inputs, finder.base_image(inputs.plan, subject=inputs.subject))
        builder.refuse_failing_imports()
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
            image = builder.build(tags=self.tags, no_cache=self.no_cache)
        known = known._replace(digest=image.environment_hash, deviations=image.deviations)
        finder.remember(builder.made_inputs, known)
        return image, False
