"""The Docker SDK's client for an endpoint, with its errors turned into ours."""

from __future__ import annotations

import errno
import importlib.util
import re
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from imagesync.core.credentials import redact
from imagesync.core.installation import own_installation
from imagesync.core.strict_json import load_json
from imagesync.engine.endpoint import Endpoint, TLSMaterial
from imagesync.errors import EngineError, EngineNotFound, UsageError

if TYPE_CHECKING:
    import docker
    import docker.errors
    import docker.tls
    import requests


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|z|[+-]\d\d:\d\d)")
REQUEST_TIMEOUT = 60
"""Seconds without a byte after which a request fails; those that may be silent for longer set their own."""
SEND_TIMEOUT = 900
"""Seconds that the engine may take to accept a piece of a request's body; its disk may be slow."""


def connect(endpoint: Endpoint, *, timeout: float | None = None) -> docker.APIClient:
    """Return a client for the newest API version that both sides support.

    Parameters
    ----------
    timeout
        Seconds for each request; by default :data:`REQUEST_TIMEOUT`.

    Raises
    ------
    EngineNotFound
        Nobody answers there.
    UsageError
        The SDK can't use the settings in Docker's ``config.json``.
    """
    import docker
    import docker.errors
    import docker.utils.config
    import requests

    class Client(docker.APIClient):  # type: ignore[misc]
        """The SDK's client, without the proxies and certificate authorities of the environment.

        Those are meant for the internet, and a look-up doesn't use them either.
        """

        def request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401
            # Not in the constructor: the SDK's own resets it, and already asks for the engine's version.
            self.trust_env = False
            # The SDK attaches to containers without one.
            options.setdefault("timeout", self.timeout)
            response: requests.Response = super().request(*arguments, **options)
            return response

    if can_speak_to(endpoint):
        # The SDK has one timeout for connecting and for answering; this one is for connecting alone.
        open_connection(endpoint, timeout=CONNECT_TIMEOUT).close()
    tls = False if endpoint.tls is None else _tls_config(endpoint.tls)
    try:
        return Client(
            base_url=endpoint.url,
            version="auto",
            timeout=REQUEST_TIMEOUT if timeout is None else timeout,
            tls=tls,
            use_ssh_client=True,
            user_agent="imagesync",
        )
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineNotFound(
            f"The container engine at {endpoint.url} ({endpoint.origin}) can't be used: {redact(str(error))}",
            hint=_hint(endpoint),
        ) from error
    except (AttributeError, LookupError, TypeError) as error:
        raise UsageError(
            f"Docker's settings in {docker.utils.config.find_config_file()} can't be used: {error}.",
            hint="Correct the file, or set DOCKER_CONFIG to a folder with other settings.",
        ) from error


def _tls_config(tls: TLSMaterial) -> docker.tls.TLSConfig:
    import docker.tls

    pair = (str(tls.cert), str(tls.key)) if tls.cert is not None and tls.key is not None else None
    return docker.tls.TLSConfig(
        client_cert=pair, ca_cert=None if tls.ca is None else str(tls.ca), verify=tls.verify
    )


def _hint(endpoint: Endpoint) -> str:
    if endpoint.scheme == "ssh" and importlib.util.find_spec("paramiko") is None:
        return f"Install it beside imagesync: {own_installation().add('docker[ssh]')}"
    if endpoint.scheme == "ssh":
        return "Check that `ssh HOST docker version` works without a password."
    if endpoint.tls is not None:
        return CERTIFICATES
    return (
        "See `docker version`, and change or unset DOCKER_HOST or the Docker context if it is the wrong one."
    )


@contextmanager
def engine_errors(action: str, *, hint: str | None = None) -> Iterator[None]:
    """Raise the SDK's errors inside the block as :class:`EngineError`.

    Parameters
    ----------
    action
        Follows "The container engine failed to" in the message, such as ``tag imagesync:1234``.
    hint
        What to do if the engine refuses; if it doesn't answer, that is the hint.
    """
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(
            f"The container engine failed to {action}: {explanation(error)}", hint=hint
        ) from error
    except requests.Timeout as error:
        raise EngineError(
            f"The container engine failed to {action}: it didn't answer in time.",
            hint="The engine or its disk may be busy: see its log, and try again.",
        ) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        from imagesync.registry.responses import reason

        raise EngineError(
            f"The container engine failed to {action}: {reason(error)}.",
            hint="If the engine was stopped or restarted, try again.",
        ) from error
    except RUBBISH as error:
        raise unusable_answer(action, error) from error


RUBBISH: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What parsing an answer raises that is none of an engine: no JSON, other types, missing fields."""


def unusable_answer(action: str, error: Exception) -> EngineError:
    """Return the error for an answer that no engine gives; *action* is as for :func:`engine_errors`."""
    return EngineError(
        f"The container engine failed to {action}: its answer can't be used "
        f"({type(error).__name__}: {redact(str(error))[:200]}).",
        hint="See whether a container engine answers there, and which: `docker version`. If something else "
        "does, change or unset DOCKER_HOST or the Docker context.",
    )


def explanation(error: docker.errors.APIError) -> str:
    """Return the engine's message, without credentials."""
    return redact(str(error.explanation or error))


