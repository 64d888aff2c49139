"""Pulling an image with the user's own credentials, as `docker pull` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import docker
import docker.auth
import docker.errors
import requests

from imagesync.build.client import messages, refusal
from imagesync.credentials import redact
from imagesync.errors import RegistryError
from imagesync.oci.login import registry_credentials
from imagesync.oci.reference import parse_reference
from imagesync.ui.progress import Progress, Task

_CONNECT_TIMEOUT = 60
# What an engine says of a layer whose bytes are all here.
_DOWNLOADED = frozenset({"Verifying Checksum", "Download complete", "Extracting", "Pull complete"})


def pull_image(api: docker.APIClient, reference: str, *, platform: str, progress: Progress) -> None:
    """Pull an image; the progress counts the bytes of the layers that aren't here yet.

    Raises
    ------
    RegistryError
        The registry doesn't answer, refuses, or has no such image for the platform.
    """
    parsed = parse_reference(reference)
    name = reference.partition("@")[0]
    repository = name if parsed.tag is None else name.removesuffix(f":{parsed.tag}")
    wanted = parsed.digest or parsed.tag or "latest"
    credentials = registry_credentials(parsed.domain, progress=progress)
    try:
        # Not by the SDK's own method, which leaves the connection open when a pull fails or is interrupted.
        response = api.post(
            f"{api.base_url}/v{api.api_version}/images/create",
            params={"fromImage": repository, "tag": wanted, "platform": platform},
            # Without the header Podman uses what `podman login` keeps, and Docker no credentials.
            headers={"X-Registry-Auth": docker.auth.encode_header(credentials)} if credentials else {},
            stream=True,
            timeout=(_CONNECT_TIMEOUT, None),
        )
        with response, progress.task(f"Pulling {reference}", total=None, unit="bytes") as task:
            if not response.ok:
                raise _registry_error(reference, refusal(response))
            layers = _Layers(task)
            for message in messages(response):
                layers.feed(message, reference)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise _registry_error(reference, redact(str(error))) from error


class _Layers:
    """The layers of a pull, whose sizes become known one after the other."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._done: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def feed(self, message: Mapping[str, Any], reference: str) -> None:
        detail = message.get("errorDetail")
        if detail or message.get("error"):
            raise _registry_error(reference, str((detail or {}).get("message") or message.get("error")))
        layer, status = message.get("id"), message.get("status")
        if not layer:
            return
        sizes = message.get("progressDetail") or {}
        if status == "Downloading" and sizes.get("total"):
            if layer not in self._sizes:
                self._sizes[layer] = sizes["total"]
                self._task.grow(sizes["total"])
            self._reach(layer, sizes.get("current", 0))
        elif status in _DOWNLOADED:
            # Engines leave out what they would say too soon after the message before, the last bytes too.
            self._reach(layer, self._sizes.get(layer, 0))

    def _reach(self, layer: str, current: int) -> None:
        # An engine that tries a layer again starts at zero; what is shown never goes back.
        done = max(current, self._done.get(layer, 0))
        self._task.advance(done - self._done.get(layer, 0))
        self._done[layer] = done


# What registries and engines say to a wrong password, and to none.
_REFUSED = ("unauthorized", "denied", "authentication required", "forbidden", "no basic auth credentials")


def _registry_error(reference: str, said: str) -> RegistryError:
    domain = parse_reference(reference).domain
    said = redact(said).strip().rstrip(".")
    lower = said.lower()
    if any(word in lower for word in _REFUSED):
        hint = (
            f"Log in: `docker login {domain}` (or, for Podman, `podman login {domain}`);"
            " if you have, check that the image's name is right."
        )
    elif any(word in lower for word in ("manifest unknown", "not found", "no matching manifest")):
        hint = "Check the image's name and tag, and that it exists for this platform."
    else:
        hint = f"Check that the engine reaches {domain}; a proxy belongs into the engine's own settings."
    return RegistryError(f"{reference} can't be pulled: {said}.", hint=hint)
