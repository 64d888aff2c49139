"""Which modules have bytecode: those that compile, within bounds of size, time and memory."""

from __future__ import annotations

import os
import signal
import sys
from types import CodeType

# The compiler needs some 200 bytes for each byte of a source: 3 GiB for one of this size.
MOST_SOURCE = 16 << 20
_MEMORY = 4 << 30
_SECONDS = 120  # of processor time, for one module
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)


def compiled(source: bytes, path: str) -> CodeType | None:
    """Return the code of a module; None if it is too large, or none of this Python.

    Templates, test data and code for another Python have no bytecode after an installation by pip, either.

    Raises
    ------
    MemoryError
        It takes more memory than there is, or is nested too deeply for the parser.
    """
    if len(source) > MOST_SOURCE:
        return None
    try:
        return compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, OverflowError):
        return None


def bound_process(parent: int) -> None:
    """Bound the memory of this process, and end it when the process *parent* does."""
    if sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > _MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, hard))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended before
            sys.exit(1)


def begin_module() -> None:
    """End this process if the module that it is about to compile takes too long."""
    if sys.platform != "win32":
        # The compiler runs no handler before it has ended: what the system does by itself has to do.
        signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
