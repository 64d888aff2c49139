"""A function call in a background thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")


class BackgroundCall(Generic[Result]):
    """A call that starts at once, in a daemon thread; nobody has to wait for its result.

    >>> call = BackgroundCall(lambda: 6 * 7)
    >>> call.result()
    42
    """

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Return True if nobody has to wait for the result."""
        return not self._thread.is_alive()

    def result(self) -> Result:
        """Return the result, once the call has ended; raise its exception if it raised one."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # raised again in result()
            self._error = error
