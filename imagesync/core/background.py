"""Asking ahead: a question that somebody else answers, put before the answer is needed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Ahead(Generic[Answer]):
    """A call that runs meanwhile; what it raises is raised where its result is taken, if it is.

    >>> answer = Ahead(lambda: 6 * 7)
    >>> answer.start()
    >>> answer.result()
    42
    """

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._call = call
        self._answer: list[Answer] = []
        self._error: BaseException | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin; whoever goes on without the answer doesn't wait for a server that is silent."""
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Answer:
        """Return the answer, as soon as it is there; the call is made now where it wasn't begun."""
        if self._thread is None:
            return self._call()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._call())
        except BaseException as error:  # raised again in result()
            self._error = error
