"""The first difference between two images: a file of a layer, or a field of the configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from imagesync.core.files import read_chunks
from imagesync.errors import LayoutError
from imagesync.image.layers.layer_stream import damage_of, layer_members

if TYPE_CHECKING:
    from imagesync.registry.manifest import Descriptor
    from imagesync.registry.oci_image import OCIImage

_MOST_SHOWN = 80


class _Member(NamedTuple):
    """An entry of a layer, with the digest of its content."""

    path: str
    kind: str
    mode: str
    owner: str
    time: str
    target: str
    size: int
    content: str


def first_difference(image: OCIImage, other: OCIImage) -> str | None:
    """Return by what *image* differs from *other*, the first thing from the base up; ``None`` if by nothing.

    Layers with the same digest aren't read.

    Raises
    ------
    LayoutError
        A layer is damaged.
    ImagesyncError
        A layer can't be read where it is.
    """
    if image.digest == other.digest:
        return None
    pairs = zip_longest(image.config.diff_ids, other.config.diff_ids)
    for number, (diff_id, expected) in enumerate(pairs):
        if diff_id == expected:
            continue
        if diff_id is None or expected is None:
            return f"it has {len(image.config.diff_ids)} layers instead of {len(other.config.diff_ids)}"
        difference = _in_layer(image, other, number)
        return f"{difference} (layer {number + 1}: {_title(other, number)})"
    for number, (layer, there) in enumerate(
        zip(image.manifest.layers, other.manifest.layers, strict=True), start=1
    ):
        if layer.digest != there.digest:
            return f"layer {number} has the same files, and is compressed otherwise"
    found = _in_document(json.loads(image.config_content), json.loads(other.config_content), ())
    if found is not None:
        return f"its configuration: {found}"
    return f"its manifest: {_in_document(json.loads(image.content), json.loads(other.content), ())}"


def _in_layer(image: OCIImage, other: OCIImage, number: int) -> str:
    members = (_members(each, each.manifest.layers[number]) for each in (image, other))
    record = ""
    for found, expected in zip_longest(*members):
        if found is None or (expected is not None and found.path > expected.path):
            return f"/{expected.path} is missing"
        if expected is None or found.path < expected.path:
            return f"/{found.path} isn't in the other one"
        for field, value, wanted in zip(_Member._fields, found, expected, strict=True):
            if value != wanted:
                what = f"/{found.path} has another {field}"
                if found.path.endswith(".dist-info/RECORD"):
                    # It follows from another file, which says more.
                    record = record or what
                    break
                return what if field == "content" else f"{what}: {value} instead of {wanted}"
    return record or "the archive of a layer has other headers"


def _members(image: OCIImage, layer: Descriptor) -> Iterator[_Member]:
    try:
        for archive, entry in layer_members(image, layer):
            digest = hashlib.sha256()
            file = archive.extractfile(entry) if entry.isreg() else None
            for piece in () if file is None else read_chunks(file):
                digest.update(piece)
            yield _Member(
                entry.name,
                entry.type.decode("ascii", "replace"),
                f"{entry.mode:04o}",
                f"{entry.uid}:{entry.gid}",
                str(entry.mtime),
                entry.linkname,
                entry.size,
                digest.hexdigest(),
            )
    except damage_of(layer) as error:
        raise LayoutError(f"The layer {layer.digest} can't be read: {error}.") from error


def _title(image: OCIImage, number: int) -> str:
    steps = [step for step in image.config.history if not step.empty_layer]
    text = steps[number].created_by if number < len(steps) else ""
    return _cut(text or "of the base")


def _in_document(value: Any, expected: Any, path: tuple[str, ...]) -> str | None:  # noqa: ANN401  JSON
    if isinstance(value, dict) and isinstance(expected, dict):
        for key in sorted({*value, *expected}):
            found = _in_document(value.get(key), expected.get(key), (*path, key))
            if found is not None:
                return found
        return None
    if value == expected:
        return None
    return f"{'.'.join(path)} is {_shown(value)} instead of {_shown(expected)}"


def _shown(value: Any) -> str:  # noqa: ANN401  JSON
    return _cut("missing" if value is None else json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."
