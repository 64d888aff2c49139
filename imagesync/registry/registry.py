"""Images in a registry, their manifests, and permission to push, over HTTP: without an engine or a pull.

Source: the OCI image specification 1.1, and Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from imagesync.core.limits import SILENCE
from imagesync.core.progress import Progress
from imagesync.errors import RegistryError
from imagesync.registry.manifest import parse_json
from imagesync.registry.repository import Repository
from imagesync.registry.upload import start_upload


@dataclass(frozen=True)
class RemoteImage:
    """An image in a registry.

    Parameters
    ----------
    reference
        ``<repository>@sha256:<hex>``, the repository as it was written.
    digest
        ``sha256:<hex>`` of the manifest, or of the index of a multi-platform image.
    manifest_digest
        ``sha256:<hex>`` of the platform's own manifest; the same as *digest* where there is no index.
    config_digest
        ``sha256:<hex>`` of the configuration, which engines call the image ID.
    config
        The image's configuration (OCI image specification, "Image Configuration").
    size
        Of all layers, compressed, in bytes.
    """

    reference: str
    digest: str
    manifest_digest: str
    config_digest: str
    config: Mapping[str, Any] = field(repr=False)
    size: int

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the image's labels."""
        return (self.config.get("config") or {}).get("Labels") or {}


def read_digest(
    reference: str, *, progress: Progress | None = None, insecure: bool = False, timeout: float = SILENCE
) -> str | None:
    """Return the digest that a reference points to now, or ``None`` where the registry has no such image.

    One ``HEAD``, which registries don't count as a pull.

    Parameters
    ----------
    reference
        With a tag, a digest, or neither for ``latest``.
    progress
        Gets a line if a credential helper fails.
    insecure
        Whether the engine accepts this registry without TLS; it always accepts loopback.
    timeout
        Seconds without a byte.

    Raises
    ------
    RegistryError
        The registry can't be reached, or refuses.
    """
    with Repository(reference, progress=progress, insecure=insecure, timeout=timeout) as repository:
        return repository.head(repository.wanted)


def read_config(
    reference: str,
    *,
    platform: str,
    progress: Progress | None = None,
    insecure: bool = False,
    timeout: float = SILENCE,
) -> RemoteImage | None:
    """Return labels, configuration and digest of an image, without pulling it; ``None`` where there is none.

    Manifest and configuration are verified against their digests.

    Parameters
    ----------
    platform
        The manifest to choose from an index.
    reference, progress, insecure, timeout
        As in :func:`read_digest`.

    Raises
    ------
    RegistryError
        The registry can't be reached, refuses, has something else than an image, or has the image for other
        platforms only.
    """
    with Repository(reference, progress=progress, insecure=insecure, timeout=timeout) as repository:
        found = repository.resolve(platform)
        if found is None:
            return None
        named, image = found
        return RemoteImage(
            reference=f"{repository.name}@{named.digest}",
            digest=named.digest,
            manifest_digest=image.digest,
            config_digest=image.manifest.config.digest,
            config=parse_json(image.config_content),
            size=image.size,
        )


def check_push(
    repository: str, *, progress: Progress | None = None, insecure: bool = False, timeout: float = SILENCE
) -> None:
    """Check that the user may push to *repository*, by beginning an upload and cancelling it.

    Nothing is left there. A token proves little: some token services silently grant less than was asked for.

    Raises
    ------
    RegistryError
        The user may not, or the registry can't be reached.
    """
    with Repository(repository, progress=progress, insecure=insecure, timeout=timeout) as target:
        location = start_upload(target)
        # A registry that can't cancel an upload forgets it after some days.
        with suppress(RegistryError):
            target.connection.request("DELETE", location, scope=target.scope("pull,push"))
