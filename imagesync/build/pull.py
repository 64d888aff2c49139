"""Pulling an image with the user's own credentials, as `docker pull` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import docker
import docker.auth
import docker.errors
import requests

from imagesync.build.client import explanation
from imagesync.build.reference import parse_reference
from imagesync.credentials import redact
from imagesync.errors import RegistryError
from imagesync.ui.progress import Progress, Task


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
    try:
        credentials = registry_credentials(parsed.domain, progress=progress)
        messages = api.pull(
            repository, tag=wanted, stream=True, decode=True, platform=platform, auth_config=credentials
        )
        with progress.task(f"Pulling {reference}", total=None, unit="bytes") as task:
            layers = _Layers(task)
            for message in messages:
                layers.feed(message, reference)
    except docker.errors.APIError as error:
        raise _registry_error(reference, explanation(error)) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise _registry_error(reference, redact(str(error))) from error


def registry_credentials(registry: str, *, progress: Progress) -> dict[str, Any]:
    """Return the user's credentials for one registry, as Docker's ``config.json`` has them; else nothing.

    Only the helper of that registry is asked. One that fails costs its own entry and not the pull
    (https://github.com/docker/docker-py/issues/3379): images may be public.
    """
    try:
        config = docker.auth.load_config()
    except (docker.errors.DockerException, ValueError, AttributeError) as error:
        progress.line(
            f"Docker's config.json can't be read ({redact(str(error))}): pulling without credentials."
        )
        return {}
    try:
        found = config.resolve_authconfig(registry)
    except docker.errors.DockerException as error:
        progress.line(
            f"The credential helper for {registry} fails ({redact(str(error))}): going on without it."
        )
        found = docker.auth.AuthConfig({"auths": config.auths}).resolve_authconfig(registry)
    return dict(found or {})


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
        sizes = message.get("progressDetail") or {}
        layer, total = message.get("id"), sizes.get("total")
        if message.get("status") != "Downloading" or not layer or not total:
            return
        if layer not in self._sizes:
            self._sizes[layer] = total
            self._task.grow(total)
        # An engine that tries a layer again starts at zero; what is shown never goes back.
        done = max(sizes.get("current", 0), self._done.get(layer, 0))
        self._task.advance(done - self._done.get(layer, 0))
        self._done[layer] = done


def _registry_error(reference: str, said: str) -> RegistryError:
    domain = parse_reference(reference).domain
    said = redact(said).strip().rstrip(".")
    lower = said.lower()
    if any(word in lower for word in ("unauthorized", "denied", "authentication required", "forbidden")):
        hint = f"Log in: `docker login {domain}`; if you have, check that the image's name is right."
    elif any(word in lower for word in ("manifest unknown", "not found", "no matching manifest")):
        hint = "Check the image's name and tag, and that it exists for this platform."
    else:
        hint = f"Check that the engine reaches {domain}; a proxy belongs into the engine's own settings."
    return RegistryError(f"{reference} can't be pulled: {said}.", hint=hint)
