"""Pulling an image with the user's own credentials, as `docker pull` does."""

from __future__ import annotations

import docker
import docker.auth
import docker.errors
import requests

from imagesync.core.credentials import redact
from imagesync.core.image_reference import parse_reference
from imagesync.core.progress import Progress
from imagesync.engine.client import messages, refusal
from imagesync.engine.layer_progress import Layers, registry_error
from imagesync.registry.login import registry_credentials

_CONNECT_TIMEOUT = 60


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
                raise registry_error(reference, "pulled", refusal(response))
            layers = Layers(task, reference, "pulled")
            for message in messages(response):
                layers.feed(message)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise registry_error(reference, "pulled", redact(str(error))) from error
