"""Look up images in the engine: the base image and the images of a repository.

This is all that a build with no changes asks of an engine, so neither the Docker SDK nor requests is imported
for an engine that plain HTTP can reach.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from imagesync.core.credentials import redact
from imagesync.core.image_reference import Reference, parse_reference
from imagesync.core.strict_json import load_json
from imagesync.engine.client import (
    CERTIFICATES,
    RUBBISH,
    can_speak_to,
    connect,
    engine_errors,
    open_connection,
    unusable_answer,
)
from imagesync.engine.images import engine_image
from imagesync.errors import EngineError

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.engine.images import EngineImage

ANSWER_TIMEOUT = 20.0
"""Seconds that a connected engine may take to list its images."""
_OK, _NOT_FOUND = 200, 404
BASE_REPOSITORY: Final = "imagesync-base"
"""The repository of base images: root images with an interpreter and system packages."""
PACKAGES_REPOSITORY: Final = "imagesync-packages"
"""The repository of images that environments with the same packages from indexes share."""


class FoundImage(NamedTuple):
    """An image of the repository that was asked for.

    Parameters
    ----------
    image_id
        ``sha256:<hex>``.
    tags
        Its tags in that repository, without the repository.
    labels
        Its labels.
    digest
        ``sha256:<hex>``, under which it was pulled from that repository or pushed to it, or ``None``.
    """

    image_id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    digest: str | None = None


class Lookup(NamedTuple):
    """The images of an engine that a build may use.

    Parameters
    ----------
    base_digest
        ``sha256:<hex>``: the base's digest in its registry, else its image ID; ``None`` where the engine
        doesn't have the base.
    images
        All tagged images of the repository.
    packages_images
        All tagged images of :data:`PACKAGES_REPOSITORY`.
    base_images
        All tagged images of :data:`BASE_REPOSITORY`.
    """

    base_digest: str | None
    images: tuple[FoundImage, ...]
    packages_images: tuple[FoundImage, ...] = ()
    base_images: tuple[FoundImage, ...] = ()

    def tagged(self, tag: str) -> FoundImage | None:
        """Return the image with that tag, or ``None``."""
        return next((image for image in self.images if tag in image.tags), None)


def look_up(endpoint: Endpoint, *, base: str, repository: str) -> Lookup:
    """Ask the engine, in one request, for the base image and for all images of a repository.

    The images of packages that environments share come with the same answer.

    Parameters
    ----------
    endpoint
        The engine's.
    base
        A reference, with a tag, a digest or neither, or an image ID.
    repository
        A reference without a tag.

    Raises
    ------
    EngineNotFound
        Nobody answers there; known within a second.
    EngineError
        The engine answers with an error, or with something that isn't a list of images.
    """
    # No filter: Podman 4 wants all of several references to match one image, Docker any of them, and neither
    # finds an image by its ID.
    images, podman = _list_images(endpoint)
    base_image = _find(images, base, podman=podman)
    wanted = parse_reference(repository).names(podman=podman)
    shared = parse_reference(PACKAGES_REPOSITORY).names(podman=podman)
    return Lookup(
        base_digest=_digest(base_image, base),
        images=tuple(_found_images(images, wanted)),
        packages_images=tuple(_found_images(images, shared)),
        base_images=tuple(_found_images(images, parse_reference(BASE_REPOSITORY).names(podman=podman))),
    )


def images_of(endpoint: Endpoint, repository: str) -> tuple[FoundImage, ...]:
    """Return all tagged images of a repository, which is a reference without a tag.

    Raises
    ------
    EngineNotFound, EngineError
        As :func:`look_up`.
    """
    images, podman = _list_images(endpoint)
    return tuple(_found_images(images, parse_reference(repository).names(podman=podman)))


def inspect_image(endpoint: Endpoint, reference: str) -> EngineImage | None:
    """Return the image of a reference or ID, or ``None`` if the engine has none; in one request.

    Raises
    ------
    EngineNotFound, EngineError
        As :func:`look_up`.
    """
    status, _, body = _ask(endpoint, f"/images/{quote(reference, safe='/:')}/json")
    if status == _NOT_FOUND:
        return None
    action = f"look at the image {reference}"
    try:
        answer = load_json(body)
        if status == _OK:
            return engine_image(answer)
        message = str(answer["message"])
    except RUBBISH as error:
        raise unusable_answer(action, error) from error
    raise EngineError(f"The container engine failed to {action}: {redact(message)}")


def root_digest(image_id: str, digests: Sequence[str], reference: str) -> str:
    """Return the identity of a root image: its digest in the registry that it came from, else its ID.

    Parameters
    ----------
    image_id
        ``sha256:<hex>``.
    digests
        ``repository@sha256:<hex>``, as the engine knows the image (``RepoDigests``).
    reference
        The user's name for it.

    >>> root_digest("sha256:id", ["ubuntu@sha256:b", "mirror.example.com/ubuntu@sha256:a"], "ubuntu:24.04")
    'sha256:b'
    >>> root_digest("sha256:id", [], "local:1")
    'sha256:id'
    """
    # Podman and Docker write the same repository differently.
    wanted = frozenset(parse_reference(reference).names(podman=True))
    known = [parse_reference(text) for text in sorted(digests)]
    matching = [each for each in known if not wanted.isdisjoint(each.names(podman=True))]
    return next((each.digest for each in (*matching, *known) if each.digest), image_id)


def _list_images(endpoint: Endpoint) -> tuple[list[dict[str, Any]], bool]:
    status, server, body = _ask(endpoint, "/images/json")
    try:
        answer = load_json(body)
    except ValueError:
        answer = None
    if status != _OK or not isinstance(answer, list) or not all(map(_is_image, answer)):
        reason = (
            answer.get("message", "") if isinstance(answer, dict) else body[:200].decode(errors="replace")
        )
        raise EngineError(
            f"The container engine at {endpoint.url} ({endpoint.origin}) doesn't list its images:"
            f" {redact(str(reason))} (HTTP {status}).",
            hint="If that isn't a container engine, change or unset DOCKER_HOST or the Docker context.",
        )
    return answer, "libpod" in server.lower()


def _ask(endpoint: Endpoint, path: str) -> tuple[int, str, bytes]:
    """Return status, the header ``Server`` and the body of an answer."""
    return _get(endpoint, path) if can_speak_to(endpoint) else _get_through_sdk(endpoint, path)


def _is_image(entry: object) -> bool:
    """Return True if an entry of the list has the types of an image."""
    if not isinstance(entry, dict) or not isinstance(entry.get("Id"), str):
        return False
    names = [name for key in ("RepoTags", "RepoDigests") for name in _listed(entry.get(key))]
    labels = entry.get("Labels") or {}
    return (
        all(isinstance(name, str) for name in names)
        and isinstance(labels, dict)
        and all(isinstance(value, str) for value in labels.values())
    )


def _listed(value: object) -> list[object]:
    # Anything else is one entry, which is no name.
    return value if isinstance(value, list) else [value] if value else []


def _get(endpoint: Endpoint, path: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = open_connection(endpoint, timeout=ANSWER_TIMEOUT)
    try:
        connection.request("GET", path, headers={"User-Agent": "imagesync", "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.getheader("Server", ""), response.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise EngineError(
            f"The container engine at {endpoint.url} ({endpoint.origin}) accepts connections but"
            f" doesn't answer: {redact(str(error)) or type(error).__name__}.",
            hint="Restart the engine, or see its log." if endpoint.tls is None else CERTIFICATES,
        ) from error
    finally:
        connection.close()


def _get_through_sdk(endpoint: Endpoint, path: str) -> tuple[int, str, bytes]:
    client = connect(endpoint)
    try:
        with engine_errors("list its images"):
            response = client.get(f"{client.base_url}/v{client.api_version}{path}", timeout=ANSWER_TIMEOUT)
            return response.status_code, response.headers.get("Server", ""), response.content
    finally:
        client.close()


def _find(images: Iterable[Mapping[str, Any]], text: str, *, podman: bool) -> Mapping[str, Any] | None:
    images = tuple(images)
    reference = parse_reference(text)
    for name in reference.names(podman=podman):
        for image in images:
            if _has_name(image, name, reference):
                return image
    identifier = text.removeprefix("sha256:").lower()
    if len(identifier) >= 12 and set(identifier) <= set("0123456789abcdef"):
        return next((image for image in images if _image_id(image)[7:].startswith(identifier)), None)
    return None


def _has_name(image: Mapping[str, Any], name: str, reference: Reference) -> bool:
    if reference.digest is not None:
        return any(
            parsed.name == name and parsed.digest == reference.digest
            for parsed in _parsed(image, "RepoDigests")
        )
    tag = reference.tag or "latest"
    return any(parsed.name == name and parsed.tag == tag for parsed in _parsed(image, "RepoTags"))


def _parsed(image: Mapping[str, Any], key: str) -> list[Reference]:
    # Docker calls an image without a tag "<none>:<none>".
    return [parse_reference(text) for text in image.get(key) or () if not text.startswith("<none>")]


def _digest(image: Mapping[str, Any] | None, base: str) -> str | None:
    return None if image is None else root_digest(_image_id(image), image.get("RepoDigests") or (), base)


def _image_id(image: Mapping[str, Any]) -> str:
    return "sha256:" + str(image["Id"]).removeprefix("sha256:")


def _found_images(images: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> Iterable[FoundImage]:
    for image in images:
        tags = tuple(
            parsed.tag for parsed in _parsed(image, "RepoTags") if parsed.name in names and parsed.tag
        )
        if tags:
            yield FoundImage(
                _image_id(image), tags, dict(image.get("Labels") or {}), _registry_digest(image, names)
            )


def _registry_digest(image: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    digests = [parsed.digest for parsed in _parsed(image, "RepoDigests") if parsed.name in names]
    # A containerd image store gives every image such a digest, pushed or not: it is the image's ID there.
    return next((digest for digest in digests if digest != _image_id(image)), None)
