"""Descriptors, manifests and indexes of OCI images, read strictly and written as canonical JSON.

Source: the OCI image specification 1.1, and Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from imagesync.core.digests import sha256_of
from imagesync.core.platforms import is_platform
from imagesync.core.strict_json import load_json

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
REF_NAME: Final = "org.opencontainers.image.ref.name"
BASE_NAME: Final = "org.opencontainers.image.base.name"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"

_DOCKER: Final = {
    "application/vnd.docker.distribution.manifest.v2+json": MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json": INDEX,
    "application/vnd.docker.container.image.v1+json": CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": LAYER_ZSTD,
}
INDEXES: Final = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS: Final = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
ACCEPTED: Final = ", ".join((*MANIFESTS, *INDEXES))
"""The media types to ask a registry for."""

_SCHEMA_1 = re.compile(r"application/vnd\.docker\.distribution\.manifest\.v1\+(json|prettyjws)")
_FOREIGN = re.compile(
    r"application/vnd\.(docker\.image\.rootfs\.foreign\.diff|oci\.image\.layer\.nondistributable)\b"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_SIZE = 1 << 50
# The largest documents: specifications let registries refuse manifests above 4 MiB.
MAX_MANIFEST: Final = 4 << 20
MAX_CONFIG: Final = 16 << 20


def canonical_json(value: object) -> bytes:
    """Return *value* as JSON with sorted keys and without spaces, in UTF-8: the same bytes every time."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(content: bytes) -> dict[str, Any]:
    """Return the JSON object in *content*.

    Raises
    ------
    ValueError
        *content* isn't one.
    """
    parsed = load_json(content)
    if not isinstance(parsed, dict):
        raise ValueError("it isn't a JSON object")  # noqa: TRY004  callers handle one error
    return parsed


@dataclass(frozen=True)
class Descriptor:
    """The descriptor of a blob (OCI image specification, "Content Descriptors").

    Parameters
    ----------
    media_type
        Such as :data:`LAYER_GZIP`.
    digest
        ``sha256:<hex>``.
    size
        Of the blob as it is stored, in bytes.
    annotations
        Texts by name.
    platform
        Such as ``linux/amd64`` or ``linux/arm64/v8``; empty where a manifest isn't for one.
    artifact_type
        The type of the artifact, if the blob is the manifest of one.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: str = ""
    artifact_type: str = ""

    @classmethod
    def of(cls, content: bytes, media_type: str, **more: Any) -> Descriptor:  # noqa: ANN401  fields of several types
        """Return the descriptor of *content*; *more* are further fields."""
        return cls(media_type, sha256_of(content), len(content), **more)

    @property
    def hex(self) -> str:
        """Return the digest without its algorithm."""
        return self.digest.partition(":")[2]

    def named(self, name: str) -> Descriptor:
        """Return the descriptor with the annotation ``org.opencontainers.image.ref.name``."""
        return replace(self, annotations={**self.annotations, REF_NAME: name})

    def as_oci(self) -> Descriptor:
        """Return the descriptor of the same bytes with the OCI media type in place of Docker's."""
        return replace(self, media_type=_DOCKER.get(self.media_type, self.media_type))

    def to_dict(self) -> dict[str, Any]:
        """Return the descriptor as in manifests."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.platform:
            system, architecture, *variant = self.platform.split("/")
            found["platform"] = {"os": system, "architecture": architecture}
            if variant:
                found["platform"]["variant"] = variant[0]
        return found


@dataclass(frozen=True)
class Manifest:
    """The manifest of one image for one platform, or of an artifact.

    Parameters
    ----------
    config
        Of the configuration.
    layers
        From the base up.
    annotations
        Texts by name.
    artifact_type
        The type, if it is an artifact rather than an image.
    subject
        The manifest that an artifact is about.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Return the layers and the configuration, each once."""
        return tuple({blob.digest: blob for blob in (*self.layers, self.config)}.values())

    def to_json(self) -> bytes:
        """Return the manifest with OCI media types, in canonical JSON."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.as_oci().to_dict(),
            "layers": [layer.as_oci().to_dict() for layer in self.layers],
        }
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.subject is not None:
            document["subject"] = self.subject.to_dict()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return canonical_json(document)


