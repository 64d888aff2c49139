"""Replacement of the image in an existing YAML or JSON file, with every other character unchanged.

The file is parsed only to find the positions of the image. Even ruamel.yaml's round trip would change some
line breaks and indentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.core.image_reference import Reference, is_reference, parse_reference, split_reference
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

# The keys of a Helm chart's image, which is split into name and tag.
_NAME_KEYS = ("repository", "name")
# YAML parses digits, with or without an exponent, as a number.
_NUMBER = re.compile(r"[0-9]+(e[0-9]+)?")


@dataclass(frozen=True)
class _Place:
    """The position of an image in the file.

    Parameters
    ----------
    reference
        Reference of the image.
    scalars
        One scalar, or the two of a chart.
    """

    reference: str
    scalars: tuple[ScalarNode, ...]


def update_image(text: str, image: str, *, replacing: str | None = None, where: str = "the file") -> str:
    """Return *text*, YAML or JSON, with *image* in place of images of the same repository.

    Parameters
    ----------
    text
        Content of the file.
    image
        Reference by digest or by tag.
    replacing
        Image or repository to replace; by default the repository of *image*.
    where
        Name of the file in messages.

    Raises
    ------
    UsageError
        The text can't be parsed or doesn't contain the image.
    """
    places = list(_places(_parse(text, where)))
    wanted = parse_reference(replacing or image)
    found = [place for place in places if _matches(place.reference, wanted, exactly=replacing is not None)]
    if not found:
        raise _not_found(wanted.name, places, where)
    edits = {edit for place in found for edit in _edits(text, place, image)}
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _matches(reference: str, wanted: Reference, *, exactly: bool) -> bool:
    parsed = parse_reference(reference)
    if parsed.name != wanted.name:
        return False
    return not exactly or (wanted.tag in {None, parsed.tag} and wanted.digest in {None, parsed.digest})


def _not_found(name: str, places: Iterable[_Place], where: str) -> UsageError:
    others = list(dict.fromkeys(place.reference for place in places))
    has = f"; it has {', '.join(others)}" if others else ""
    return UsageError(
        f"{where} has no image {name}{has}.",
        hint="Name the image to replace: --replacing IMAGE" if others else None,
    )


def _parse(text: str, where: str) -> list[Node]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return [node for node in YAML().compose_all(text) if node is not None]
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}{line}: it is neither YAML nor JSON: {problem}") from error


def _places(nodes: Iterable[Node]) -> Iterator[_Place]:
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    seen: set[int] = set()
    pending = [("", node) for node in nodes]
    while pending:
        key, node = pending.pop(0)
        # An alias is parsed as the node it refers to.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            yield from _split_references(node)
            pending += [(str(name.value), value) for name, value in node.value]
        elif isinstance(node, SequenceNode):
            pending += [(key, value) for value in node.value]
        elif isinstance(node, ScalarNode) and _is_image(key, node.value):
            yield _Place(node.value, (node,))


def _is_image(key: str, value: str) -> bool:
    if not is_reference(value):
        return False
    # Under any other key, require a registry and a tag or digest.
    parsed = parse_reference(value)
    complete = parsed.names_registry and (parsed.tag or parsed.digest) is not None
    return complete or key.lower().endswith(("image", "container"))


def _split_references(node: MappingNode) -> Iterator[_Place]:
    from ruamel.yaml.nodes import ScalarNode

    values = {name.value: value for name, value in node.value if isinstance(value, ScalarNode)}
    tag = values.get("tag")
    for key in _NAME_KEYS:
        if tag is not None and key in values and is_reference(f"{values[key].value}:{tag.value}"):
            yield _Place(f"{values[key].value}:{tag.value}", (values[key], tag))


def _edits(text: str, place: _Place, image: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and new text of each change, without quotes and comments."""
    parts = (image,) if len(place.scalars) == 1 else split_reference(image)
    for scalar, new in zip(place.scalars, parts, strict=True):
        start, end = scalar.start_mark.index, scalar.end_mark.index
        written = text[start:end]
        # The source of the scalar includes quotes and possibly an anchor.
        at = written.rfind(scalar.value)
        if at == -1:
            # With escapes, as in some JSON: "registry.example.com\/team".
            yield start + written.index('"'), end, json.dumps(new)
        else:
            quoted = f'"{new}"' if scalar.style is None and _NUMBER.fullmatch(new) else new
            yield start + at, start + at + len(scalar.value), quoted
