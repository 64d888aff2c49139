"""What ``-v`` shows: the requests that are sent, and the commands that are run, wherever in the program.

Python audits both (PEP 578), those of libraries included, so that no caller has to report them. Requests that
py-rattler sends itself are audited where it is called.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterable
from typing import Any

from imagesync.core.credentials import redact
from imagesync.core.progress import REQUEST_EVENT, Progress, Severity

_REQUEST = re.compile(rb"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.[01]\r\n")
# Signed URLs, and the fields of logins, carry secrets in their queries.
_QUERY = re.compile(r"\?[^\s\"]*")
# conda's tokens, in a target without its host.
_PATH_TOKEN = re.compile(r"(?<=/t/)[^/\s\"]+")
_SECRET_NAMES = re.compile(r"(token|password|passwd|secret|api[-_]?key|extraheader)", re.IGNORECASE)
_LONGEST = 500


def report_activity(progress: Progress) -> None:
    """Report each request and each command from now on, until the process ends, without secrets.

    Parameters
    ----------
    progress
        Gets them as details, and the answers to requests as traces.
    """
    reporter = _Reporter(progress)
    sys.addaudithook(reporter.on_event)
    # urllib3 logs the status of each answer, and retries.
    logger = logging.getLogger("urllib3")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_LogReporter(progress))
    logger.propagate = False


class _Reporter:
    """Receiver of audit events; a message that causes an event itself isn't reported again."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._busy = threading.local()

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Report the event if it is a request or a command."""
        if event == "http.client.send":
            text = request_line(*arguments)
        elif event == "subprocess.Popen":
            text = command_line(arguments[1])
        elif event == REQUEST_EVENT:
            text = redact(str(arguments[0]))
        else:
            return
        if not text or getattr(self._busy, "value", False):
            return
        self._busy.value = True
        try:
            self._progress.line(text, Severity.DETAIL)
        finally:
            self._busy.value = False


class _LogReporter(logging.Handler):
    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record of urllib3's log."""
        text = _QUERY.sub("", redact(record.getMessage()))
        self._progress.line(_PATH_TOKEN.sub("****", text), Severity.TRACE)


def request_line(connection: http.client.HTTPConnection, data: object) -> str:
    r"""Return a request as text, without its query and credentials; nothing for a body.

    >>> connection = http.client.HTTPSConnection("pypi.example.com")
    >>> request_line(connection, b"GET /t/tk-12/simple/numpy/?sig=abc HTTP/1.1\r\nAuthorization: x\r\n")
    'GET https://pypi.example.com/t/****/simple/numpy/'
    """
    match = _REQUEST.match(bytes(data)) if isinstance(data, bytes | bytearray) else None
    if match is None:
        return ""
    target = match["target"].decode("ascii", "replace")
    method = match["method"].decode("ascii")
    if method == "CONNECT":
        return f"CONNECT {target} through {connection.host}"
    if "://" not in target:
        target = f"{_origin(connection)}{target}"
    return f"{method} {redact(_QUERY.sub('', target))}"


def _origin(connection: http.client.HTTPConnection) -> str:
    if connection.sock is not None and connection.sock.family.name == "AF_UNIX":
        return f"unix:{connection.sock.getpeername()}:"
    scheme = "https" if isinstance(connection, http.client.HTTPSConnection) else "http"
    port = "" if connection.port in {80, 443, None} else f":{connection.port}"
    return f"{scheme}://{connection.host}{port}"


def command_line(arguments: object) -> str:
    """Return a command as a shell would take it, without secrets, on one line.

    >>> command_line(["uv", "-i", "https://me:secret@example.com/simple", "--token=abc", "--password", "x"])
    "run: uv -i 'https://****@example.com/simple' '--token=****' --password '****'"
    """
    words = [arguments] if isinstance(arguments, str | bytes | os.PathLike) else arguments
    if not isinstance(words, Iterable):
        return ""
    texts: list[str] = []
    before = ""
    for word in map(os.fsdecode, words):
        texts.append(" ".join(_masked(word, before).split()))
        before = word
    line = texts[0] if isinstance(arguments, str) else shlex.join(texts)
    return f"run: {line if len(line) <= _LONGEST else line[:_LONGEST] + ' ...'}"


def _masked(word: str, before: str) -> str:
    option, equals, _ = word.partition("=")
    if equals and _SECRET_NAMES.search(option):
        return f"{option}=****"
    is_value = before.startswith("-") and "=" not in before and _SECRET_NAMES.search(before) is not None
    return "****" if is_value else redact(word)