@dataclass(frozen=True)
class Index:
    """Descriptors of manifests: of an image for several platforms, of a layout, or of referrers."""

    manifests: tuple[Descriptor, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def digest(self) -> str:
        """Return the digest of the index in canonical JSON."""
        return sha256_of(self.to_json())

    def to_json(self) -> bytes:
        """Return the index in canonical JSON."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [manifest.to_dict() for manifest in self.manifests],
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return canonical_json(document)

    def for_platform(self, platform: str) -> Descriptor | None:
        """Return the manifest for *platform*, such as ``linux/amd64``, or ``None``.

        A variant that *platform* doesn't name is taken too: the first one.

        >>> arm = Descriptor(MANIFEST, "sha256:" + "0" * 64, 1, platform="linux/arm64/v8")
        >>> Index((arm,)).for_platform("linux/arm64") == arm, Index((arm,)).for_platform("linux/amd64")
        (True, None)
        """
        exact = (entry for entry in self.manifests if entry.platform == platform)
        close = (entry for entry in self.manifests if is_platform(entry.platform, platform))
        return next(exact, next(close, None))

    def find(self, name: str = "") -> Descriptor | None:
        """Return the manifest or the index of that name (``org.opencontainers.image.ref.name``), or ``None``.

        Parameters
        ----------
        name
            A name or a digest. Empty for the only one that the index has.
        """
        if not name:
            return self.manifests[0] if len({entry.digest for entry in self.manifests}) == 1 else None
        named = (entry for entry in self.manifests if entry.annotations.get(REF_NAME) == name)
        return next(named, next((entry for entry in self.manifests if entry.digest == name), None))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all manifests."""
        known = (entry.annotations.get(REF_NAME, "") for entry in self.manifests)
        return tuple(name for name in known if name)

    @property
    def platforms(self) -> tuple[str, ...]:
        """Return the platforms that it has manifests for."""
        known = (entry.platform for entry in self.manifests)
        return tuple(dict.fromkeys(name for name in known if name and "unknown" not in name))


def parse_manifest(content: bytes) -> Manifest | Index:
    """Return the manifest or the index in *content*, a JSON document in the format of OCI or of Docker.

    Descriptors keep the media types that they have there; see :meth:`Descriptor.as_oci`.

    Raises
    ------
    ValueError
        It is neither, with the reason in words to follow "can't be used".
    """
    document = parse_json(content)
    media_type = _text(document.get("mediaType", ""), "mediaType")
    if document.get("schemaVersion") == 1 or _SCHEMA_1.match(media_type):
        raise ValueError("it has the format schema 1, which registries have stopped to accept; push it again")
    if document.get("schemaVersion") != 2:
        raise ValueError("it isn't an image's manifest: its schemaVersion isn't 2")
    annotations = _texts(document.get("annotations"), "annotations")
    if media_type in INDEXES or (not media_type and "manifests" in document):
        entries = _list(document.get("manifests"), "manifests")
        return Index(tuple(parse_descriptor(entry, "manifests") for entry in entries), annotations)
    if media_type not in {*MANIFESTS, ""}:
        raise ValueError(f"it isn't an image's manifest, but {media_type!r}")
    subject = document.get("subject")
    layers = tuple(parse_descriptor(entry, "layers") for entry in _list(document.get("layers"), "layers"))
    return Manifest(
        parse_descriptor(document.get("config"), "config"),
        layers,
        annotations,
        _text(document.get("artifactType", ""), "artifactType"),
        None if subject is None else parse_descriptor(subject, "subject"),
    )


def check_layers(layers: Sequence[Descriptor]) -> None:
    """Check that an image's layers are of a known kind that registries keep.

    Raises
    ------
    ValueError
        One isn't.
    """
    for layer in layers:
        if _FOREIGN.match(layer.media_type):
            raise ValueError(
                f"the layer {layer.digest} is a foreign one ({layer.media_type}), which registries don't keep"
            )
        if layer.as_oci().media_type not in {LAYER, LAYER_GZIP, LAYER_ZSTD}:
            raise ValueError(f"the layer {layer.digest} is of an unknown kind: {layer.media_type!r}")


def parse_descriptor(entry: object, where: str) -> Descriptor:
    """Return the descriptor in *entry*, a JSON value.

    Parameters
    ----------
    where
        The field that it stands in, for messages.

    Raises
    ------
    ValueError
        It isn't one.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{where} has no descriptor")  # noqa: TRY004  callers handle one error
    digest, size = entry.get("digest"), entry.get("size")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise ValueError(f"{where} has {str(digest)[:100]!r} where a sha256 digest should be")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < _MAX_SIZE:
        raise ValueError(f"{where} gives {digest} the size {str(size)[:100]!r}")
    return Descriptor(
        _text(entry.get("mediaType"), f"the media type in {where}"),
        digest,
        size,
        _texts(entry.get("annotations"), f"annotations in {where}"),
        _platform(entry.get("platform")),
        _text(entry.get("artifactType", ""), f"artifactType in {where}"),
    )


def is_digest(text: str) -> bool:
    """Return True if *text* is ``sha256:<64 hex digits>``."""
    return _DIGEST.fullmatch(text) is not None


def _platform(entry: object) -> str:
    if not isinstance(entry, dict):
        return ""
    parts = (entry.get("os"), entry.get("architecture"), entry.get("variant"))
    return "/".join(str(part) for part in parts if part)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} isn't a text")  # noqa: TRY004  callers handle one error
    return value


def _texts(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} isn't an object")  # noqa: TRY004  callers handle one error
    return {key: _text(text, f"{where}: {key}") for key, text in value.items()}


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} isn't a list")  # noqa: TRY004  callers handle one error
    return value
