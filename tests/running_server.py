"""A local server that answers in a thread of its own while a ``with`` block runs."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class RunningServer:
    """Starts *server* at the beginning of the block, and stops it at its end.

    Parameters
    ----------
    server
        Bound to its port already.
    """

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._running = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.shutdown()
        self._running.server_close()
        self._thread.join()
