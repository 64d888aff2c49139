"""Import a tar archive as an image of one layer, as `docker import` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact
from imagesync.core.image_reference import split_reference
from imagesync.engine.build_context import dockerfile_quote
from imagesync.engine.client import SEND_TIMEOUT, engine_errors, failure, messages, refusal
from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker


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
    with engine_errors(action):
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
                raise _error(action, refusal(response) or f"HTTP {response.status_code}")
            for message in messages(response):
                if (reason := failure(message)) is not None:
                    raise _error(action, reason)


def _error(action: str, reason: str) -> EngineError:
    return EngineError(f"The container engine failed to {action}: {redact(reason)}")
