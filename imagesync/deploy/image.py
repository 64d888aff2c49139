"""The image that a configuration names, by its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesync.core.image_reference import check_reference, parse_reference, repository_of
from imagesync.errors import RegistryError, UsageError
from imagesync.registry.registry import read_digest

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.session import Session


def environment_image(session: Session, *, push: bool | None, local: bool) -> str:
    """Return the environment's image as ``<repository>@sha256:<hex>``, built if necessary.

    Parameters
    ----------
    session
        Session of the environment.
    push
        Whether to push the image; by default as in the settings.
    local
        Whether to accept a reference with a tag for an image that is in no registry.

    Raises
    ------
    UsageError
        The image must be in a registry but isn't.
    ImagesyncError
        The image can't be built or pushed.
    """
    repository = session.context.settings.repository
    if not local and not parse_reference(repository).names_registry:
        # Fail before a useless build.
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
    """Return a user's reference as ``<repository>@sha256:<hex>``, resolved in its registry.

    Raises
    ------
    UsageError
        *reference* isn't valid.
    RegistryError
        The registry doesn't answer or lacks the image.
    """
    check_reference(reference, given_as="--image")
    parsed = parse_reference(reference)
    digest = parsed.digest or read_digest(reference, progress=progress)
    if digest is None:
        raise RegistryError(
            f"{parsed.domain} has no image {reference}.", hint="Check the image's name and its tag."
        )
    return f"{repository_of(reference)}@{digest}"
