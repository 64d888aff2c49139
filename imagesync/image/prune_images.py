"""The engine's images that imagesync made: counted, and pruned where nothing uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final, Literal

from imagesync.core.image_reference import split_reference
from imagesync.engine.lookup import BASE_REPOSITORY, PACKAGES_REPOSITORY
from imagesync.image.builder import UNFINISHED_REPOSITORY
from imagesync.image.conda.mounted_images import ARCHIVES_REPOSITORY, INSTALLER_REPOSITORY
from imagesync.image_layout import Label, image_tag

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.engine.images import ListedImage

Kind = Literal["environment", "packages", "base", "mounted"]
KINDS: Final[tuple[Kind, ...]] = ("environment", "packages", "base", "mounted")
"""Environments; packages images that they share; base images; images that builds mount."""
_REPOSITORIES: Final[Mapping[str, Kind]] = {
    PACKAGES_REPOSITORY: "packages",
    BASE_REPOSITORY: "base",
    ARCHIVES_REPOSITORY: "mounted",
    INSTALLER_REPOSITORY: "mounted",
    UNFINISHED_REPOSITORY: "mounted",
}

_SPARED: Final = timedelta(hours=1)


@dataclass(frozen=True)
class OwnImage:
    """An image of the engine that imagesync made.

    Parameters
    ----------
    kind
        What it is for.
    references
        The names that imagesync gave it.
    image
        The engine's answer.
    """

    kind: Kind
    references: tuple[str, ...]
    image: ListedImage

    @property
    def has_other_names(self) -> bool:
        """Return True if the user has named it, too."""
        return len(self.references) < len(self.image.tags)


def own_images(images: Iterable[ListedImage]) -> tuple[OwnImage, ...]:
    """Return the images that imagesync made.

    Those that somebody built on them have their labels, but no such name, and don't count.
    """
    return tuple(own for image in images if (own := _own(image)) is not None)


def count_images(engine: Engine) -> dict[Kind, int]:
    """Return how many images of each kind the engine has."""
    found = Counter(own.kind for own in own_images(engine.list_images()))
    return {kind: found[kind] for kind in KINDS}


def prune_images(engine: Engine, *, keep: int, spared: timedelta = _SPARED) -> tuple[OwnImage, ...]:
    """Remove images that no container uses, and return them.

    Parameters
    ----------
    engine
        The engine.
    keep
        The number of environments to keep, the latest ones. Those that have a name of the user's or a
        container stay, too, and so does what the ones that stay were built on.
    spared
        Other images than environments stay if they got their name in this time: a build that runs may use
        them.
    """
    images = engine.list_images()
    removable = unused_images(
        images,
        used=engine.images_in_use(),
        keep=keep,
        named=engine.last_tagged,
        spared_since=datetime.now(timezone.utc) - spared,
    )
    for own in removable:
        for reference in own.references:
            engine.remove(reference)
    return removable


def unused_images(
    images: Sequence[ListedImage],
    *,
    used: frozenset[str],
    keep: int,
    named: Callable[[ListedImage], datetime],
    spared_since: datetime,
) -> tuple[OwnImage, ...]:
    """Return the images to remove, those first that are based on others.

    Parameters
    ----------
    images
        All images of the engine.
    used
        IDs of those that containers use.
    keep
        The number of environments to keep.
    named
        Returns the time at which an image got its name.
    spared_since
        Images for builds that got their name since then stay.
    """
    candidates = [
        own for own in own_images(images) if own.image.image_id not in used and not own.has_other_names
    ]
    of_kind = {kind: [own for own in candidates if own.kind == kind] for kind in KINDS}
    environments = sorted(of_kind["environment"], key=lambda own: named(own.image), reverse=True)[keep:]

    def settled(found: Iterable[OwnImage]) -> list[OwnImage]:
        return [own for own in found if named(own.image) < spared_since]

    removed = settled(of_kind["mounted"])
    removed += _unneeded(environments, images, removed, Label.ENVIRONMENT_HASH)
    removed += _unneeded(settled(of_kind["packages"]), images, removed, Label.PACKAGES_HASH)
    removed += _unneeded(settled(of_kind["base"]), images, removed, Label.BASE_HASH)
    return tuple(removed)


def _unneeded(
    candidates: Sequence[OwnImage], images: Iterable[ListedImage], removed: Iterable[OwnImage], label: str
) -> list[OwnImage]:
    """Return the candidates on which no image stands that stays: such an image has inherited their label."""
    going = {own.image.image_id for own in (*candidates, *removed)}
    needed = {image.labels.get(label) for image in images if image.image_id not in going} - {None, ""}
    return [own for own in candidates if own.image.labels.get(label) not in needed]


def _own(image: ListedImage) -> OwnImage | None:
    environment = image.labels.get(Label.ENVIRONMENT_HASH)
    named: dict[Kind, list[str]] = {}
    for reference in image.tags:
        repository, tag = split_reference(reference)
        kind = _REPOSITORIES.get(repository.removeprefix("localhost/"))
        if kind is None and environment and tag == image_tag(environment):
            kind = "environment"
        if kind is not None:
            named.setdefault(kind, []).append(reference)
    return next((OwnImage(kind, tuple(named[kind]), image) for kind in KINDS if kind in named), None)
