"""Open a plain connection to an engine, or explain why there is none."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

from imagesync.errors import EngineNotFound

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint, TLSMaterial

CONNECT_TIMEOUT = 0.8
"""Seconds to wait for a connection: a missing engine is reported within a second."""

CERTIFICATES = (
    "Check that ca.pem, cert.pem and key.pem are for this engine: they are in DOCKER_CERT_PATH,"
    " or in the Docker context (`docker context inspect`)."
)
"""The hint for a TLS connection that one of the two sides refuses."""


def can_speak_to(endpoint: Endpoint) -> bool:
    """Return True if :func:`open_connection` supports the endpoint's scheme."""
    return endpoint.scheme in {"unix", "tcp"}


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
    host, _, port = endpoint.url.partition("://")[2].rstrip("/").rpartition(":")
    return host.strip("[]"), int(port)


def _open_socket(endpoint: Endpoint, host: str, port: int) -> socket.socket:
    path = endpoint.socket_path
    if path is None:
        return socket.create_connection((host, port), timeout=CONNECT_TIMEOUT)
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
            f"The container engine at {where} may not be used by this user: permission denied.",
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
