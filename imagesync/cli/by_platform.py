"""Results for several platforms: made one after another, and printed with what they share said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from imagesync.cli.tables import Section
from imagesync.errors import ImagesyncError

if TYPE_CHECKING:
    from imagesync.session import Session

T = TypeVar("T")


def for_each(sessions: Sequence[Session], make: Callable[[Session], T], *, what: str = "") -> dict[str, T]:
    """Return the results of *make* for each session, by the name of its platform.

    Where there are several, *what* is reported with the platform before each.

    Raises
    ------
    ImagesyncError
        It can't be made for a platform, which the message names where there are several.
    """
    made = {}
    for session in sessions:
        platform = str(session.context.platform)
        if what and len(sessions) > 1:
            session.context.progress.line(f"{what} for {platform}:")
        try:
            made[platform] = make(session)
        except ImagesyncError as error:
            if len(sessions) > 1:
                error.message = f"For {platform}: {error.message}"
            raise
    return made


def to_json(made: dict[str, T], to_document: Callable[[T], Any]) -> Any:  # noqa: ANN401  a JSON document
    """Return the document of a single platform as it is, and of several below ``platforms`` by name."""
    documents = {platform: to_document(each) for platform, each in made.items()}
    if len(documents) == 1:
        return next(iter(documents.values()))
    return {"platforms": documents}


def divided(
    parts: Sequence[Sequence[T]], key: Callable[[T], Any] = lambda each: each
) -> tuple[tuple[T, ...], tuple[tuple[T, ...], ...]]:
    """Return the items that all *parts* have, by *key*, and the other ones of each part.

    >>> divided([(1, 2, 3), (2, 3, 4)])
    ((2, 3), ((1,), (4,)))
    """
    keys = [[key(item) for item in part] for part in parts]
    shared = [item for item in keys[0] if all(item in others for others in keys[1:])]
    rests = tuple(
        tuple(item for item, own in zip(part, found, strict=True) if own not in shared)
        for part, found in zip(parts, keys, strict=True)
    )
    common = tuple(item for item, own in zip(parts[0], keys[0], strict=True) if own in shared)
    return common, rests


def titled(platform: str, sections: Iterable[Section]) -> tuple[Section, ...]:
    """Return *sections* with the platform in their titles.

    >>> titled("linux/arm64", [Section("1 finding")])[0].title
    'linux/arm64: 1 finding'
    """
    return tuple(replace(section, title=f"{platform}: {section.title}") for section in sections)
