"""The Docker SDK's client for an endpoint, with its errors turned into ours."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import docker
import docker.errors
import docker.tls
import requests

from imagesync.core.credentials import redact
from imagesync.engine.endpoint import Endpoint, TLSMaterial
from imagesync.engine.transport import CERTIFICATES, CONNECT_TIMEOUT, can_speak_to, open_connection
from imagesync.errors import EngineError, EngineNotFound

REQUEST_TIMEOUT = 120
"""Seconds without a byte before a request is given up; those that may be silent for longer set their own."""
SEND_TIMEOUT = 900
"""Seconds that the engine may take to accept a piece of what it is sent; its disk may be slow."""


def connect(endpoint: Endpoint) -> docker.APIClient:
    """Return a client that speaks the newest API version which both sides know.

    Raises
    ------
    EngineNotFound
        Nobody answers there.
    """
    if can_speak_to(endpoint):
        # The SDK has one time-out for connecting and for answering; this one is for connecting alone.
        open_connection(endpoint, timeout=CONNECT_TIMEOUT).close()
    tls = False if endpoint.tls is None else _tls_config(endpoint.tls)
    try:
        return _Client(
            base_url=endpoint.url,
            version="auto",
            timeout=REQUEST_TIMEOUT,
            tls=tls,
            use_ssh_client=True,
            user_agent="imagesync",
        )
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineNotFound(
            f"The container engine at {endpoint.url} ({endpoint.origin}) can't be used: {redact(str(error))}",
            hint=_hint(endpoint),
        ) from error


class _Client(docker.APIClient):  # type: ignore[misc]
    """The SDK's client, which reaches an engine as a look-up does.

    The proxies and the certificate authorities that the environment names are meant for the internet.
    """

    def request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        # Not in the constructor: the SDK's own sets it anew, and already asks for the engine's version.
        self.trust_env = False
        response: requests.Response = super().request(*arguments, **options)
        return response


def _tls_config(tls: TLSMaterial) -> docker.tls.TLSConfig:
    pair = (str(tls.cert), str(tls.key)) if tls.cert is not None and tls.key is not None else None
    return docker.tls.TLSConfig(
        client_cert=pair, ca_cert=None if tls.ca is None else str(tls.ca), verify=tls.verify
    )


def _hint(endpoint: Endpoint) -> str:
    if endpoint.scheme == "ssh" and importlib.util.find_spec("paramiko") is None:
        return "Install it beside imagesync: `pip install 'docker[ssh]'`."
    if endpoint.scheme == "ssh":
        return "Check that `ssh HOST docker version` works without a password."
    if endpoint.tls is not None:
        return CERTIFICATES
    return (
        "See `docker version`, and change or unset DOCKER_HOST or the Docker context if it is the wrong one."
    )


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's errors inside the block into :class:`EngineError`.

    Parameters
    ----------
    doing
        What is tried, to follow "The container engine failed to": ``tag imagesync:1234``.
    """
    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(f"The container engine failed to {doing}: {explanation(error)}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(
            f"The container engine failed to {doing}: {redact(str(error))}",
            hint="If the engine was stopped or restarted meanwhile, try again.",
        ) from error


def explanation(error: docker.errors.APIError) -> str:
    """Return the engine's own words, without credentials."""
    return redact(str(error.explanation or error))


def refusal(response: requests.Response) -> str:
    """Return what the engine says in an answer that isn't OK; it may hold credentials."""
    with suppress(ValueError, AttributeError):
        return str(response.json().get("message"))
    return response.text[:2000]


def messages(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of an answer that comes line by line, as they come."""
    for line in response.iter_lines(chunk_size=None):
        if line:
            yield json.loads(line)


def failure(message: Mapping[str, Any]) -> str | None:
    """Return what a message of such an answer says of a failure; HTTP has said 200 long before."""
    detail, error = message.get("errorDetail"), message.get("error")
    return str((detail or {}).get("message") or error) if detail or error else None
