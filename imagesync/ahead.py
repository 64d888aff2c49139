"""A question asked ahead: now, because there is time now, though its answer is wanted later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """What a function gives; it is called once, by :meth:`ask` or at the latest by :meth:`answer`.

    >>> question = Ahead(lambda: 6 * 7)
    >>> question.ask()
    >>> question.answer()
    42
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._outcome: list[T] = []
        self._error: Exception | None = None

    def ask(self) -> None:
        """Call the function; what it raises waits for :meth:`answer`."""
        try:
            self._outcome.append(self._function())
        except Exception as error:
            self._error = error

    def answer(self) -> T:
        """Return what the function gave, or raise what it raised."""
        if not self._outcome and self._error is None:
            self.ask()
        if self._error is not None:
            raise self._error
        return self._outcome[0]
