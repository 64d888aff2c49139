"""Pull, push and import images, as `docker pull`, `docker push` and `docker import` do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.credentials import redact
from imagesync.core.image_reference import parse_reference, repository_of, split_reference
from imagesync.core.progress import Progress, Task
from imagesync.engine.build_context import dockerfile_quote
from imagesync.engine.client import (
    RUBBISH,
    SEND_TIMEOUT,
    engine_errors,
    failure,
    messages,
    refusal,
    unusable_answer,
)
from imagesync.engine.liveness import Stream
from imagesync.errors import EngineError, RegistryError
from imagesync.registry.login import registry_credentials

if TYPE_CHECKING:
    import docker
    import requests


_CONNECT_TIMEOUT = 60
# The statuses of a layer whose bytes are being transferred, and of one whose bytes are complete.
_MOVING = frozenset({"Downloading", "Pushing"})
_MOVED = frozenset({"Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Pushed"})
# What registries and engines answer to a wrong password, and to none.
_REFUSED = ("unauthorized", "denied", "authentication required", "forbidden", "no basic auth credentials")

Action = Literal["pulled", "pushed"]


def pull_image(api: docker.APIClient, reference: str, *, platform: str, progress: Progress) -> None:
    """Pull an image; the progress counts the bytes of the layers that the engine lacks.

    Raises
    ------
    RegistryError
        The registry doesn't answer, refuses, or has no such image for the platform.
    """
    import docker.auth

    parsed = parse_reference(reference)
    credentials = registry_credentials(parsed.domain, progress=progress)
    _transfer(
        api,
        "create",
        reference,
        action="pulled",
        params={
            "fromImage": repository_of(reference),
            "tag": parsed.digest or parsed.tag or "latest",
            "platform": platform,
        },
        # Without the header Podman uses the credentials of `podman login`, and Docker none.
        headers={"X-Registry-Auth": docker.auth.encode_header(credentials)} if credentials else {},
        progress=progress,
    )


def push_image(api: docker.APIClient, reference: str, *, progress: Progress) -> str | None:
    """Push an image, and return the digest that the engine reports, ``sha256:<hex>``.

    The progress counts the uncompressed bytes of the layers that the registry lacks, as engines do. Only the
    registry can confirm that the image has arrived.

    Raises
    ------
    RegistryError
        The registry doesn't answer, or refuses.
    """
    import docker.auth

    repository, tag = split_reference(reference)
    credentials = registry_credentials(parse_reference(reference).domain, progress=progress)
    return _transfer(
        api,
        f"{repository}/push",
        reference,
        action="pushed",
        params={"tag": tag},
        # Docker requires the header even without credentials.
        headers={"X-Registry-Auth": docker.auth.encode_header(credentials)},
        progress=progress,
    )


def _transfer(
    api: docker.APIClient,
    path: str,
    reference: str,
    *,
    action: Action,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    progress: Progress,
) -> str | None:
    """Have the engine pull or push an image, and return the digest that it reports, if it reports one."""
    import docker.errors
    import requests

    digest = None

    def read(response: requests.Response) -> Iterator[Mapping[str, Any]]:
        if not response.ok:
            raise _registry_error(reference, action, refusal(response))
        yield from messages(response)

    try:
        # Not by the SDK's own methods, which leave the connection open when they fail or are interrupted.
        send = partial(
            api.post,
            f"{api.base_url}/v{api.api_version}/images/{path}",
            params=params,
            headers=headers,
            stream=True,
            timeout=(_CONNECT_TIMEOUT, None),
        )
        label = f"{'Pulling' if action == 'pulled' else 'Pushing'} {reference}"
        with (
            Stream(api, f"have {reference} {action}", send, read) as received,
            progress.task(label, total=None, unit="bytes") as task,
        ):
            layers = _LayerProgress(task, reference, action)
            for message in received:
                layers.feed(message)
                digest = (message.get("aux") or {}).get("Digest") or digest
    except RUBBISH as error:
        raise unusable_answer(f"have {reference} {action}", error) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise _registry_error(reference, action, redact(str(error))) from error
    return digest


class _LayerProgress:
    """Progress over the layers of an image, whose sizes become known one after the other.

    Parameters
    ----------
    task
        Advanced by bytes.
    reference, action
        The image and what happens to it, for error messages.
    """

    def __init__(self, task: Task, reference: str, action: Action) -> None:
        self._task = task
        self._reference = reference
        self._action = action
        self._done: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def feed(self, message: Mapping[str, Any]) -> None:
        """Process one message of the engine.

        Raises
        ------
        RegistryError
            The message reports a failure.
        """
        if (reason := failure(message)) is not None:
            raise _registry_error(self._reference, self._action, reason)
        layer, status = message.get("id"), message.get("status")
        if not layer:
            return
        sizes = message.get("progressDetail") or {}
        if status in _MOVING and sizes.get("total"):
            if layer not in self._sizes:
                self._sizes[layer] = sizes["total"]
                self._task.grow(sizes["total"])
            # Pushed bytes include headers, which the total doesn't count.
            self._advance_to(layer, min(sizes.get("current", 0), self._sizes[layer]))
        elif status in _MOVED:
            # Engines drop messages that follow too soon, also the one with the last bytes.
            self._advance_to(layer, self._sizes.get(layer, 0))

    def _advance_to(self, layer: str, current: int) -> None:
        # A retried layer starts at zero; the progress never goes back.
        done = max(current, self._done.get(layer, 0))
        self._task.advance(done - self._done.get(layer, 0))
        self._done[layer] = done


def _registry_error(reference: str, action: Action, reason: str) -> RegistryError:
    """Return the error for a failure that the engine reports, with a hint for its likely cause."""
    domain = parse_reference(reference).domain
    reason = redact(reason).strip().rstrip(".")
    lower = reason.lower()
    if any(word in lower for word in _REFUSED):
        hint = (
            f"Log in: `docker login {domain}` (or, for Podman, `podman login {domain}`);"
            " if you have, check that the image's name is right."
        )
    elif any(word in lower for word in ("manifest unknown", "not found", "no matching manifest")):
        hint = "Check the image's name and tag, and that it exists for this platform."
    else:
        hint = f"Check that the engine reaches {domain}; a proxy belongs in the engine's own settings."
    return RegistryError(f"{reference} can't be {action}: {reason}.", hint=hint)


def import_archive(
    api: docker.APIClient,
    content: Iterable[bytes],
    reference: str,
    *,
    labels: Mapping[str, str],
    platform: str,
) -> None:
    """Send a tar archive, which becomes the only layer of an image.

    Parameters
    ----------
    api
        The engine's client.
    content
        The archive in pieces, sent as they are produced.
    reference
        The name of the image.
    labels, platform
        What the image declares.

    Raises
    ------
    EngineError
        The engine refuses it.

    Notes
    -----
    ``POST /images/create`` with ``fromSrc``: https://docs.docker.com/reference/api/engine/
    """
    repository, tag = split_reference(reference)
    action = f"take in {reference}"

    def read(response: requests.Response) -> Iterator[Mapping[str, Any]]:
        if not response.ok:
            raise _error(action, refusal(response) or f"HTTP {response.status_code}")
        yield from messages(response)

    with engine_errors(action):
        send = partial(
            api.post,
            f"{api.base_url}/v{api.api_version}/images/create",
            params={
                "fromSrc": "-",
                "repo": repository,
                "tag": tag,
                "platform": platform,
                "changes": [f"LABEL {name}={dockerfile_quote(value)}" for name, value in labels.items()],
            },
            data=iter(content),
            headers={"Content-Type": "application/x-tar"},
            stream=True,
            timeout=(SEND_TIMEOUT, None),
        )
        with Stream(api, action, send, read) as received:
            for message in received:
                if (reason := failure(message)) is not None:
                    raise _error(action, reason)


def _error(action: str, reason: str) -> EngineError:
    return EngineError(f"The container engine failed to {action}: {redact(reason)}")
