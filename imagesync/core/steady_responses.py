"""HTTP responses whose bytes must keep coming: those of status, headers and sizes of chunks as well.

The timeout of a socket begins anew with each byte, so a server that sends one now and then could keep a
client waiting for hours before there is a body whose speed :func:`imagesync.core.limits.bounded` sees.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, PoolManager

from imagesync.core import limits

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer


class SteadyAdapter(HTTPAdapter):
    """Connections, direct or through a proxy, with :class:`SteadyResponse`."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  as in requests
        """Use such connections directly."""
        super().init_poolmanager(*args, **options)
        self._change_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  as in requests
        """Use such connections through a proxy, and to the proxy itself."""
        manager = super().proxy_manager_for(*args, **options)
        self._change_connections(manager)
        return manager

    def connection_class(self, base: Any) -> Any:  # noqa: ANN401  of urllib3, which may be one for SOCKS
        """Return *base* with such responses."""

        class Connection(base):  # type: ignore[misc]
            response_class = SteadyResponse

        return Connection

    def _change_connections(self, manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = {
            scheme: self._pool_class(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _pool_class(self, base: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        if issubclass(base.ConnectionCls.response_class, SteadyResponse):  # type: ignore[attr-defined]
            return base  # a manager of a proxy is asked for again
        return type(base.__name__, (base,), {"ConnectionCls": self.connection_class(base.ConnectionCls)})


class SteadyResponse(http.client.HTTPResponse):
    """A response that fails with :class:`~imagesync.core.limits.TooSlow` where too few bytes arrive."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(sock, *args, **options)
        self._arriving = _ArrivingBytes(self.fp.detach())
        self.fp = io.BufferedReader(self._arriving)

    def begin(self) -> None:
        """Read status and headers."""
        super().begin()
        self._arriving.restart()


class _ArrivingBytes(io.RawIOBase):
    """The bytes of a connection, and how long it took them to come.

    The wait for the first isn't counted: a silence has its own bound, and so have those in between, of which
    half a window counts.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.restart()

    def restart(self) -> None:
        self._is_first = True
        self._seconds = 0.0
        self._arrived = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        before = time.monotonic()
        number = self._raw.readinto(buffer)
        if not self._is_first:
            self._seconds += min(time.monotonic() - before, limits.WINDOW / 2)
        self._is_first = False
        self._arrived += number or 0
        if number and self._seconds >= limits.WINDOW:
            if self._arrived < limits.SLOWEST * limits.WINDOW:
                raise limits.TooSlow(f"only {self._arrived} bytes in {self._seconds:.0f} s")
            self._seconds, self._arrived = 0.0, 0
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()
