"""Pushing an image with the user's own credentials, as `docker push` does."""

from __future__ import annotations

import docker
import docker.auth
import docker.errors
import requests

from imagesync.core.credentials import redact
from imagesync.core.image_reference import parse_reference, split_reference
from imagesync.core.progress import Progress
from imagesync.engine.client import messages, refusal
from imagesync.engine.layer_progress import Layers, registry_error
from imagesync.registry.login import registry_credentials

_CONNECT_TIMEOUT = 60


def push_image(api: docker.APIClient, reference: str, *, progress: Progress) -> str | None:
    """Push an image, and return the digest that the engine says it has now, ``sha256:<hex>``.

    The progress counts the bytes of the layers that the registry doesn't have, uncompressed, as engines do.
    Whether it is there, the registry has to be asked: an engine's word is none of the registry's.

    Raises
    ------
    RegistryError
        The registry doesn't answer, or refuses.
    """
    repository, tag = split_reference(reference)
    credentials = registry_credentials(parse_reference(reference).domain, progress=progress)
    digest = None
    try:
        # Not by the SDK's own method, which leaves the connection open when a push fails or is interrupted.
        response = api.post(
            f"{api.base_url}/v{api.api_version}/images/{repository}/push",
            params={"tag": tag},
            # Docker wants the header even where there is nothing to say in it.
            headers={"X-Registry-Auth": docker.auth.encode_header(credentials)},
            stream=True,
            timeout=(_CONNECT_TIMEOUT, None),
        )
        with response, progress.task(f"Pushing {reference}", total=None, unit="bytes") as task:
            if not response.ok:
                raise registry_error(reference, "pushed", refusal(response))
            layers = Layers(task, reference, "pushed")
            for message in messages(response):
                layers.feed(message)
                digest = (message.get("aux") or {}).get("Digest") or digest
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise registry_error(reference, "pushed", redact(str(error))) from error
    return digest
