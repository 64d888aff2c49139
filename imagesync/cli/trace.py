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
_EVENTS = frozenset({"http.client.send", "subprocess.Popen", REQUEST_EVENT})


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
        if event not in _EVENTS or getattr(self._busy, "value", False):
            return
        self._busy.value = True
        try:
            if text := _line_of(event, arguments):
                self._progress.line(text, Severity.DETAIL)
        except Exception:  # noqa: S110  it would end the request or command that is audited
            pass
        finally:
            self._busy.value = False


def _line_of(event: str, arguments: tuple[Any, ...]) -> str:
    if event == "http.client.send":
        return request_line(*arguments)
    return command_line(arguments[1]) if event == "subprocess.Popen" else redact(str(arguments[0]))


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

    >>> connection = http.client.HTTPConnection("pypi.example.com")
    >>> request_line(connection, b"GET /t/tk-12/simple/numpy/?sig=abc HTTP/1.1\r\nAuthorization: x\r\n")
    'GET http://pypi.example.com/t/****/simple/numpy/'
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
    # The object of a library may stand for the socket.
    if getattr(getattr(connection.sock, "family", None), "name", "") == "AF_UNIX":
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
    if before.startswith("-") and "=" not in before and _SECRET_NAMES.search(before):
        return "****"
    text = redact(_QUERY.sub("", word) if "://" in word else word)
    # The name may stand before any "=", as in --env=API_TOKEN=abc.
    start = 0
    while (equals := text.find("=", start)) >= 0:
        if _SECRET_NAMES.search(text[start:equals]):
            return f"{text[: equals + 1]}****"
        start = equals + 1
    return text
