"""One repository of a registry: manifests, tags and blobs, read with digests checked.

Source: the OCI distribution specification 1.1.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from imagesync.core.digests import sha256_of
from imagesync.core.image_reference import Reference, parse_reference, repository_of
from imagesync.core.limits import SILENCE, SILENCES, TooSlow, arriving, bounded, is_silence
from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import RegistryError
from imagesync.registry.login import registry_credentials
from imagesync.registry.manifest import (
    ACCEPTED,
    INDEX,
    MANIFEST,
    Descriptor,
    Index,
    parse_json,
    parse_manifest,
)
from imagesync.registry.oci_image import OCIImage, load_image, verified

if TYPE_CHECKING:
    import requests

    from imagesync.registry.http import Connection

# Of a list of referrers, so that no registry keeps imagesync busy for ever.
_MAX_PAGES = 100


class Repository:
    """One repository, over one connection; for several threads.

    It is a source of blobs: see :class:`~imagesync.registry.oci_image.BlobSource`.

    Parameters
    ----------
    text
        A reference: with a tag, a digest, or neither for ``latest``.
    progress
        Gets a line if a credential helper fails.
    insecure
        Whether the engine accepts this registry without TLS; it always accepts loopback.
    timeout
        Seconds without a byte.
    connection
        Another repository's of the same registry; its own if not given.
    """

    def __init__(
        self,
        text: str,
        *,
        progress: Progress | None = None,
        insecure: bool = False,
        timeout: float = SILENCE,
        connection: Connection | None = None,
    ) -> None:
        self.text = text
        self.reference: Reference = parse_reference(text)
        self.wanted = self.reference.digest or self.reference.tag or "latest"
        self.name = repository_of(text)
        self._is_owner = connection is None
        self._progress = progress or SilentProgress()
        self._insecure = insecure
        self._timeout = timeout
        self._connection = connection
        self._connecting = threading.Lock()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection is not None and self._is_owner:
            self._connection.__exit__(None, None, None)

    @property
    def connection(self) -> Connection:
        """Return the connection, which is made when it is needed."""
        with self._connecting:
            if self._connection is None:
                # Imports requests, which takes 0.1 s.
                from imagesync.registry.http import Connection

                credentials = registry_credentials(self.reference.domain, progress=self._progress)
                self._connection = Connection(
                    self.reference.domain, credentials, insecure=self._insecure, timeout=self._timeout
                )
            return self._connection

    def path(self, rest: str) -> str:
        """Return the path below the registry of *rest* below this repository."""
        return f"/v2/{self.reference.path}/{rest}"

    def scope(self, actions: str) -> str:
        """Return the scope of a token for this repository, such as for ``pull,push``."""
        return f"repository:{self.reference.path}:{actions}"

    def unusable(self, reason: str) -> RegistryError:
        """Return the error for content that imagesync can't use."""
        return RegistryError(
            f"What {self.reference.domain} has as {self.text} can't be used: {reason}.",
            hint="Check the image's name: imagesync can't use this content.",
        )

    def head(self, wanted: str) -> str | None:
        """Return the digest of a tag's or a digest's manifest, or ``None`` where there is none.

        One ``HEAD``, which registries don't count as a pull.
        """
        response = self._get("HEAD", f"manifests/{wanted}", accept=ACCEPTED)
        if response.status_code == 404:
            return None
        if not response.ok:
            raise self.connection.refused(f"look at {self.text}", response)
        digest = response.headers.get("Docker-Content-Digest")
        if digest:
            return digest
        # Not every registry sends the header, which the specification only recommends.
        found = self.manifest(wanted)
        return None if found is None else found[0].digest

    def manifest(self, wanted: str) -> tuple[Descriptor, bytes] | None:
        """Return the manifest or the index of a tag or a digest, or ``None`` where there is none.

        Raises
        ------
        RegistryError
            Its digest is wrong, or the registry refuses.
        """
        response = self._get("GET", f"manifests/{wanted}", accept=ACCEPTED)
        if response.status_code == 404:
            return None
        if not response.ok:
            raise self.connection.refused(f"read {self.text}", response)
        content = response.content
        digest = sha256_of(content)
        expected = (wanted if ":" in wanted else "") or response.headers.get("Docker-Content-Digest", digest)
        if expected != digest:
            raise self.unusable(f"its manifest should be {expected} and is {digest}")
        declared = response.headers.get("Content-Type", "").partition(";")[0].strip()
        try:
            media_type = parse_json(content).get("mediaType") or declared or MANIFEST
        except ValueError as error:
            raise self.unusable(str(error)) from error
        return Descriptor(str(media_type), digest, len(content)), content

    def resolve(self, platform: str) -> tuple[Descriptor, OCIImage] | None:
        """Return the descriptor of the reference, and the image for *platform*; ``None`` where there is none.

        Nothing of its layers is read.

        Raises
        ------
        RegistryError
            It isn't there for *platform*, has a format or content that can't be used, or the registry
            refuses.
        """
        found = self.manifest(self.wanted)
        if found is None:
            return None
        named, content = found
        descriptor = named
        try:
            manifest = parse_manifest(content)
            if isinstance(manifest, Index):
                chosen = manifest.for_platform(platform)
                if chosen is None:
                    others = ", ".join(manifest.platforms) or "no platform"
                    raise self.unusable(f"it isn't there for {platform}, but for {others}")
                descriptor = chosen
            return named, load_image(descriptor, _Documents(self, {named.digest: content}))
        except ValueError as error:
            raise self.unusable(str(error)) from error

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the content of a blob in chunks; a lost connection is taken up where it ended.

        Raises
        ------
        RegistryError
            The content isn't what *descriptor* says, or the registry doesn't give it.
        """
        yield from verified(self._chunks(descriptor), descriptor, RegistryError)

    def read_range(self, descriptor: Descriptor, start: int, part: Descriptor) -> Iterator[bytes]:
        """Yield a part of a blob in chunks, which begins at the byte *start* and is described by *part*.

        Raises
        ------
        RegistryError
            The content isn't what *part* says, or the registry doesn't give it.
        """
        chunks = self._chunks(descriptor, start, start + part.size)
        yield from verified(chunks, part, RegistryError)

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return True if the repository has the blob, in the size that it should have."""
        response = self._get("HEAD", f"blobs/{descriptor.digest}", accept="*/*")
        if response.status_code == 404:
            return False
        if not response.ok:
            raise self.connection.refused(f"look for blobs in {self.name}", response)
        return response.headers.get("Content-Length", str(descriptor.size)) == str(descriptor.size)

    def put_manifest(self, content: bytes, media_type: str, wanted: str) -> None:
        """Put a manifest under a tag or its digest.

        Raises
        ------
        RegistryError
            The registry refuses.
        """
        response = self.try_put_manifest(content, media_type, wanted)
        if not response.ok:
            raise self.connection.refused(f"push {self.name}:{wanted}", response)

    def try_put_manifest(self, content: bytes, media_type: str, wanted: str) -> requests.Response:
        """Put a manifest under a tag or its digest, and return the response, whatever its status."""
        return self.connection.request(
            "PUT",
            self.path(f"manifests/{wanted}"),
            scope=self.scope("pull,push"),
            headers={"Content-Type": media_type},
            data=content,
        )

    def referrers(self, digest: str, artifact_type: str = "") -> Index:
        """Return the artifacts about a manifest, by the API or by the tag where the registry has no API.

        Parameters
        ----------
        digest
            The manifest's.
        artifact_type
            The only type to return; all if empty.
        """
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        response = self._get("GET", f"referrers/{digest}{query}", accept=ACCEPTED)
        if _is_index(response):
            pages = [self._index(response.content)]
            # A list of many referrers comes in pages.
            while (link := response.links.get("next", {}).get("url")) and len(pages) < _MAX_PAGES:
                try:
                    page = urljoin(response.url, link)
                except ValueError:
                    raise self.connection.refused(f"list what there is about {digest}", response) from None
                response = self.connection.request(
                    "GET", page, scope=self.scope("pull"), headers={"Accept": ACCEPTED}
                )
                if not _is_index(response):
                    raise self.connection.refused(f"list what there is about {digest}", response)
                pages.append(self._index(response.content))
        else:
            found = self.manifest(referrers_tag(digest))
            pages = [] if found is None else [self._index(found[1])]
        entries = {entry.digest: entry for page in pages for entry in page.manifests}
        wanted = (entry for entry in entries.values() if artifact_type in {"", entry.artifact_type})
        return Index(tuple(wanted))

    def _index(self, content: bytes) -> Index:
        try:
            index = parse_manifest(content)
        except ValueError as error:
            raise self.unusable(f"its referrers: {error}") from error
        if not isinstance(index, Index):
            raise self.unusable("its referrers aren't an index")
        return index

    def _chunks(self, descriptor: Descriptor, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        from imagesync.registry.http import ATTEMPTS
        from imagesync.registry.responses import is_dropped, reason

        position, failures, silences = start, 0, 0
        end = descriptor.size if end is None else end
        while position < end or not descriptor.size:
            with self._open(descriptor, position, end) as response:
                skipped = 0 if response.status_code == 206 else position
                try:
                    for chunk in bounded(arriving(response), most=skipped + descriptor.size - position):
                        rest = chunk[skipped:]
                        skipped -= len(chunk) - len(rest)
                        # A registry without ranges gives the whole blob.
                        rest = rest[: end - position] if end < descriptor.size else rest
                        position += len(rest)
                        failures = 0
                        if rest:
                            yield rest
                        if position == end < descriptor.size:
                            return
                except Exception as error:
                    failures += 1
                    silences += is_silence(error)
                    is_last = failures == ATTEMPTS or silences == SILENCES or isinstance(error, TooSlow)
                    if is_last or not is_dropped(error):
                        raise RegistryError(
                            f"The registry {self.reference.domain} doesn't give {descriptor.digest} of"
                            f" {self.name}: {reason(error)} after {position} of {descriptor.size} bytes."
                        ) from error
                else:
                    return
            self.connection.wait(failures)

    def _open(self, descriptor: Descriptor, position: int, end: int) -> requests.Response:
        # Bytes as they are stored: a compressed transfer would have another digest.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if position or end < descriptor.size:
            headers["Range"] = f"bytes={position}-{end - 1}"
        response = self.connection.request(
            "GET",
            self.path(f"blobs/{descriptor.digest}"),
            scope=self.scope("pull"),
            headers=headers,
            stream=True,
        )
        if not response.ok:
            with response:
                raise self.connection.refused(f"read {descriptor.digest} of {self.name}", response)
        return response

    def _get(self, method: str, path: str, *, accept: str) -> requests.Response:
        return self.connection.request(
            method, self.path(path), scope=self.scope("pull"), headers={"Accept": accept}
        )


def _is_index(response: requests.Response) -> bool:
    return response.ok and INDEX in response.headers.get("Content-Type", "")


class _Documents:
    """A repository of which some documents are here already, and others are asked as manifests."""

    def __init__(self, repository: Repository, known: dict[str, bytes]) -> None:
        self._repository = repository
        self._known = known

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        if descriptor.digest in self._known:
            yield self._known[descriptor.digest]
        elif "manifest" in descriptor.media_type or "index" in descriptor.media_type:
            found = self._repository.manifest(descriptor.digest)
            if found is None:
                raise self._repository.unusable(f"its manifest {descriptor.digest} is missing")
            yield from verified([found[1]], descriptor, RegistryError)
        else:
            yield from self._repository.read(descriptor)


def referrers_tag(digest: str) -> str:
    """Return the tag that lists the artifacts about a manifest where a registry has no API for it.

    >>> referrers_tag("sha256:" + "ab" * 32)[:16]
    'sha256-ababababa'
    """
    return digest.replace(":", "-")
