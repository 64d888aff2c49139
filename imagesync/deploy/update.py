"""Another image in a file that somebody has written, and nothing else: not a space of it changes.

The file is parsed to find where the image stands, and its text is changed there. Written anew from what was
parsed, even with ruamel.yaml's round trip, a file would get other line breaks and indentation here and there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from imagesync.core.image_reference import Reference, is_reference, parse_reference, split_reference
from imagesync.errors import UsageError

# A chart's image: two values, put together with a colon between them.
_NAME_KEYS = ("repository", "name")
# Digits alone, or with one e among them, are a number to YAML.
_NUMBER = re.compile(r"[0-9]+(e[0-9]+)?")


@dataclass(frozen=True)
class _Place:
    """Where an image stands.

    Parameters
    ----------
    reference
        The image that stands there.
    scalars
        One scalar, or a chart's two.
    """

    reference: str
    scalars: tuple[ScalarNode, ...]


def update_image(text: str, image: str, *, replacing: str | None = None, where: str = "the file") -> str:
    """Return *text*, YAML or JSON, with *image* wherever an image of the same repository stands.

    Parameters
    ----------
    image
        A reference by digest or by tag.
    replacing
        Which image, or which repository, stands there now; by default the repository of *image*.
    where
        What messages call the text.

    Raises
    ------
    UsageError
        It can't be parsed, or no such image stands in it.
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
        hint="Name the one that is to be replaced: --replacing IMAGE" if others else None,
    )


def _parse(text: str, where: str) -> list[Node]:
    try:
        return [node for node in YAML().compose_all(text) if node is not None]
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}{line}: it is neither YAML nor JSON: {problem}") from error


def _places(nodes: Iterable[Node]) -> Iterator[_Place]:
    seen: set[int] = set()
    waiting = [("", node) for node in nodes]
    while waiting:
        key, node = waiting.pop(0)
        # An alias is the node that it stands for.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            yield from _split_references(node)
            waiting += [(str(name.value), value) for name, value in node.value]
        elif isinstance(node, SequenceNode):
            waiting += [(key, value) for value in node.value]
        elif isinstance(node, ScalarNode) and _is_image(key, node.value):
            yield _Place(node.value, (node,))


def _is_image(key: str, value: str) -> bool:
    if not is_reference(value):
        return False
    # Elsewhere, as in a list of variables, it has to look like one.
    parsed = parse_reference(value)
    complete = parsed.names_registry and (parsed.tag or parsed.digest) is not None
    return complete or key.lower().endswith(("image", "container"))


def _split_references(node: MappingNode) -> Iterator[_Place]:
    values = {name.value: value for name, value in node.value if isinstance(value, ScalarNode)}
    tag = values.get("tag")
    for key in _NAME_KEYS:
        if tag is not None and key in values and is_reference(f"{values[key].value}:{tag.value}"):
            yield _Place(f"{values[key].value}:{tag.value}", (values[key], tag))


def _edits(text: str, place: _Place, image: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and new text of what changes; quotes and comments are outside of that."""
    parts = (image,) if len(place.scalars) == 1 else split_reference(image)
    for scalar, new in zip(place.scalars, parts, strict=True):
        start, end = scalar.start_mark.index, scalar.end_mark.index
        written = text[start:end]
        # Found inside of what is written, because that has the quotes, and an anchor may stand before them.
        at = written.rfind(scalar.value)
        if at == -1:
            # With escapes, as some write JSON: "registry.example.com\/team".
            yield start + written.index('"'), end, json.dumps(new)
        else:
            quoted = f'"{new}"' if scalar.style is None and _NUMBER.fullmatch(new) else new
            yield start + at, start + at + len(scalar.value), quoted
