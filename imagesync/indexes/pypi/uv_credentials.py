"""What ``uv auth login`` has stored: ``credentials.toml`` in uv's data folder.

The source is uv's ``crates/uv-auth/src/store.rs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from imagesync.indexes.documents import read_document, tables
from imagesync.indexes.folders import home_folder
from imagesync.indexes.pypi.locations import with_login


@dataclass(frozen=True)
class StoredLogin:
    """A login for all URLs below *service*."""

    service: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class StoredLogins:
    """The logins of all services."""

    logins: tuple[StoredLogin, ...] = ()

    def opened(self, url: str) -> str:
        """Return *url* with the login of the narrowest service that it belongs to, if it has none yet."""
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


def read_stored_logins(environ: Mapping[str, str], platform: str) -> StoredLogins:
    """Return what ``uv auth login`` has stored in the file of its own.

    What is in the system's keychain (uv's preview feature ``native-auth``) only uv itself can read.

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
            found.append(StoredLogin(service, str(entry.get("username") or ""), password))
    return StoredLogins(tuple(found))


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
