"""Image manifests and indexes.

Source: the OCI image specification 1.1, and Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPTED: Final = ", ".join((*MANIFESTS, *INDEXES))


@dataclass(frozen=True)
class Descriptor:
    """The descriptor of a blob in a manifest.

    Parameters
    ----------
    digest
        ``sha256:<hex>``.
    size
        Of the blob in the registry, in bytes.
    """

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The manifest of one image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def sha256(content: bytes) -> str:
    """Return the digest of *content*.

    >>> sha256(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse_manifest(content: Mapping[str, Any]) -> Manifest:
    """Return the manifest in *content*, a JSON document.

    Raises
    ------
    ValueError
        *content* isn't an image's manifest.
    """
    try:
        return Manifest(
            _descriptor(content["config"]), tuple(_descriptor(layer) for layer in content["layers"])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it isn't an image's manifest ({error!r})") from error


def choose_platform(index: Mapping[str, Any], platform: str) -> Descriptor | None:
    """Return the manifest for *platform*, such as ``linux/amd64``, from an index, or ``None``.

    >>> entry = {"digest": "sha256:1", "size": 1, "platform": {"os": "linux", "architecture": "arm64"}}
    >>> choose_platform({"manifests": [entry]}, "linux/amd64") is None
    True
    """
    for entry in index.get("manifests") or ():
        described = entry.get("platform") or {}
        if f"{described.get('os')}/{described.get('architecture')}" == platform:
            return _descriptor(entry)
    return None


def _descriptor(entry: Mapping[str, Any]) -> Descriptor:
    return Descriptor(str(entry.get("mediaType", "")), str(entry["digest"]), int(entry.get("size", 0)))
