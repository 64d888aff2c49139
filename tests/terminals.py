"""A real terminal for tests: a pseudo-terminal of a chosen size, and what a command shows on it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping

PYTHON = sys.executable


def on_terminal(code: str, *, columns: int, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run Python *code* with a terminal as stdin, stdout and stderr; return its exit code and output."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **(environ or {})}
    process = subprocess.Popen(
        [PYTHON, "-c", code], stdin=follower, stdout=follower, stderr=follower, env=variables
    )
    os.close(follower)
    output = b""
    while piece := _read(leader):
        output += piece
    os.close(leader)
    return process.wait(timeout=60), output.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO where the last process has closed its end
        return b""
