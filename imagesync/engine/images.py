"""Images as an engine describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class EngineImage:
    """An image that the engine holds.

    Parameters
    ----------
    image_id
        ``sha256:<hex>`` of the image's configuration (of its manifest, in a containerd image store).
    tags
        References, as the engine writes them.
    digests
        ``repository@sha256:<hex>``, for images that were pulled from or pushed to a registry.
    labels, environment, user
        Its configuration.
    platform
        Such as ``linux/amd64``.
    created
        In ISO 8601.
    size
        In bytes, uncompressed.
    """

    image_id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    user: str
    platform: str
    created: str
    size: int


class ListedImage(NamedTuple):
    """An image in the engine's list.

    Parameters
    ----------
    image_id
        ``sha256:<hex>``.
    tags
        Its references.
    labels
        Its labels.
    size
        In bytes, with the layers that it shares.
    """

    image_id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size: int


def engine_image(inspected: Mapping[str, Any]) -> EngineImage:
    """Return an image as the engine describes it in its answer to ``/images/{name}/json``."""
    config = inspected.get("Config") or {}
    return EngineImage(
        image_id=with_algorithm(inspected["Id"]),
        tags=tuple(inspected.get("RepoTags") or ()),
        digests=tuple(inspected.get("RepoDigests") or ()),
        labels=dict(config.get("Labels") or {}),
        environment=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        user=config.get("User") or "",
        platform=f"{inspected.get('Os', '')}/{inspected.get('Architecture', '')}",
        created=inspected.get("Created") or "",
        size=int(inspected.get("Size") or 0),
    )


def with_algorithm(identifier: str) -> str:
    """Return an image ID as ``sha256:<hex>``; Podman leaves the algorithm out."""
    return identifier if ":" in identifier else f"sha256:{identifier}"