def parse_time(text: str) -> datetime:
    """Return a time in RFC 3339, with up to nine digits of a second and any zone; the year 1 if it is none.

    >>> parse_time("2026-11-28T17:00:00.123456789+01:00") == parse_time("2026-11-28T16:00:00.123456Z")
    True
    >>> parse_time("").year
    1
    """
    found = _TIME.fullmatch(text)
    if found is None:
        return datetime.min.replace(tzinfo=timezone.utc)
    second, fraction, zone = found.groups()
    zone = "+00:00" if zone in ("Z", "z") else zone
    return datetime.fromisoformat(f"{second}.{(fraction or '')[:6]:0<6}{zone}")


def is_podman(version: Mapping[str, Any]) -> bool:
    """Return True if an engine is Podman, by its answer about its *version*."""
    names = (str(component.get("Name")) for component in version.get("Components") or ())
    return any("podman" in name.lower() for name in names)


def refusal(response: requests.Response) -> str:
    """Return the message of an answer with an error status; it may hold credentials."""
    with suppress(ValueError, AttributeError):
        if message := response.json().get("message"):
            return str(message)
    return response.text[:2000].strip() or f"HTTP {response.status_code}"


def messages(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects of a streamed answer, one for each line.

    Raises
    ------
    ValueError
        A line is none.
    """
    for line in response.iter_lines(chunk_size=None):
        if line:
            message = load_json(line)
            if not isinstance(message, dict):
                raise ValueError(f"{line[:100].decode(errors='replace')} isn't a message")
            yield message


def failure(message: Mapping[str, Any]) -> str | None:
    """Return the reason of a failure that a message of a streamed answer reports, after HTTP status 200."""
    detail, error = message.get("errorDetail"), message.get("error")
    text = detail.get("message") if isinstance(detail, dict) else detail
    return str(text or error) if detail or error else None


CONNECT_TIMEOUT = 0.8
"""Seconds to wait for a connection: a missing engine is reported within a second."""

CERTIFICATES = (
    "Check that ca.pem, cert.pem and key.pem are for this engine: they are in DOCKER_CERT_PATH,"
    " or in the Docker context (`docker context inspect`)."
)
"""The hint for a TLS connection that one of the two sides refuses."""


def can_speak_to(endpoint: Endpoint) -> bool:
    """Return True if :func:`open_connection` supports the endpoint's scheme."""
    return endpoint.scheme == "unix" or (
        endpoint.scheme == "tcp" and not urlsplit(endpoint.url).path.strip("/")
    )


def open_connection(endpoint: Endpoint, *, timeout: float) -> socket.socket:
    """Return an open connection to a ``unix://`` or ``tcp://`` endpoint.

    Parameters
    ----------
    endpoint
        Its scheme is ``unix`` or ``tcp``.
    timeout
        Seconds that an answer may take after connecting.

    Raises
    ------
    EngineNotFound
        Nobody answers there within :data:`CONNECT_TIMEOUT`.
    """
    host, port = _host_and_port(endpoint)
    try:
        tls = None if endpoint.tls is None else _tls_context(endpoint.tls)
        connected = _open_socket(endpoint, host, port)
        connected.settimeout(timeout)
        if tls is not None:
            connected = tls.wrap_socket(connected, server_hostname=host)
    except OSError as error:
        raise unreachable(endpoint, error) from error
    return connected


def _host_and_port(endpoint: Endpoint) -> tuple[str, int]:
    if endpoint.scheme == "unix":
        return "localhost", 0
    parts = urlsplit(endpoint.url)
    return parts.hostname or "", parts.port or 0


def _open_socket(endpoint: Endpoint, host: str, port: int) -> socket.socket:
    path = endpoint.socket_path
    if path is None:
        return socket.create_connection((host, port), timeout=CONNECT_TIMEOUT)
    if sys.platform == "win32":
        raise OSError("Python on Windows has no Unix sockets")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_TIMEOUT)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def _tls_context(tls: TLSMaterial) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def unreachable(endpoint: Endpoint, error: OSError) -> EngineNotFound:
    """Return the error that explains why nobody answers at *endpoint*, with a hint."""
    where = f"{endpoint.url} ({endpoint.origin})"
    # The numbers of TLS errors start at 1, which is EPERM.
    if endpoint.tls is not None and hasattr(error, "library"):
        reason = getattr(error, "verify_message", None) or error.strerror or str(error)
        return EngineNotFound(f"No TLS connection to the engine at {where}: {reason}.", hint=CERTIFICATES)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return EngineNotFound(
            f"The container engine at {where} refuses this user: permission denied.",
            hint="Add yourself to its group and log in again: `sudo usermod -aG docker $USER`;"
            " or use rootless Docker or Podman.",
        )
    if error.errno == errno.ENOENT:
        reason = "there is no such socket"
    elif error.errno == errno.ECONNREFUSED:
        reason = "connection refused"
    elif isinstance(error, TimeoutError):
        reason = "no answer in time"
    else:
        reason = error.strerror or str(error)
    return EngineNotFound(f"No container engine answers at {where}: {reason}.", hint=_start_hint(endpoint))


def _start_hint(endpoint: Endpoint) -> str:
    if endpoint.origin in {"DOCKER_HOST", "CONTAINER_HOST"}:
        return f"Start that engine, or change or unset {endpoint.origin}."
    if endpoint.origin.startswith("the Docker context"):
        return "Start that engine, or choose another one with `docker context use`."
    return "Start it: Docker Desktop, or `sudo systemctl start docker`; or set DOCKER_HOST to another engine."
