"""What a build asks of a builder: the hash of an image, which may exist already, and the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imagesync.image.built_image import Image
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.known_hashes import KnownHash


class ImageBuilder(Protocol):
    """Builds the image of one environment."""

    @property
    def sources(self) -> ArtifactSources:
        """Return the sources of the artifacts."""

    @property
    def lock(self) -> Lock:
        """Return the exact artifact of each package; indexes and channels are asked for it, if need be."""

    def lock_in_background(self) -> None:
        """Start to lock, if it will be needed; an error is raised where the lock is used."""

    @property
    def made_inputs(self) -> BuildInputs:
        """Return the inputs with all files that went into the local wheels, which are made first."""

    def refuse_failing_imports(self) -> None:
        """Raise an error if the plan is strict, and an import fails for want of a system library.

        Raises
        ------
        BaseImageError
            One does.
        """

    def planned_hash(self) -> KnownHash | None:
        """Return the environment hash where the installed versions are the lock, or ``None``."""

    def locked_hash(self) -> KnownHash:
        """Return the environment hash of the lock."""

    def build(self, *, tags: tuple[str, ...] = (), no_cache: bool = False) -> Image:
        """Return the image.

        Parameters
        ----------
        tags
            Further references that the image gets.
        no_cache
            Whether nothing may be taken from earlier builds.

        Raises
        ------
        ImagesyncError
            It can't be built.
        """
