"""Which image a configuration names: by its digest, so that it means the same to everybody, for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesync.core.image_reference import check_reference, parse_reference, repository_of
from imagesync.errors import RegistryError, UsageError
from imagesync.registry.registry import read_digest

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.session import Session


def environment_image(session: Session, *, push: bool | None, local: bool) -> str:
    """Return the environment's image as ``<repository>@sha256:<hex>``; it is built if there is none.

    Parameters
    ----------
    push
        Have it in the registry; as the settings say if not given.
    local
        Whether a reference with a tag will do, where the image is in no registry.

    Raises
    ------
    UsageError
        The image is in no registry, and has to be.
    ImagesyncError
        It can't be built or pushed.
    """
    repository = session.context.settings.repository
    if not local and not parse_reference(repository).names_registry:
        # Before a build that would be of no use.
        raise UsageError(
            f"The image's name '{repository}' says no registry that others could pull it from.",
            hint="Name one, and push: --push --repository registry.example.com/team/NAME",
        )
    image = session.published(session.build(push=push))
    if image.digest is not None:
        return image.digest
    if not local:
        raise UsageError(
            f"{image.reference} isn't in its registry, for others to pull it from.", hint="Push it: --push"
        )
    session.context.progress.line(
        f"warning: {image.reference} is in no registry: the configuration works with this engine alone."
    )
    return image.reference


def pinned(reference: str, *, progress: Progress) -> str:
    """Return a reference that a user named, as ``<repository>@sha256:<hex>``; its registry is asked.

    Raises
    ------
    UsageError
        It isn't a reference.
    RegistryError
        It isn't there, or the registry doesn't say.
    """
    check_reference(reference, given_as="--image")
    parsed = parse_reference(reference)
    digest = parsed.digest or read_digest(reference, progress=progress)
    if digest is None:
        raise RegistryError(
            f"{parsed.domain} has no image {reference}.", hint="Check the image's name and its tag."
        )
    return f"{repository_of(reference)}@{digest}"
