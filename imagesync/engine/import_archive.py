"""A tar archive as an image of one layer, as `docker import` makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import docker

from imagesync.core.credentials import redact
from imagesync.core.image_reference import split_reference
from imagesync.engine.build_context import dockerfile_quote
from imagesync.engine.client import SEND_TIMEOUT, engine_errors, failure, messages, refusal
from imagesync.errors import EngineError


def import_archive(
    api: docker.APIClient,
    content: Iterable[bytes],
    reference: str,
    *,
    labels: Mapping[str, str],
    platform: str,
) -> None:
    """Send a tar archive, which becomes the only layer of the image *reference*.

    Raises
    ------
    EngineError
        The engine doesn't take it.

    Notes
    -----
    ``POST /images/create`` with ``fromSrc``: https://docs.docker.com/reference/api/engine/
    """
    repository, tag = split_reference(reference)
    doing = f"take in {reference}"
    with engine_errors(doing):
        response = api.post(
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
        with response:
            if not response.ok:
                raise _error(doing, refusal(response) or f"HTTP {response.status_code}")
            for message in messages(response):
                if (said := failure(message)) is not None:
                    raise _error(doing, said)


def _error(doing: str, said: str) -> EngineError:
    return EngineError(f"The container engine failed to {doing}: {redact(said)}")
