"""Blobs to a repository: mounted from another one, or sent, and taken up again after a lost connection.

Source: the OCI distribution specification 1.1, "Pushing Blobs".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from imagesync.core.limits import SILENCES, is_silence, retry_after
from imagesync.core.progress import Task
from imagesync.errors import RegistryError
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import BlobSource
from imagesync.registry.repository import Repository

if TYPE_CHECKING:
    import requests

# Up to this size a blob is sent in one request, and sent again as a whole if that fails.
_SINGLE = 8 << 20
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


def start_upload(repository: Repository) -> str:
    """Begin an upload, and return the URL to send the blob to.

    Raises
    ------
    RegistryError
        The user may not push, or the registry has no such repository.
    """
    response = repository.connection.request(
        "POST", repository.path("blobs/uploads/"), scope=repository.scope("pull,push")
    )
    return _location(repository, response)


def upload(
    repository: Repository, descriptor: Descriptor, source: BlobSource, task: Task, *, mount_from: str = ""
) -> bool:
    """Upload a blob, or mount it; return whether it was mounted.

    Parameters
    ----------
    mount_from
        The path of another repository of the same registry that has the blob, such as ``library/ubuntu``.
        Where the registry refuses to mount, the blob is sent.
    source
        Where it is read; again from its start if the registry loses it.
    task
        Gets the bytes that were sent; fewer again if they are lost.

    Raises
    ------
    RegistryError
        The registry refuses, or loses the upload again and again.
    """
    from imagesync.registry.http import ATTEMPTS
    from imagesync.registry.responses import TRANSIENT, is_dropped

    location = ""
    if mount_from:
        mounted, location = _mount(repository, descriptor, mount_from)
        if mounted:
            task.advance(descriptor.size)
            return True
    blob = _Blob(descriptor, source, task)
    silences = 0
    for attempt in range(1, ATTEMPTS + 1):
        pause = None
        location = location or start_upload(repository)
        try:
            response = _send(repository, blob, location)
            if response.ok:
                return False
            # An upload that the registry has lost is begun again.
            if attempt == ATTEMPTS or response.status_code not in {*TRANSIENT, 404, 416}:
                raise repository.connection.refused(f"push to {repository.name}", response)
            pause = retry_after(response)
        except RegistryError as error:
            silences += is_silence(error)
            is_last = attempt == ATTEMPTS or silences == SILENCES
            if is_last or error.__cause__ is None or not is_dropped(error.__cause__):
                raise
        blob.rewind()
        location = ""
        repository.connection.wait(attempt, pause)
    raise AssertionError("the last attempt returns or raises")


class _Blob:
    """A blob as the body of requests, with the bytes that are on their way counted."""

    def __init__(self, descriptor: Descriptor, source: BlobSource, task: Task) -> None:
        self.descriptor = descriptor
        self._source = source
        self._task = task
        self._counted = 0

    def rewind(self, position: int = 0) -> None:
        """Count only *position* bytes as sent."""
        self._task.advance(position - self._counted)
        self._counted = position

    def rest(self, position: int) -> Callable[[], Iterable[bytes]]:
        """Return a function that yields the bytes from *position* on."""

        def chunks() -> Iterator[bytes]:
            self.rewind(position)
            skipped = position
            for chunk in self._source.read(self.descriptor):
                part = chunk[skipped:]
                skipped -= len(chunk) - len(part)
                if part:
                    yield part
                    self._counted += len(part)
                    self._task.advance(len(part))

        return chunks


def _mount(repository: Repository, descriptor: Descriptor, source: str) -> tuple[bool, str]:
    """Return True if a blob was mounted; else where to send it, if the registry has begun an upload."""
    scope = f"{repository.scope('pull,push')} repository:{source}:pull"
    query = f"blobs/uploads/?mount={descriptor.digest}&from={quote(source, safe='/')}"
    try:
        response = repository.connection.request("POST", repository.path(query), scope=scope)
    except RegistryError:
        # A token service may refuse the scope as a whole.
        return False, ""
    location = response.headers.get("Location", "") if response.status_code == 202 else ""
    return response.status_code == 201, location


def _send(repository: Repository, blob: _Blob, location: str) -> requests.Response:
    from imagesync.registry.http import Body

    descriptor = blob.descriptor
    scope = repository.scope("pull,push")
    if descriptor.size <= _SINGLE:
        return repository.connection.request(
            "PUT",
            _with_digest(location, descriptor.digest),
            scope=scope,
            headers={"Content-Type": "application/octet-stream"},
            data=Body(blob.rest(0), descriptor.size) if descriptor.size else b"",
            attempts=1,
        )
    response = _send_resumable(repository, blob, location)
    if response.status_code not in {202, 204}:
        return response
    location = response.headers.get("Location", location)
    return repository.connection.request(
        "PUT", _with_digest(location, descriptor.digest), scope=scope, attempts=1
    )


def _send_resumable(repository: Repository, blob: _Blob, location: str) -> requests.Response:
    """Send the whole blob in one ``PATCH``, and after a lost connection the rest of it."""
    from imagesync.registry.http import ATTEMPTS, Body
    from imagesync.registry.responses import TRANSIENT, is_dropped

    position, size, scope = 0, blob.descriptor.size, repository.scope("pull,push")
    silences = 0
    for attempt in range(1, ATTEMPTS + 1):
        headers = {"Content-Type": "application/octet-stream"}
        if position:
            headers["Content-Range"] = f"{position}-{size - 1}"
        pause = None
        try:
            body = Body(blob.rest(position), size - position)
            response = repository.connection.request(
                "PATCH", location, scope=scope, headers=headers, data=body, attempts=1
            )
            if response.status_code not in TRANSIENT or attempt == ATTEMPTS:
                return response
            pause = retry_after(response)
        except RegistryError as error:
            silences += is_silence(error)
            is_last = attempt == ATTEMPTS or silences == SILENCES
            if is_last or error.__cause__ is None or not is_dropped(error.__cause__):
                raise
        repository.connection.wait(attempt, pause)
        response = repository.connection.request("GET", location, scope=scope)
        if not response.ok:
            return response
        # Where and from which byte on to go on.
        location = response.headers.get("Location", location)
        received = _RANGE.fullmatch(response.headers.get("Range", ""))
        # No range, or 0-0, is nothing: the registry of Docker says so of an upload that is empty.
        position = int(received[1]) + 1 if received and received[1] != "0" else 0
        if position >= size:
            return response
    raise AssertionError("the last attempt returns or raises")


def _location(repository: Repository, response: requests.Response) -> str:
    path = repository.reference.path
    if response.status_code == 404:
        from imagesync.registry.responses import explanation

        raise RegistryError(
            f"The registry {repository.reference.domain} has no repository {path}: {explanation(response)}.",
            hint="Some registries want a repository made before the first push, as"
            f" `aws ecr create-repository --repository-name {path}` does.",
        )
    if response.status_code != 202 or "Location" not in response.headers:
        raise repository.connection.refused(f"push to {path}", response)
    return response.headers["Location"]


def _with_digest(location: str, digest: str) -> str:
    """Return the URL that ends an upload.

    >>> _with_digest("/v2/env/blobs/uploads/1?state=a", "sha256:0")
    '/v2/env/blobs/uploads/1?state=a&digest=sha256:0'
    """
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
