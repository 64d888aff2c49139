"""What a registry has, and what it allows: asked over HTTP, with no engine and no pull."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from imagesync.core.image_reference import Reference, parse_reference
from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import RegistryError
from imagesync.registry.connection import Connection
from imagesync.registry.login import registry_credentials
from imagesync.registry.manifest import ACCEPTED, INDEXES, choose_platform, parse_manifest, sha256
from imagesync.registry.responses import explanation, refused

if TYPE_CHECKING:
    from imagesync.registry.manifest import Descriptor

PLATFORM = "linux/amd64"
# The specification lets registries refuse manifests above 4 MiB; a configuration holds labels and history.
_MAX_MANIFEST = 4 << 20
_MAX_CONFIG = 16 << 20


@dataclass(frozen=True)
class RemoteImage:
    """What a registry says of an image.

    Parameters
    ----------
    reference
        ``<repository>@sha256:<hex>``, the repository as it was written: what always means this image.
    digest
        ``sha256:<hex>`` of the manifest; of the index, where the image is one of several platforms.
    config_digest
        ``sha256:<hex>`` of the configuration, which engines call the image ID.
    manifest_digest
        ``sha256:<hex>`` of the platform's own manifest; the same as *digest* where there is no index.
    config
        The image's configuration (OCI image specification, "Image Configuration").
    size
        Of all layers, in bytes, as they are pulled.
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
    """Return the digest that a reference stands for now, or ``None`` where the registry has no such image.

    One ``HEAD``, which registries don't count as a pull.

    Parameters
    ----------
    reference
        With a tag, a digest or neither; ``latest`` then.
    progress
        Gets a line if a credential helper fails.
    insecure
        Whether the engine takes this registry without TLS, too; loopback always is.

    Raises
    ------
    RegistryError
        It doesn't answer, or refuses.
    """
    with _Repository(reference, progress=progress, insecure=insecure) as repository:
        return repository.head(repository.wanted)


def read_config(
    reference: str,
    *,
    platform: str = PLATFORM,
    progress: Progress | None = None,
    insecure: bool = False,
) -> RemoteImage | None:
    """Return labels, configuration and digest of an image, without pulling it; ``None`` where there is none.

    What is returned was checked against its digests.

    Parameters
    ----------
    platform
        Which manifest of an index.
    progress, insecure
        As in :func:`read_digest`.

    Raises
    ------
    RegistryError
        The registry doesn't answer, refuses, answers with something else than an image, or has it for other
        platforms only.
    """
    with _Repository(reference, progress=progress, insecure=insecure) as repository:
        return repository.read(platform)


def check_push(repository: str, *, progress: Progress | None = None, insecure: bool = False) -> None:
    """Make sure that the user may push to *repository*, by beginning an upload and cancelling it.

    Nothing is left there. A token alone says little: some token services grant less than was asked for, and
    don't say so.

    Raises
    ------
    RegistryError
        The user may not, or the registry doesn't answer.
    """
    with _Repository(repository, progress=progress, insecure=insecure) as there:
        there.try_upload()


