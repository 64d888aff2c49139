"""What ``-v`` and ``-q`` show of a command, with a real index that wants a password."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from imagesync.cli.trace import command_line, request_line
from tests.commands import CommandLine

CODE = """
import subprocess, sys, urllib.request
from imagesync.cli.trace import report_activity
from imagesync.core.progress import PlainProgress, Severity
import requests
report_activity(PlainProgress(sys.stderr, least=Severity(sys.argv[2])))
requests.get(f"{sys.argv[1]}/t/tk-secret/simple/?sig=secret", auth=("me", "secret"), timeout=10)
options = ["--index-url", "https://me:secret@example.com/simple", "--token", "secret"]
subprocess.run([sys.executable, "-c", "", *options])
"""


@pytest.fixture
def url() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def traced(url: str, least: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, url, least], check=True, capture_output=True, text=True
    )
    assert "secret" not in done.stderr
    return done.stderr.splitlines()


def test_requests_and_commands_are_shown_without_secrets(url: str) -> None:
    request, command = traced(url, "detail")
    assert request == f"GET {url}/t/****/simple/"
    assert command.startswith(f"run: {sys.executable} -c '' --index-url 'https://****@example.com/simple'")


def test_trace_shows_answers_too(url: str) -> None:
    assert any('"GET /t/****/simple/' in line and " 204 " in line for line in traced(url, "trace"))


def test_verbose_scan_shows_the_command_that_asks_the_interpreter(cli: CommandLine) -> None:
    shown = cli("-v", "scan", "--python", sys.executable).stderr
    assert f"run: {sys.executable} -I" in shown
    assert "run: " not in cli("scan", "--python", sys.executable).stderr


def test_quiet_and_verbose_exclude_each_other(cli: CommandLine) -> None:
    finished = cli.run("-q", "-v", "scan")
    assert finished.returncode == 2
    assert "--quiet and --verbose exclude each other" in finished.stderr


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--env=API_TOKEN=secret", "--env=API_TOKEN=****"),
        ("API_TOKEN=secret=", "API_TOKEN=****"),
        ("https://example.com/lamp.whl?sig=secret&x=1", "https://example.com/lamp.whl"),
        ("--url=https://example.com/lamp.whl?sig=secret", "--url=https://example.com/lamp.whl"),
        ("numpy==2?", "numpy==2?"),
    ],
)
def test_commands_show_no_secret_of_a_variable_or_a_query(word: str, shown: str) -> None:
    assert command_line(["run", word]).replace("'", "") == f"run: run {shown}"


def test_event_that_cant_be_described_ends_no_request() -> None:
    class Odd:
        """A connection of a library, over something that is no socket."""

        host, port, sock = "example.com", 443, object()

    assert request_line(Odd(), b"GET /x HTTP/1.1\r\n") == "GET http://example.com/x"  # type: ignore[arg-type]
    code = """
import sys
from imagesync.cli.trace import report_activity
from imagesync.core.progress import PlainProgress
report_activity(PlainProgress(sys.stderr))
sys.audit("http.client.send", 1, b"GET / HTTP/1.1\\r\\n")
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stderr == b""
