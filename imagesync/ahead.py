"""Asking ahead: a question that somebody else answers, put before the answer is needed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from types import TracebackType
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Ahead(Generic[Answer]):
    """A call that runs meanwhile; what it raises is raised where its result is taken, if it is.

    >>> with Ahead(lambda: 6 * 7) as answer:
    ...     answer.result()
    42
    """

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._call = call
        self._answer: list[Answer] = []
        self._error: BaseException | None = None
        # A daemon: whoever goes on without the answer doesn't wait for a server that is silent.
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ahead[Answer]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; an answer that nobody took is let go."""

    def result(self) -> Answer:
        """Return the answer, as soon as it is there."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._call())
        except BaseException as error:  # raised again in result()
            self._error = error
