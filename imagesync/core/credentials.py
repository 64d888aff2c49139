"""Credentials in URLs: removed before a URL reaches a lock, a label, a log or an exception."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

# Whatever stands between "scheme://" and "@" is user information (RFC 3986, section 3.2.1).
# The patterns take linear time on any text, such as 50 MB without a space in another tool's log.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31}://)[^/?#\s\"'<>]*@")
# conda channels carry their token in the path, as /t/<token>/.
_PATH_TOKEN = re.compile(r"(?P<scheme>https?://(?:(?!https?://)[^\s\"'<>])*?)/t/[^/\s\"'<>]+")


def strip_credentials(url: str) -> str:
    """Return *url* without user information and without a conda token.

    ``git@`` stays: over SSH it is an account's name that everybody shares, and no secret.

    >>> strip_credentials("https://me:secret@pypi.example.com/simple")
    'https://pypi.example.com/simple'
    >>> strip_credentials("ssh://git@example.com/team/code.git")
    'ssh://git@example.com/team/code.git'
    >>> strip_credentials("https://conda.example.com/t/tk-123/channel")
    'https://conda.example.com/channel'
    """
    parts = urlsplit(url)
    if "@" in parts.netloc and not (parts.scheme.endswith("ssh") and parts.password is None):
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return _PATH_TOKEN.sub(r"\g<scheme>", urlunsplit(parts))


def strip_credentials_in(text: str) -> str:
    """Return *text*, such as a match spec, without the credentials of any URL in it.

    >>> strip_credentials_in("numpy[channel='https://me:secret@conda.example.com/t/tk-123/team']")
    "numpy[channel='https://conda.example.com/team']"
    """
    return _PATH_TOKEN.sub(r"\g<scheme>", _USERINFO.sub(r"\g<scheme>", text))


def redact(text: str) -> str:
    """Return *text*, such as another tool's log, with the credentials of every URL in it masked.

    >>> redact("GET https://me:secret@pypi.example.com/simple failed")
    'GET https://****@pypi.example.com/simple failed'
    """
    if "://" not in text:
        return text
    return _PATH_TOKEN.sub(r"\g<scheme>/t/****", _USERINFO.sub(r"\g<scheme>****@", text))


def reason_of(error: Exception) -> str:
    r"""Return why a file can't be parsed, on one line: without its text, and with credentials masked.

    The errors of pydantic and PyYAML show the input, cut anywhere, so that credentials aren't recognised.

    >>> reason_of(ValueError("no number:\n'https://me:secret@pypi.example.com'"))
    "no number: 'https://****@pypi.example.com'"
    """
    parts: Any
    if callable(errors := getattr(error, "errors", None)):
        parts = [
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in errors(include_input=False, include_context=False, include_url=False)
        ]
    elif mark := getattr(error, "problem_mark", None):
        parts = [f"{getattr(error, 'problem', None) or 'a fault'} in line {mark.line + 1}"]
    else:
        parts = [str(error)]
    return redact(" ".join("; ".join(parts).split()))[:300]
