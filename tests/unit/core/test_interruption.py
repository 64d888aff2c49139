"""A signal ends the process in time, whatever its main thread and its output wait for."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

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
            assert process.wait(timeout=5) == 143
            os.set_blocking(terminal, False)
            assert SHOWN in os.read(terminal, 1024)
        finally:
            process.kill()
            os.close(end)
            os.close(terminal)