class _Repository:
    """One repository of a registry, over one connection."""

    def __init__(self, text: str, *, progress: Progress | None, insecure: bool) -> None:
        self._reference: Reference = parse_reference(text)
        self.wanted = self._reference.digest or self._reference.tag or "latest"
        self._text = text
        name = text.partition("@")[0]
        self.name = name.removesuffix(f":{self._reference.tag}") if self._reference.tag else name
        domain = self._reference.domain
        credentials = registry_credentials(domain, progress=progress or SilentProgress())
        self._connection = Connection(domain, credentials, insecure=insecure)

    def __enter__(self) -> _Repository:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.__exit__(None, None, None)

    def head(self, wanted: str) -> str | None:
        answer = self._get("HEAD", f"manifests/{wanted}", accept=ACCEPTED)
        if answer.status_code == 404:
            return None
        if not answer.ok:
            raise refused(self._reference.domain, f"look at {self._text}", answer)
        digest = answer.headers.get("Docker-Content-Digest")
        # Not every registry sends the header, which the specification only recommends.
        return digest or self._manifest(wanted)[0]

    def read(self, platform: str) -> RemoteImage | None:
        answer = self._get("GET", f"manifests/{self.wanted}", accept=ACCEPTED)
        if answer.status_code == 404:
            return None
        digest, content = self._checked_manifest(answer, self._reference.digest)
        manifest_digest = digest
        if content.get("mediaType") in INDEXES or "manifests" in content:
            chosen = choose_platform(content, platform)
            if chosen is None:
                raise self._unfit(f"it isn't there for {platform}")
            manifest_digest, content = self._manifest(chosen.digest)
        try:
            manifest = parse_manifest(content)
        except ValueError as error:
            raise self._unfit(str(error)) from error
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
        answer = self._connection.request("POST", path, scope=scope)
        if answer.status_code == 404:
            raise RegistryError(
                f"The registry {self._reference.domain} has no repository {self._reference.path}:"
                f" {explanation(answer)}.",
                hint="Some registries want a repository made before the first push, as"
                f" `aws ecr create-repository --repository-name {self._reference.path}` does.",
            )
        if answer.status_code != 202:
            raise refused(self._reference.domain, f"push to {self._reference.path}", answer)
        if location := answer.headers.get("Location"):
            # A registry that can't cancel an upload forgets it after some days.
            with suppress(RegistryError):
                self._connection.request("DELETE", location, scope=scope)

    def _manifest(self, wanted: str) -> tuple[str, Mapping[str, Any]]:
        answer = self._get("GET", f"manifests/{wanted}", accept=ACCEPTED)
        return self._checked_manifest(answer, wanted if ":" in wanted else None)

    def _checked_manifest(
        self, answer: requests.Response, expected: str | None
    ) -> tuple[str, Mapping[str, Any]]:
        content = self._content(answer, _MAX_MANIFEST)
        digest = sha256(content)
        said = expected or answer.headers.get("Docker-Content-Digest") or digest
        if said.startswith("sha256:") and said != digest:
            raise self._unfit(f"its manifest should be {said} and is {digest}")
        return said, self._parsed(content)

    def _config(self, descriptor: Descriptor) -> Mapping[str, Any]:
        answer = self._get("GET", f"blobs/{descriptor.digest}", accept="*/*")
        content = self._content(answer, _MAX_CONFIG)
        if descriptor.digest.startswith("sha256:") and sha256(content) != descriptor.digest:
            raise self._unfit(f"its configuration isn't {descriptor.digest}")
        return self._parsed(content)

    def _get(self, method: str, path: str, *, accept: str) -> requests.Response:
        return self._connection.request(
            method,
            f"/v2/{self._reference.path}/{path}",
            scope=self._scope("pull"),
            headers={"Accept": accept},
        )

    def _content(self, answer: requests.Response, limit: int) -> bytes:
        if not answer.ok:
            raise refused(self._reference.domain, f"read {self._text}", answer)
        if len(answer.content) > limit:
            raise self._unfit(f"an answer of {len(answer.content)} bytes is too large")
        return answer.content

    def _parsed(self, content: bytes) -> Mapping[str, Any]:
        try:
            parsed = json.loads(content)
        except ValueError as error:
            raise self._unfit("it isn't JSON") from error
        if not isinstance(parsed, dict):
            raise self._unfit("it isn't an object")
        return parsed

    def _scope(self, actions: str) -> str:
        return f"repository:{self._reference.path}:{actions}"

    def _unfit(self, reason: str) -> RegistryError:
        return RegistryError(
            f"What {self._reference.domain} has as {self._text} can't be used: {reason}.",
            hint="Check the image's name; what isn't an image of ours can't be taken for one.",
        )
