"""What a forked process must not keep: connections whose end tells that this process has ended."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress


def close_in_children(close: Callable[[], None]) -> None:
    """Call *close*, a bound method, in each process that is forked off this one.

    A forked process that outlives the client would hold the connection open, and so keep the cluster alive.
    """
    if not hasattr(os, "register_at_fork"):
        return
    # Registered for ever, but it keeps nothing alive.
    reference = weakref.WeakMethod(close)

    def in_child() -> None:
        method = reference()
        if method is not None:
            with suppress(OSError, ValueError):
                method()

    os.register_at_fork(after_in_child=in_child)
