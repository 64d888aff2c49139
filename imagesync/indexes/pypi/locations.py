"""URLs of indexes as configuration files write them: relative paths, logins, variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


def location(entry: str, folder: Path) -> str:
    """Return a URL as it is, and a path as one from anywhere; *folder* is that of the configuration file.

    >>> location("https://pypi.example.com/simple", Path("/project"))
    'https://pypi.example.com/simple'
    >>> location("./wheels", Path("/project"))
    '/project/wheels'
    """
    if "://" in entry or entry.startswith("file:"):
        return entry
    return str((folder / Path(entry).expanduser()).resolve())


def with_login(url: str, user: str, password: str) -> str:
    """Return *url* with a login, unless it has one already, or there is none.

    >>> with_login("https://pypi.example.com/simple", "me", "a/b")
    'https://me:a%2Fb@pypi.example.com/simple'
    """
    parts = urlsplit(url)
    if not (user or password) or not parts.netloc or parts.password is not None:
        return url
    if parts.username:
        user = user or parts.username
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return *text* with each ``${NAME}`` filled in; unknown ones stay.

    >>> expand_variables("${USER_NAME}/${OTHER}", {"USER_NAME": "me"})
    'me/${OTHER}'
    """
    return _VARIABLE.sub(lambda match: environ.get(match[1], match[0]), text)


def expand_login(url: str, environ: Mapping[str, str]) -> str:
    """Return *url* with the variables in its login filled in, quoted as a URL needs it.

    >>> expand_login("https://me:${PASSWORD}@pypi.example.com/simple", {"PASSWORD": "a/b"})
    'https://me:a%2Fb@pypi.example.com/simple'
    """
    scheme, marks, rest = url.partition("://")
    login, at, host = rest.partition("@")
    if not marks or not at or "/" in login.replace("${", "").replace("}", ""):
        return url
    quoted = {name: quote(value, safe="") for name, value in environ.items()}
    return f"{scheme}://{expand_variables(login, quoted)}@{host}"
