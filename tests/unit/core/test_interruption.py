"""A signal ends the process in time, whatever its main thread and its output wait for."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

from tests.processes import PATIENCE

# The exception is caught, as if what it unwinds took too long.
PROGRAM = """
import sys, time
from rich.console import Console
from imagesync.core.interruption import Interruption
Interruption(grace=0.2).install()
Console(file=sys.stderr).show_cursor(False)
class FullPipe:
    def flush(self):
        time.sleep(60)
sys.stdout = FullPipe()
while True:
    try:
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"


def test_terminal_gets_its_cursor_back_though_output_is_never_read() -> None:
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stderr=end,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        seen = b""
        try:
            while b"ready" not in seen:
                seen += os.read(terminal, 1024)
            assert HIDDEN in seen
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=50) == 143
            os.set_blocking(terminal, False)
            assert SHOWN in os.read(terminal, 1024)
        finally:
            process.kill()
            os.close(end)
            os.close(terminal)


CLEANS_UP = """
import subprocess, sys, time
from imagesync.core.interruption import Interruption
interruption = Interruption(connection="dial-stdio")
interruption.install()
echo = [sys.executable, "-c", "import sys\\nfor line in sys.stdin: print(line, end='', flush=True)"]
connection = subprocess.Popen([*echo, "dial-stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
other = subprocess.Popen(echo, stdin=subprocess.PIPE)
try:
    print("up", file=connection.stdin, flush=True)
    connection.stdout.readline()
    print("ready", connection.pid, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    other.wait()
    print("remove", file=connection.stdin, flush=True)
    print(connection.stdout.readline(), end="", flush=True)
interruption.end(interruption.code)
"""


def test_connection_that_cleans_up_ends_last() -> None:
    command = [sys.executable, "-c", CLEANS_UP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready, pid = process.stdout.readline().split()
        assert ready == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE)[0] == "remove\n"
    assert process.returncode == 143
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
    assert state.stdout.strip()[:1] in {"", "Z"}


def outputs(program: str) -> tuple[str, str]:
    """Return what *program*, which interrupts itself, prints on stdout and stderr."""
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return finished.stdout, finished.stderr


DROPS_EXCEPTIONS = """
import os, signal, time, weakref
from imagesync.core.interruption import Interruption
Interruption(grace=60).install()
class Module:
    pass
module = Module()
reference = weakref.ref(module, lambda _: [os.kill(os.getpid(), signal.SIGTERM), time.sleep(0)])
try:
    del module
    time.sleep(60)
except KeyboardInterrupt:
    print("unwound")
"""


def test_signal_in_a_callback_that_drops_exceptions_unwinds_all_the_same() -> None:
    assert outputs(DROPS_EXCEPTIONS) == ("unwound\n", "")


IN_A_SYSTEM_CALL = """
import os, signal, threading
from imagesync.core.interruption import Interruption
Interruption(grace=60).install()
reading, writing = os.pipe()
def interrupt():
    # Once the main thread reads the pipe, according to the arguments of its system call (proc(5)).
    while open(f"/proc/self/task/{os.getpid()}/syscall").read().split()[1:2] != [hex(reading)]:
        pass
    # As if the signal had come right before that call: it is delivered, but doesn't end the call.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Event().wait()
threading.Thread(target=interrupt, daemon=True).start()
try:
    os.read(reading, 1)
except KeyboardInterrupt:
    print("unwound")
"""


def test_signal_that_does_not_end_a_system_call_unwinds_all_the_same() -> None:
    assert outputs(IN_A_SYSTEM_CALL) == ("unwound\n", "")
