"""TLS with the certificate authorities that the operating system trusts, as in pip."""

from __future__ import annotations

import socket
import ssl
from typing import Any, NamedTuple

import truststore
from requests import PreparedRequest, Response

from imagesync.core.steady_responses import SteadyAdapter


class Patience(NamedTuple):
    """Seconds that a server may be silent.

    Parameters
    ----------
    handshake
        While TLS begins, and a proxy connects to the server.
    body
        While it takes a piece of a request's body.
    """

    handshake: float
    body: float


class TLSAdapter(SteadyAdapter):
    """Connections, direct or through a proxy, that trust the system's authorities.

    A bundle that the request names, or ``REQUESTS_CA_BUNDLE``, is trusted as well.

    Parameters
    ----------
    context
        The system's authorities and others; see :func:`system_context`.
    check
        Whether certificates are checked.
    patience
        How long a server may be silent once it is connected; by default as long as connecting may take.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        check: bool = True,
        patience: Patience | None = None,
    ) -> None:
        self._context = context or system_context(check=check)
        self._check = check
        self._patience = patience
        if not check:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  as in requests
        """Use the context for direct connections."""
        super().init_poolmanager(*args, ssl_context=self._context, **options)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  as in requests
        """Use the context through a proxy, and to the proxy itself."""
        options |= {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return super().proxy_manager_for(*args, **options)

    def connection_class(self, base: Any) -> Any:  # noqa: ANN401
        """Return *base* with a timeout for connecting that ends with the connection (TCP)."""
        steady: Any = super().connection_class(base)
        if self._patience is None:
            return steady
        handshake, body = self._patience

        class Connection(steady):  # type: ignore[misc]
            def _new_conn(self) -> socket.socket:
                connected: socket.socket = super()._new_conn()
                connected.settimeout(handshake)
                return connected

            def connect(self) -> None:
                super().connect()
                self.sock.settimeout(body)

        return Connection

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:  # noqa: ANN401
        """Send *request*; a redirect to another host goes by that host's adapter."""
        if not self._check:
            options["verify"] = False
        return super().send(request, *args, **options)


def system_context(*, check: bool = True) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, which aren't read unless they are to *check*."""
    return (truststore.SSLContext if check else ssl.SSLContext)(ssl.PROTOCOL_TLS_CLIENT)
