"""Signals that end the process: its children end with it, and it waits for no work that has begun.

An exception unwinds the main thread, which removes what must not stay. Other threads aren't waited for
(:class:`~imagesync.core.worker_pool.WorkerPool`); what they leave is in folders that the next run clears.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn

# What a shell reports for a command that a signal ended.
INTERRUPTED: Final = 130
_CODES: Final = {"SIGINT": INTERRUPTED, "SIGTERM": 143, "SIGHUP": 129}
_GRACE: Final = 1.6  # seconds to unwind in; a shell, and whoever restarts services, expect two
_HAS_PROC: Final = Path("/proc/self/stat").exists()
_CHILD_GRACE: Final = 0.3  # seconds between SIGTERM and SIGKILL of children
_FLUSH_SECONDS: Final = 0.1
_AGAIN: Final = 0.01  # seconds until the main thread is signalled once more


class Interruption:
    """The first signal that asked this process to end.

    Parameters
    ----------
    grace
        Seconds that the main thread has to unwind in. A second signal ends the process at once.
    connection
        The last argument of commands that the main thread talks by while it unwinds; they end last. None if
        empty.
    """

    def __init__(self, grace: float = _GRACE, *, connection: str = "") -> None:
        self.grace = grace
        self.connection = connection
        self.code: int | None = None
        self._was_dropped = False

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP, except those that are ignored, as under nohup."""
        for name in _CODES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        _interrupt_system_calls()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = _CODES[signal.Signals(number).name]
        if self.code is not None and not self._was_dropped:
            self.end(code)
        if self.code is None:
            self.code = code
            sys.unraisablehook = partial(self._raise_again, number, sys.unraisablehook)
            threading.Thread(target=self._watch, args=(code,), daemon=True).start()
        self._was_dropped = False
        raise KeyboardInterrupt

    def _raise_again(self, number: int, previous: Callable[[Any], object], unraisable: Any) -> None:  # noqa: ANN401
        """Raise the exception again: Python drops it in a callback of a weak reference, as in imports."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            previous(unraisable)
            return
        self._was_dropped = True
        threading.Timer(_AGAIN, _signal_main_thread, (number,)).start()

    def _watch(self, code: int) -> None:
        end_children(spared=self.connection)
        time.sleep(self.grace)
        self.end(code)

    def end(self, code: int) -> NoReturn:
        """End the process and its children now, whatever its threads do."""
        end_children()
        _show_cursor()
        with suppress(RuntimeError):  # no further thread can be started
            # A pipe that nobody reads must not hold up the end.
            flushing = threading.Thread(target=_flush, daemon=True)
            flushing.start()
            flushing.join(_FLUSH_SECONDS)
        os._exit(code)


def _interrupt_system_calls() -> None:
    """Let each signal end what the main thread waits for.

    Python handles signals in the main thread, between two of its instructions. A system call isn't
    interrupted by a signal that comes right before it, or to another thread: the handler would wait for the
    call's end.
    """
    if sys.platform == "win32":
        return  # no signal interrupts a system call there
    # With a handler that does nothing, this signal makes the system call return EINTR; Python calls again.
    signal.signal(signal.SIGURG, lambda *_: None)
    received, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    threading.Thread(target=_wake_main_thread, args=(received, signal.SIGURG), daemon=True).start()


def _wake_main_thread(received: int, waking: int) -> None:
    """Send the main thread the signal *waking* soon after any other, whose number is read from a pipe."""
    while number := os.read(received, 1):
        if number[0] != waking:
            time.sleep(_AGAIN)
            _signal_main_thread(waking)


def _signal_main_thread(number: int) -> None:
    main = threading.main_thread().ident
    if sys.platform == "win32" or main is None:
        signal.raise_signal(number)
    else:
        signal.pthread_kill(main, number)  # ends what it waits for, too


def _show_cursor() -> None:
    """Show the terminal's cursor, which bars hide until their block ends."""
    with suppress(OSError):
        if os.name == "posix" and os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb":
            # Not by the stream, whose lock another thread may hold.
            os.write(2, b"\x1b[?25h")


def _flush() -> None:
    for stream in (sys.stderr, sys.stdout):
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()


def end_children(*, spared: str = "") -> None:
    """End the processes that this one has started, and all that they have started.

    Children that lead a process group of their own were meant to outlive this process, such as the one that
    removes the rest of a cluster.

    Parameters
    ----------
    spared
        The last argument of children that go on, unless it is empty.
    """
    found = list(_descendants(os.getpid(), spared))
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        for pid in found:
            with suppress(OSError):
                os.kill(pid, number)
        end = time.monotonic() + _CHILD_GRACE
        while (found := [pid for pid in found if _is_alive(pid)]) and time.monotonic() < end:
            time.sleep(0.01)
        if not found:
            return


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int


def _descendants(pid: int, spared: str) -> Iterator[int]:
    children: dict[int, list[_Process]] = {}
    for process in _processes():
        children.setdefault(process.parent, []).append(process)
    own = (process.pid for process in children.get(pid, ()) if process.group != process.pid)
    parents = [child for child in own if not spared or not _command(child).endswith(spared)]
    while parents:
        parent = parents.pop()
        yield parent
        parents += (process.pid for process in children.get(parent, ()))


def _processes() -> Iterator[_Process]:
    """Yield the processes of this machine; none on Windows, whose console tells children of Ctrl-C."""
    if _HAS_PROC:
        for name in os.listdir("/proc"):  # noqa: PTH208  names alone
            if name.isdigit():
                with suppress(OSError, ValueError):
                    state, parent, group = _stat(name)
                    if state != "Z":
                        yield _Process(int(name), parent, group)
    elif os.name == "posix":
        command = ["/bin/ps", "-A", "-o", "pid=,ppid=,pgid="]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        yield from (_Process(*map(int, line.split())) for line in done.stdout.splitlines())


def _command(pid: int) -> str:
    """Return the command line of a process, without its quotes; empty if it has ended."""
    if _HAS_PROC:
        with suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0")
        return ""
    command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.rstrip()


def _stat(pid: str) -> tuple[str, int, int]:
    # proc(5): the name is in parentheses, and may have some itself.
    fields = Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[1]), int(fields[2])


def _is_alive(pid: int) -> bool:
    try:
        if _HAS_PROC:
            return _stat(str(pid))[0] != "Z"
        os.kill(pid, 0)
    except (OSError, ValueError):
        return False
    return True
