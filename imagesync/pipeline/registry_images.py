"""Images in a registry: found by their environment hash, pushed, and checked after the push."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesync.core.image_reference import parse_reference, split_reference
from imagesync.core.limits import SILENCE
from imagesync.core.platforms import Platform
from imagesync.core.progress import Severity
from imagesync.engine.lookup import FoundImage
from imagesync.errors import RegistryError, UsageError
from imagesync.image.built_image import image_of
from imagesync.image_layout import Label, image_tag
from imagesync.registry.registry import RemoteImage, check_push, read_config, read_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.image.built_image import Image
    from imagesync.pipeline.context import Context
    from imagesync.settings.model import Settings


@dataclass(frozen=True)
class RegistryImages:
    """The images of one repository of a registry.

    Parameters
    ----------
    repository
        With the registry's host, without a tag.
    engine
        Pulls and pushes, and says which registries it takes without TLS.
    progress
        Shows progress and warnings.
    platform
        That of the images.
    timeout
        Seconds without a byte after which the registry counts as gone.
    """

    repository: str
    engine: Engine
    progress: Progress
    platform: Platform
    timeout: float = SILENCE

    def check_push(self, tags: Sequence[str] = ()) -> None:
        """Check, before a build, that the user may push there and to the registries that *tags* name.

        Raises
        ------
        RegistryError
            The user may not push, or a registry doesn't answer.
        """
        named = (split_reference(tag)[0] for tag in tags if parse_reference(tag).names_registry)
        for repository in dict.fromkeys((self.repository, *named)):
            insecure = self._is_insecure(repository)
            check_push(repository, progress=self.progress, insecure=insecure, timeout=self.timeout)

    def base_digest(self, base: str) -> str | None:
        """Return the digest that the registry of the root image *base* gives, or ``None``.

        With it a machine that has no base image yet can look for an environment's image.
        """
        try:
            return self._digest(base)
        except RegistryError:
            # The engine may reach a registry that this process doesn't: it pulls the base before a build.
            return None

    def find(self, environment_hash: str) -> Image | None:
        """Return the image with *environment_hash*, or ``None``; nothing is pulled.

        Raises
        ------
        RegistryError
            The registry doesn't answer, refuses, or has something else under that name.
        """
        reference = f"{self.repository}:{image_tag(environment_hash)}"
        remote = self._read(reference)
        return None if remote is None else self._image(remote, environment_hash)

    def find_published(self, image: Image, *, accepts: Callable[[Image], bool]) -> Image | None:
        """Return the same image in the registry, or ``None``; nothing is pulled.

        Parameters
        ----------
        image
            An image that the engine has.
        accepts
            Returns whether another image of the same environment hash will do, too.

        Raises
        ------
        RegistryError
            The registry doesn't answer, refuses, or has something else under that name.
        """
        known = self.find(image.environment_hash)
        if known is None or is_same(known, image) or accepts(known):
            return known
        self.progress.line(f"{known.digest} has that name, and isn't what was built here", Severity.WARNING)
        return None

    def fetch(self, image: Image) -> Image:
        """Pull an image that :meth:`find` found, and return it with its name and ID in the engine.

        Raises
        ------
        RegistryError
            It can't be pulled.
        """
        assert image.digest is not None  # noqa: S101  find() sets it
        # By its digest: the tag may have moved meanwhile.
        pulled = self.engine.pull(image.digest, platform=self.platform.name, progress=self.progress)
        self.engine.tag(pulled.image_id, image.reference)
        return replace(image, image_id=pulled.image_id)

    def publish(
        self,
        image: Image,
        *,
        tags: Sequence[str] = (),
        rebuilt: bool = False,
        accepts: Callable[[Image], bool] = lambda _: True,
    ) -> Image:
        """Push an image, unless the registry has its environment, and return it with its digest.

        Parameters
        ----------
        image
            An image that the engine has.
        tags
            Further references that the image has in the engine. Those that name a registry are pushed, and
            taken from the images that have them there.
        rebuilt
            Whether to replace an image of the same environment.
        accepts
            Returns whether an image of the same environment will do, too.

        Raises
        ------
        RegistryError
            It can't be pushed, another image has its name, or the registry doesn't have it afterwards.
        """
        known = self.find(image.environment_hash)
        if known is not None and not is_same(known, image) and (rebuilt or not accepts(known)):
            self.progress.line(f"{known.digest} loses its tag to what was built anew", Severity.WARNING)
            known = None
        if known is None:
            image = replace(image, digest=self._push(image.reference, image.image_id))
            self.progress.line(f"Pushed {image.digest}")
        else:
            self.progress.line(f"The registry has it already: {known.digest}")
            image = self._fetch_tagged(known, image, tags)
        for tag in tags:
            if parse_reference(tag).names_registry:
                self._push_tag(tag, image)
        return image

    def _fetch_tagged(self, known: Image, built: Image, tags: Sequence[str]) -> Image:
        """Return *known*, pulled and tagged if it is another build of the environment than *built*."""
        if is_same(known, built) or not tags:
            return known
        fetched = self.fetch(known)
        for tag in tags:
            self.engine.tag(fetched.image_id, tag)
        return fetched

    def _push_tag(self, reference: str, image: Image) -> None:
        before = self._digest(reference)
        after = parse_reference(self._push(reference, image.image_id)).digest
        if before is not None and before != after:
            self.progress.line(f"{reference} was {before}, and is {after} now")

    def _push(self, reference: str, image_id: str) -> str:
        """Push a reference, check it in the registry, and return it with its digest."""
        digest = self.engine.push(reference, progress=self.progress)
        repository, _ = split_reference(reference)
        remote = self._read(f"{repository}@{digest}" if digest else reference)
        if remote is None:
            raise RegistryError(
                f"{reference} was pushed, but its registry doesn't have it.",
                hint="Push again; if it stays so, see the engine's log.",
            )
        if image_id not in {remote.config_digest, remote.manifest_digest, remote.digest}:
            raise RegistryError(
                f"{reference} in the registry isn't what was pushed: it is {remote.config_digest},"
                f" and here it is {image_id}.",
                hint="Somebody else pushes under that name: choose another one with `repository`.",
            )
        return remote.reference

    def _image(self, remote: RemoteImage, environment_hash: str) -> Image | None:
        found = FoundImage(remote.config_digest, (image_tag(environment_hash),), remote.labels, remote.digest)
        return image_in_registry(
            found, repository=self.repository, environment_hash=environment_hash, progress=self.progress
        )

    def _digest(self, reference: str) -> str | None:
        insecure = self._is_insecure(reference)
        return read_digest(reference, progress=self.progress, insecure=insecure, timeout=self.timeout)

    def _read(self, reference: str) -> RemoteImage | None:
        return read_config(
            reference,
            platform=self.platform.name,
            progress=self.progress,
            insecure=self._is_insecure(reference),
            timeout=self.timeout,
        )

    def _is_insecure(self, reference: str) -> bool:
        return self.engine.takes_without_tls(parse_reference(reference).domain)


def image_in_registry(
    found: FoundImage, *, repository: str, environment_hash: str, progress: Progress
) -> Image | None:
    """Return the image that a registry has under the tag of *environment_hash*.

    Parameters
    ----------
    found
        What the registry has, with its digest.
    repository
        With the registry's host, without a tag.
    environment_hash
        The whole hash.
    progress
        Gets a line if its labels are in an unknown format; ``None`` is returned then.

    Raises
    ------
    RegistryError
        It is another environment's, or not imagesync's.
    """
    image = image_of(found, repository=repository, environment_hash=environment_hash)
    if image is not None:
        return image
    other = found.labels.get(Label.ENVIRONMENT_HASH)
    if other == environment_hash:
        progress.line(
            f"{repository}@{found.digest} isn't used: its labels are in an unknown format", Severity.WARNING
        )
        return None
    what = f"the environment {other}" if other else "an image that isn't imagesync's"
    raise RegistryError(
        f"In the registry {repository}:{image_tag(environment_hash)} is taken by {what} ({found.digest}).",
        hint="Choose another `repository`, or remove that tag from the registry.",
    )


def is_same(published: Image, image: Image) -> bool:
    """Return True if an image in a registry is one that an engine has.

    The ID is the digest of the configuration, or of the manifest where the engine keeps images in containerd.
    """
    digest = published.digest and parse_reference(published.digest).digest
    return image.image_id in {published.image_id, digest}


@contextmanager
def open_registry_images(context: Context) -> Iterator[RegistryImages]:
    """Give the images in the registry that the setting ``repository`` names."""
    with context.open_engine() as engine:
        settings = context.settings
        yield RegistryImages(
            settings.repository, engine, context.progress, context.platform, settings.timeout
        )


def require_registry(settings: Settings) -> None:
    """Check that the setting ``repository`` names a registry to push to.

    Raises
    ------
    UsageError
        It names none.
    """
    repository, origin = settings.repository, settings.origins.get("repository", "the default")
    if parse_reference(repository).names_registry:
        return
    raise UsageError(
        f"The image can't be pushed: its name '{repository}' ({origin}) names no registry.",
        hint="Set it: --repository registry.example.com/team/NAME, or `repository` in the settings;"
        " for Docker Hub docker.io/USER/NAME.",
    )
