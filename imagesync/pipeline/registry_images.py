"""Images in a registry: found there by the environment's hash, pushed there, and checked there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesync.core.image_reference import parse_reference, split_reference
from imagesync.engine.lookup import FoundImage
from imagesync.errors import RegistryError, UsageError
from imagesync.image.image import image_of
from imagesync.image_layout import Label, image_tag
from imagesync.registry.registry import RemoteImage, check_push, read_config, read_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.image.image import Image


@dataclass(frozen=True)
class Shelf:
    """The repository of a registry that a project's images are in.

    Parameters
    ----------
    repository
        With the registry's host, without a tag.
    engine
        Pulls and pushes, and says which registries it takes without TLS.
    """

    repository: str
    engine: Engine
    progress: Progress

    def check_push(self, tags: Sequence[str] = ()) -> None:
        """Make sure that the user may push there, and wherever *tags* name a registry; before a build.

        Raises
        ------
        RegistryError
            The user may not, or the registry doesn't answer.
        """
        named = (split_reference(tag)[0] for tag in tags if parse_reference(tag).names_registry)
        for repository in dict.fromkeys((self.repository, *named)):
            insecure = self._takes_without_tls(repository)
            check_push(repository, progress=self.progress, insecure=insecure)

    def base_digest(self, base: str) -> str | None:
        """Return the digest of an image that the engine doesn't have, as its registry says it; else ``None``.

        A machine that has nothing yet so knows which image to look for without pulling its base.
        """
        try:
            return read_digest(base, progress=self.progress, insecure=self._takes_without_tls(base))
        except RegistryError:
            # The engine may reach what this process doesn't; it is asked for the base before a build.
            return None

    def find(self, environment_hash: str) -> Image | None:
        """Return the image of that environment as the registry has it, or ``None``; nothing is pulled.

        Raises
        ------
        RegistryError
            The registry doesn't answer, refuses, or has something else under that name.
        """
        reference = f"{self.repository}:{image_tag(environment_hash)}"
        there = self._read(reference)
        return None if there is None else self._image(there, reference, environment_hash)

    def fetch(self, image: Image) -> Image:
        """Pull an image that :meth:`find` found, and return it with its name and ID in the engine.

        Raises
        ------
        RegistryError
            It can't be pulled.
        """
        assert image.digest is not None  # noqa: S101  that is where it was found
        # By its digest: the tag may have moved since it was looked at.
        pulled = self.engine.pull(image.digest, progress=self.progress)
        self.engine.tag(pulled.image_id, image.reference)
        return replace(image, image_id=pulled.image_id)

    def publish(self, image: Image, *, tags: Sequence[str] = (), rebuilt: bool = False) -> Image:
        """Push an image, unless the registry has that environment, and return it as it is there.

        Parameters
        ----------
        tags
            Further references that the image has in the engine. Those that name a registry are pushed, and
            taken from what has them there.
        rebuilt
            Whether an image of the same environment is replaced.

        Raises
        ------
        RegistryError
            It can't be pushed, something else has its name, or it isn't there afterwards.
        """
        known = self.find(image.environment_hash)
        if known is not None and rebuilt and known.image_id != image.image_id:
            self.progress.line(f"{known.digest} loses its tag to what was built anew")
            known = None
        if known is None:
            image = replace(image, digest=self._push(image.reference, image.image_id))
            self.progress.line(f"Pushed {image.digest}")
        else:
            self.progress.line(f"The registry has it already: {known.digest}")
            image = self._fetch_for(tags, known, image)
        for tag in tags:
            if parse_reference(tag).names_registry:
                self._push_tag(tag, image)
        return image

    def _fetch_for(self, tags: Sequence[str], known: Image, built: Image) -> Image:
        """Return *known*, which gets the *tags* where it is another build of the environment than *built*."""
        if known.image_id == built.image_id or not tags:
            return known
        fetched = self.fetch(known)
        for tag in tags:
            self.engine.tag(fetched.image_id, tag)
        return fetched

    def _push_tag(self, reference: str, image: Image) -> None:
        insecure = self._takes_without_tls(reference)
        before = read_digest(reference, progress=self.progress, insecure=insecure)
        after = self._push(reference, image.image_id).rpartition("@")[2]
        if before is not None and before != after:
            self.progress.line(f"{reference} was {before}, and is {after} now")

    def _push(self, reference: str, image_id: str) -> str:
        """Push a reference, look at the registry whether it is there, and return it with its digest."""
        digest = self.engine.push(reference, progress=self.progress)
        repository, _ = split_reference(reference)
        there = self._read(f"{repository}@{digest}" if digest else reference)
        if there is None:
            raise RegistryError(
                f"{reference} was pushed, but its registry doesn't have it.",
                hint="Push again; if it stays so, see the engine's log.",
            )
        if image_id not in {there.config_digest, there.manifest_digest, there.digest}:
            raise RegistryError(
                f"{reference} in the registry isn't what was pushed: it is {there.config_digest},"
                f" and here it is {image_id}.",
                hint="Somebody else pushes under that name: choose another one with `repository`.",
            )
        return there.reference

    def _image(self, there: RemoteImage, reference: str, environment_hash: str) -> Image:
        found = FoundImage(there.config_digest, (image_tag(environment_hash),), there.labels, there.digest)
        image = image_of(found, repository=self.repository, environment_hash=environment_hash)
        if image is None:
            other = there.labels.get(Label.ENVIRONMENT_HASH)
            what = f"the environment {other}" if other else "an image that isn't imagesync's"
            raise RegistryError(
                f"In the registry {reference} is taken by {what} ({there.digest}).",
                hint="Choose another `repository`, or remove that tag from the registry.",
            )
        return image

    def _read(self, reference: str) -> RemoteImage | None:
        insecure = self._takes_without_tls(reference)
        return read_config(reference, progress=self.progress, insecure=insecure)

    def _takes_without_tls(self, reference: str) -> bool:
        return self.engine.takes_without_tls(parse_reference(reference).domain)


def require_registry(repository: str, origin: str) -> None:
    """Make sure that *repository* says which registry to push to.

    Parameters
    ----------
    origin
        Where it was set.

    Raises
    ------
    UsageError
        It doesn't.
    """
    if parse_reference(repository).names_registry:
        return
    raise UsageError(
        f"The image can't be pushed: its name '{repository}' ({origin}) names no registry.",
        hint="Set it: --repository registry.example.com/team/NAME, or `repository` in the settings;"
        " for Docker Hub docker.io/USER/NAME.",
    )
