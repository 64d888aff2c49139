"""Programs that ask indexes themselves: ended where an index sends a byte now and then, and only there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesync.core import bounded_program, limits
from imagesync.core.bounded_program import run_bounded
from imagesync.core.limits import TooSlow
from imagesync.core.received_bytes import TransferWatch
from tests.commands import clean_environ
from tests.hostile.raw_server import Reply, endless, serving, slow, slow_head

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux: its kernel tells what was received"
)
# A program that says when it waits for a server, whatever it does besides.
RECEIVE = """
import socket, subprocess, sys, threading, time
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
server.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
server.recv(65536)
print(flush=True)
WORK
while server.recv(65536):
    pass
"""
COMPUTE = "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()"
START = "child = subprocess.Popen(['sleep', '60'])"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW", 1.0)
    monkeypatch.setattr(bounded_program, "_EVERY", 0.1)


def is_given_up(reply: Reply, work: str = "") -> bool:
    """Return whether a program counts as one that waits for too few bytes, within four windows."""
    with serving(reply) as url:
        command = [sys.executable, "-c", RECEIVE.replace("WORK", work), url.rpartition(":")[2]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                watch, end = TransferWatch(process.pid), time.monotonic() + 4 * limits.WINDOW
                while time.monotonic() < end:
                    time.sleep(0.1)  # as its caller does
                    try:
                        watch.check()
                    except TooSlow:
                        return True
                return False
            finally:
                os.killpg(process.pid, signal.SIGKILL)


def silent() -> Iterator[bytes]:
    """Yield an answer that breaks off, and the connection stays."""
    yield b"HTTP/1.1 200 OK\r\n"
    time.sleep(60)


def test_program_that_receives_a_byte_now_and_then_is_given_up() -> None:
    assert is_given_up(slow(0.05, length=None))


@pytest.mark.parametrize(
    ("reply", "work"),
    [
        pytest.param(endless, "", id="fast"),
        pytest.param(silent, "", id="silent"),
        pytest.param(slow(0.05, length=None), COMPUTE, id="computes"),
        pytest.param(slow(0.05, length=None), START, id="has a child"),
    ],
)
def test_program_that_waits_for_something_else_is_not(reply: Reply, work: str) -> None:
    assert not is_given_up(reply, work)


def uv(url: str, folder: Path) -> list[str]:
    (folder / "requirements.in").write_text("alder\n")
    options = ["--no-config", "--cache-dir", str(folder / "cache"), "--default-index", url]
    return [find_uv_bin(), "pip", "compile", *options, str(folder / "requirements.in")]


def pip(url: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "pip", "download", "--no-cache-dir", "-d", str(folder), "-i", url, "alder"]


@pytest.mark.parametrize("reply", [slow(0.05, length=None), slow_head(0.05)])
@pytest.mark.parametrize("program", [uv, pip])
def test_run_that_asks_a_slow_index_is_ended(
    tmp_path: Path, program: Callable[[str, Path], list[str]], reply: Reply
) -> None:
    with serving(reply) as url, pytest.raises(TooSlow, match="the indexes sent only"):
        run_bounded(program(f"{url}/simple", tmp_path), env=clean_environ(), timeout=60)
