"""Images in a registry, their manifests, and permission to push, over HTTP: without an engine or a pull.

Source: the OCI image specification 1.1, and Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagesync.core.image_reference import Reference, parse_reference, repository_of
from imagesync.core.platforms import IMAGE_PLATFORM
from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import RegistryError
from imagesync.registry.login import registry_credentials
from imagesync.registry.manifest import (
    ACCEPTED,
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    parse_json,
    parse_manifest,
    sha256,
)

if TYPE_CHECKING:
    import requests


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


def read_digest(reference: str, *, progress: Progress | None = None, insecure: bool = False) -> str | None:
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

    Raises
    ------
    RegistryError
        The registry can't be reached, or refuses.
    """
    with _Repository(reference, progress=progress, insecure=insecure) as repository:
        return repository.head(repository.wanted)


def read_config(
    reference: str,
    *,
    platform: str = IMAGE_PLATFORM,
    progress: Progress | None = None,
    insecure: bool = False,
) -> RemoteImage | None:
    """Return labels, configuration and digest of an image, without pulling it; ``None`` where there is none.

    Manifest and configuration are verified against their digests.

    Parameters
    ----------
    platform
        The manifest to choose from an index.
    reference, progress, insecure
        As in :func:`read_digest`.

    Raises
    ------
    RegistryError
        The registry can't be reached, refuses, has something else than an image, or has the image for other
        platforms only.
    """
    with _Repository(reference, progress=progress, insecure=insecure) as repository:
        return repository.read(platform)


def check_push(repository: str, *, progress: Progress | None = None, insecure: bool = False) -> None:
    """Check that the user may push to *repository*, by beginning an upload and cancelling it.

    Nothing is left there. A token proves little: some token services silently grant less than was asked for.

    Raises
    ------
    RegistryError
        The user may not, or the registry can't be reached.
    """
    with _Repository(repository, progress=progress, insecure=insecure) as target:
        target.try_upload()


class _Repository:
    """One repository of a registry, over one connection."""

    def __init__(self, text: str, *, progress: Progress | None, insecure: bool) -> None:
        self._reference: Reference = parse_reference(text)
        self.wanted = self._reference.digest or self._reference.tag or "latest"
        self._text = text
        self.name = repository_of(text)
        domain = self._reference.domain
        credentials = registry_credentials(domain, progress=progress or SilentProgress())
        # Imports requests, which takes 0.1 s.
        from imagesync.registry.http import Connection

        self._connection = Connection(domain, credentials, insecure=insecure)

    def __enter__(self) -> _Repository:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.__exit__(None, None, None)

    def head(self, wanted: str) -> str | None:
        response = self._get("HEAD", f"manifests/{wanted}", accept=ACCEPTED)
        if response.status_code == 404:
            return None
        if not response.ok:
            raise self._connection.refused(f"look at {self._text}", response)
        digest = response.headers.get("Docker-Content-Digest")
        # Not every registry sends the header, which the specification only recommends.
        return digest or self._manifest(wanted)[0]

    def read(self, platform: str) -> RemoteImage | None:
        response = self._get("GET", f"manifests/{self.wanted}", accept=ACCEPTED)
        if response.status_code == 404:
            return None
        digest, manifest = self._verified_manifest(response, self._reference.digest)
        manifest_digest = digest
        if isinstance(manifest, Index):
            chosen = manifest.for_platform(platform)
            if chosen is None:
                raise self._unusable(f"it isn't there for {platform}")
            manifest_digest, manifest = self._manifest(chosen.digest)
        if isinstance(manifest, Index):
            raise self._unusable("it is an index of indexes")
        return RemoteImage(
            reference=f"{self.name}@{digest}",
            digest=digest,
            manifest_digest=manifest_digest,
            config_digest=manifest.config.digest,
            config=self._config(manifest.config),
            size=sum(layer.size for layer in manifest.layers),
        )

    def try_upload(self) -> None:
        path, scope = f"/v2/{self._reference.path}/blobs/uploads/", self._scope("pull,push")
        response = self._connection.request("POST", path, scope=scope)
        if response.status_code == 404:
            from imagesync.registry.http import explanation

            raise RegistryError(
                f"The registry {self._reference.domain} has no repository {self._reference.path}:"
                f" {explanation(response)}.",
                hint="Some registries want a repository made before the first push, as"
                f" `aws ecr create-repository --repository-name {self._reference.path}` does.",
            )
        if response.status_code != 202:
            raise self._connection.refused(f"push to {self._reference.path}", response)
        if location := response.headers.get("Location"):
            # A registry that can't cancel an upload forgets it after some days.
            with suppress(RegistryError):
                self._connection.request("DELETE", location, scope=scope)

    def _manifest(self, wanted: str) -> tuple[str, Manifest | Index]:
        response = self._get("GET", f"manifests/{wanted}", accept=ACCEPTED)
        return self._verified_manifest(response, wanted if ":" in wanted else None)

    def _verified_manifest(
        self, response: requests.Response, expected: str | None
    ) -> tuple[str, Manifest | Index]:
        content = self._content(response, MAX_MANIFEST)
        digest = sha256(content)
        wanted = expected or response.headers.get("Docker-Content-Digest") or digest
        if wanted.startswith("sha256:") and wanted != digest:
            raise self._unusable(f"its manifest should be {wanted} and is {digest}")
        try:
            return wanted, parse_manifest(content)
        except ValueError as error:
            raise self._unusable(str(error)) from error

    def _config(self, descriptor: Descriptor) -> Mapping[str, Any]:
        response = self._get("GET", f"blobs/{descriptor.digest}", accept="*/*")
        content = self._content(response, MAX_CONFIG)
        if descriptor.digest.startswith("sha256:") and sha256(content) != descriptor.digest:
            raise self._unusable(f"its configuration isn't {descriptor.digest}")
        return self._parsed(content)

    def _get(self, method: str, path: str, *, accept: str) -> requests.Response:
        return self._connection.request(
            method,
            f"/v2/{self._reference.path}/{path}",
            scope=self._scope("pull"),
            headers={"Accept": accept},
        )

    def _content(self, response: requests.Response, limit: int) -> bytes:
        if not response.ok:
            raise self._connection.refused(f"read {self._text}", response)
        if len(response.content) > limit:
            raise self._unusable(f"an answer of {len(response.content)} bytes is too large")
        return response.content

    def _parsed(self, content: bytes) -> Mapping[str, Any]:
        try:
            return parse_json(content)
        except ValueError as error:
            raise self._unusable(str(error)) from error

    def _scope(self, actions: str) -> str:
        return f"repository:{self._reference.path}:{actions}"

    def _unusable(self, reason: str) -> RegistryError:
        return RegistryError(
            f"What {self._reference.domain} has as {self._text} can't be used: {reason}.",
            hint="Check the image's name: imagesync can't use this content.",
        )
