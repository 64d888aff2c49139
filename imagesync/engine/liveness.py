"""Waiting for an engine that may be silent for hours, as long as it is there.

A build step, a container or a transfer says nothing while it works. Meanwhile a second connection asks the
engine whether it answers at all.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker
    import requests

EVERY: Final = 15.0
"""Seconds between two questions."""
PATIENCE: Final = 60.0
"""Seconds without an answer after which the engine counts as gone."""
_T = TypeVar("_T")


def gone(action: str) -> EngineError:
    """Return the error for an engine that stopped answering.

    Parameters
    ----------
    action
        Follows "The container engine failed to".
    """
    return EngineError(
        f"The container engine failed to {action}: it hasn't answered for {PATIENCE:.0f} s.",
        hint="Restart it, such as `sudo systemctl restart docker`, and try again. Its log says why: "
        "journalctl -u docker",
    )


@contextmanager
def watched(api: docker.APIClient, on_gone: Callable[[], None]) -> Iterator[threading.Event]:
    """Call *on_gone* if the engine stops answering while the block runs; the event says that it did.

    Parameters
    ----------
    api
        The engine's client; the questions use a connection of their own.
    on_gone
        Called in another thread, to end what the block waits for.
    """
    ended, is_gone = threading.Event(), threading.Event()

    def ask() -> None:
        while not ended.wait(EVERY):
            if not _answers(api, ended):
                if not ended.is_set():
                    is_gone.set()
                    on_gone()
                return

    threading.Thread(target=ask, name="liveness", daemon=True).start()
    try:
        yield is_gone
    finally:
        ended.set()


def _answers(api: docker.APIClient, ended: threading.Event) -> bool:
    """Return True if the engine answers in time, to one of several questions."""
    import docker.errors
    import requests

    began = time.monotonic()
    while (left := began + PATIENCE - EVERY - time.monotonic()) > 0 and not ended.is_set():
        with suppress(requests.RequestException, docker.errors.DockerException, OSError):
            # Whatever it says: an engine that is too busy, or of another kind, is there.
            api.get(f"{api.base_url}/_ping", timeout=left).close()
            return True
        ended.wait(1)
    return False


def wait_for_exit(api: docker.APIClient, container: str, *, end: float = inf) -> int | None:
    """Return the exit code of a container; ``None`` if it still runs at *end*, on the monotonic clock.

    Raises
    ------
    EngineError
        The engine stopped answering.
    """
    import requests

    while True:
        began = time.monotonic()
        seconds = max(1.0, min(EVERY, end - began))
        try:
            return int(api.wait(container, timeout=seconds)["StatusCode"])
        except requests.RequestException:
            now = time.monotonic()
            if now >= end:
                return None
            if now - began < seconds / 2:
                raise
            if not _answers(api, threading.Event()):
                raise gone("run a container") from None


class _Closed(Exception):
    """Nobody waits for the response to an upload any more."""


class Stream(Iterator[_T]):
    """What an engine's streamed answer yields, read in another thread.

    The stream ends with an error when the engine stops answering on other connections. Closed before its end,
    it closes the connection, at the latest before the next piece of an upload.

    Parameters
    ----------
    api
        The engine's client.
    action
        As for :func:`gone`.
    send
        Sends the request, and returns the response. Takes *body*, if there is one, as ``data``.
    read
        Yields what the response holds, and may raise.
    body
        What is uploaded, in pieces.
    """

    def __init__(
        self,
        api: docker.APIClient,
        action: str,
        send: Callable[..., requests.Response],
        read: Callable[[requests.Response], Iterator[_T]],
        body: Iterable[bytes] | None = None,
    ) -> None:
        self._items: queue.SimpleQueue[tuple[_T] | BaseException | None] = queue.SimpleQueue()
        self._response: requests.Response | None = None
        self._closed = threading.Event()
        self._action = action
        self._watch = watched(api, lambda: self._items.put(gone(action)))
        self._send, self._read = send, read
        self._arguments = {} if body is None else {"data": self._until_closed(body)}

    def __enter__(self) -> Stream[_T]:
        self._watch.__enter__()
        threading.Thread(target=self._pump, name="engine-stream", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._watch.__exit__(None, None, None)
        if self._response is not None:
            # Ends a read in the other thread, which closes the response then.
            with suppress(ValueError, OSError, RuntimeError, AttributeError):
                self._response.raw.shutdown()

    def __next__(self) -> _T:
        item = self._items.get()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item[0]

    def _until_closed(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            if self._closed.is_set():
                raise _Closed  # with an unfinished body, urllib3 closes the connection
            yield piece

    def _pump(self) -> None:
        try:
            with self._send(**self._arguments) as response:
                self._response = response
                if self._closed.is_set():
                    return
                for item in self._read(response):
                    self._items.put((item,))
        except BaseException as error:  # raised again by the reader
            self._items.put(error)
        else:
            self._items.put(None)
