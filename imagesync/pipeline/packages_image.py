"""The packages image: named by the digests of what it holds, and found by the inputs of a build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from imagesync.engine.lookup import PACKAGES_REPOSITORY, FoundImage
from imagesync.image_layout import Label, image_tag
from imagesync.lock.layers import from_label
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.pipeline.environment_hash import BaseInputs, packages_hash
from imagesync.pipeline.known_hashes import KnownHash, recall_hash, remember_hash
from imagesync.plan.checks.file_conflicts import with_file_conflicts

if TYPE_CHECKING:
    from imagesync.lock.resolve_installed import InstalledDigest
    from imagesync.pipeline.engine_finder import EngineFinder
    from imagesync.pipeline.inputs import BuildInputs


@dataclass(frozen=True)
class PackagesImage:
    """The packages image of *inputs*: base, interpreter, and packages of indexes and channels.

    Parameters
    ----------
    inputs
        The inputs of the build.
    base
        The inputs that all hashes cover.
    target
        The platform, Python and glibc of the image.
    finder
        Knows the images that the engine has.
    file_conflicts
        By path, what identifies the installed one of several files.
    installed_digest
        Returns the digest of a package's installed files, if they fit *target*.
    """

    inputs: BuildInputs
    base: BaseInputs
    target: Target
    finder: EngineFinder
    file_conflicts: Mapping[str, str]
    installed_digest: InstalledDigest

    @cached_property
    def input_hash(self) -> str:
        """Return the hash of what decides the content, ``sha256:<hex>``: no name, but a key."""
        return with_file_conflicts(self.inputs.packages_input_hash(self.base), self.file_conflicts)

    def digest(self, shared: Lock) -> str:
        """Return the hash of the image of a shared layer, ``sha256:<hex>``."""
        return with_file_conflicts(packages_hash(shared, self.base), self.file_conflicts)

    def reference(self, shared: Lock) -> str:
        """Return the reference of the image of a shared layer."""
        return f"{PACKAGES_REPOSITORY}:{image_tag(self.digest(shared))}"

    def find(self, shared: Lock | None = None) -> Lock | None:
        """Return the shared layer in the image that the engine has, with its deviations, or ``None``.

        Parameters
        ----------
        shared
            The shared layer. Without it the image is found by what is remembered of these inputs, or by its
            label.
        """
        for image, deviations in self._candidates(shared):
            lock = from_label(image.labels.get(Label.PACKAGES_LOCK, ""), self.inputs.plan)
            if lock is None or lock.target != self.target or not self._is_current(lock):
                continue
            if deviations is not None:
                lock = replace(lock, deviations=deviations)
            self.remember(lock)
            return lock
        return None

    def remember(self, shared: Lock) -> None:
        """Remember the image of *shared* by these inputs, so that an edit of local code asks no index."""
        deviations = tuple(deviation.to_dict() for deviation in shared.deviations)
        cache = self.inputs.context.cache_folder
        remember_hash(cache, self.input_hash, KnownHash(self.digest(shared), deviations))

    def _candidates(self, shared: Lock | None) -> Iterator[tuple[FoundImage, tuple[Deviation, ...] | None]]:
        """Yield images, each with its deviations from the environment; ``None`` for those of its label."""
        images = self.finder.lookup.packages_images
        if shared is not None:
            yield from ((image, shared.deviations) for image in _named(images, self.digest(shared)))
            return
        known = recall_hash(self.inputs.context.cache_folder, self.input_hash)
        if known is not None:
            deviations = tuple(map(Deviation.from_dict, known.deviations))
            yield from ((image, deviations) for image in _named(images, known.digest))
        for image in images:
            if image.labels.get(Label.PACKAGES_INPUT_HASH) == self.input_hash:
                yield image, None

    def _is_current(self, shared: Lock) -> bool:
        # A wheel of installed files may be another user's, or these files have been edited since.
        return all(
            package.is_bundled or self.installed_digest(package.planned) == package.content
            for package in shared.vendored
        )


def _named(images: tuple[FoundImage, ...], digest: str) -> Iterator[FoundImage]:
    for image in images:
        if image_tag(digest) in image.tags and image.labels.get(Label.PACKAGES_HASH) == digest:
            yield image
