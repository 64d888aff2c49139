"""URLs of indexes: as configuration files write them, and with the logins that uv has stored for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from imagesync.core.user_folders import home_folder
from imagesync.indexes.configuration_files import read_document, tables

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


def location(entry: str, folder: Path) -> str:
    """Return a URL unchanged, and a path as an absolute one.

    *folder* is that of the configuration file.

    >>> location("https://pypi.example.com/simple", Path("/project"))
    'https://pypi.example.com/simple'
    >>> location("./wheels", Path("/project"))
    '/project/wheels'
    """
    if "://" in entry or entry.startswith("file:"):
        return entry
    return str((folder / Path(entry).expanduser()).resolve())


def with_login(url: str, user: str, password: str) -> str:
    """Return *url* with a login, unless it has one, or *user* and *password* are empty.

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
    """Return *text* with each ``${NAME}`` expanded; unknown ones stay.

    >>> expand_variables("${USER_NAME}/${OTHER}", {"USER_NAME": "me"})
    'me/${OTHER}'
    """
    return _VARIABLE.sub(lambda match: environ.get(match[1], match[0]), text)


def expand_login(url: str, environ: Mapping[str, str]) -> str:
    """Return *url* with the variables in its login expanded, and quoted for a URL.

    >>> expand_login("https://me:${PASSWORD}@pypi.example.com/simple", {"PASSWORD": "a/b"})
    'https://me:a%2Fb@pypi.example.com/simple'
    """
    scheme, marks, rest = url.partition("://")
    login, at, host = rest.partition("@")
    if not marks or not at or "/" in login.replace("${", "").replace("}", ""):
        return url
    quoted = {name: quote(value, safe="") for name, value in environ.items()}
    return f"{scheme}://{expand_variables(login, quoted)}@{host}"


@dataclass(frozen=True)
class UvLogin:
    """A login for all URLs below *service*."""

    service: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class UvLogins:
    """The logins of all services."""

    logins: tuple[UvLogin, ...] = ()

    def add_to(self, url: str) -> str:
        """Return *url* with the login of the narrowest service that contains it, unless it has one."""
        parts = urlsplit(url)
        if parts.password is not None or not parts.scheme.startswith("http"):
            return url
        matching = [
            login
            for login in self.logins
            if _is_below(url, login.service) and parts.username in (None, "", login.username)
        ]
        if not matching:
            return url
        best = max(matching, key=lambda login: len(login.service))
        return with_login(url, best.username, best.password)


def read_uv_logins(environ: Mapping[str, str], platform: str) -> UvLogins:
    """Return the logins that ``uv auth login`` has stored in its ``credentials.toml``.

    Source: uv's ``crates/uv-auth/src/store.rs``. Logins in the system's keychain (uv's preview feature
    ``native-auth``) aren't among them: only uv itself can read these.

    Raises
    ------
    ScanError
        The file can't be read, or isn't TOML.
    """
    document = read_document(_folder(environ, platform) / "credentials.toml")
    found = []
    for entry in tables(document.get("credential", [])):
        service, password = entry.get("service"), entry.get("password") or entry.get("token")
        if isinstance(service, str) and isinstance(password, str):
            found.append(UvLogin(service, str(entry.get("username") or ""), password))
    return UvLogins(tuple(found))


def _folder(environ: Mapping[str, str], platform: str) -> Path:
    if environ.get("UV_CREDENTIALS_DIR"):
        return Path(environ["UV_CREDENTIALS_DIR"])
    home = home_folder(environ, platform)
    if platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "uv" / "data" / "credentials"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "uv" / "credentials"


def _is_below(url: str, service: str) -> bool:
    asked, known = urlsplit(url), urlsplit(service)
    path = known.path.rstrip("/")
    return (asked.scheme, asked.hostname, asked.port) == (known.scheme, known.hostname, known.port) and (
        asked.path == path or asked.path.startswith(f"{path}/")
    )
