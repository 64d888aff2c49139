"""Stored credentials of conda channels: ``pixi auth``, ``mamba auth``, ``anaconda login``, netrc.

The sources are rattler's ``rattler_networking/src/authentication_storage`` and mamba's ``core/context.cpp``.
"""

from __future__ import annotations

import base64
import binascii
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from imagesync.core.strict_json import load_json
from imagesync.core.user_folders import home_folder
from imagesync.errors import ScanError

_KEYRING_SECONDS = 30
# These hosts are public: keyring, which takes a process, is asked for them only in a pixi workspace.
_PUBLIC = frozenset({"conda.anaconda.org", "repo.anaconda.com", "repo.prefix.dev"})


@dataclass(frozen=True)
class Login:
    """A login at a host.

    Parameters
    ----------
    kind
        The way it is sent: as basic authentication, as ``/t/<token>/`` in the path, or as a bearer token.
    secret
        The password or token.
    username
        The user name, for basic authentication.
    """

    kind: Literal["basic", "token", "bearer"]
    secret: str = field(repr=False)
    username: str = ""

    def add_to(self, url: str) -> str:
        """Return *url* with the login, unless that is a bearer token, which is sent in a header.

        >>> Login("token", "tk-1").add_to("https://conda.example.com/team")
        'https://conda.example.com/t/tk-1/team'
        >>> Login("basic", "a/b", "me").add_to("https://conda.example.com/team")
        'https://me:a%2Fb@conda.example.com/team'
        """
        parts = urlsplit(url)
        if self.kind == "token":
            return urlunsplit(parts._replace(path=f"/t/{self.secret}{parts.path}"))
        if self.kind == "basic":
            known = f"{quote(self.username, safe='')}:{quote(self.secret, safe='')}"
            return urlunsplit(parts._replace(netloc=f"{known}@{parts.netloc}"))
        return url


class StoredLogins:
    """Stored logins by their keys: a host, ``*.<domain>``, or host with port and path.

    Parameters
    ----------
    files
        The logins of each file, by precedence.
    keyring
        The ``keyring`` executable, or ``None``; each host is asked for once.
    before_keyring
        The number of *files* that precede keyring.
    everywhere
        Ask keyring for public hosts, too.
    """

    def __init__(
        self,
        files: Sequence[Mapping[str, Login]],
        *,
        keyring: str | None = None,
        before_keyring: int = 0,
        everywhere: bool = False,
    ) -> None:
        self._files = tuple(files)
        self._keyring = keyring
        self._before_keyring = before_keyring
        self._everywhere = everywhere
        self._answers: dict[str, Login | None] = {}

    def of(self, url: str) -> Login | None:
        """Return the login for *url*, or ``None``."""
        keys = tuple(_keys(url))
        first, last = self._files[: self._before_keyring], self._files[self._before_keyring :]
        return _of_files(first, keys) or self._of_keyring(url, keys) or _of_files(last, keys)

    def _of_keyring(self, url: str, keys: Sequence[str]) -> Login | None:
        host = urlsplit(url).hostname or ""
        if self._keyring is None or (host in _PUBLIC and not self._everywhere):
            return None
        # Of the wildcards only the domain's own, because each request takes a process.
        domains = [key for key in keys if key.startswith("*.")]
        for key in (host, *domains[-2:-1]):
            if key not in self._answers:
                self._answers[key] = _ask_keyring(self._keyring, key)
            if (found := self._answers[key]) is not None:
                return found
        return None


def _of_files(files: Iterable[Mapping[str, Login]], keys: Sequence[str]) -> Login | None:
    return next((logins[key] for logins in files for key in keys if key in logins), None)


def read_logins(
    environ: Mapping[str, str],
    platform: str,
    *,
    override: str = "",
    keyring: str | None = None,
    everywhere: bool = False,
) -> StoredLogins:
    """Return the logins that pixi and mamba have stored, in pixi's order.

    Parameters
    ----------
    environ
        Environment variables.
    platform
        In the terms of ``sys.platform``.
    override
        The login file in pixi's configuration.
    keyring, everywhere
        See :class:`StoredLogins`.

    Raises
    ------
    ScanError
        A file can't be read, or isn't JSON.
    """
    home = home_folder(environ, platform)
    named = [Path(path) for path in (environ.get("RATTLER_AUTH_FILE", ""), override) if path]
    by_mamba = [home / ".mamba" / "auth" / "authentication.json"]
    data = environ.get("XDG_DATA_HOME")
    by_mamba.append(
        (Path(data) if data else home / ".local" / "share") / "mamba" / "auth" / "authentication.json"
    )
    by_pixi = [*named, home / ".rattler" / "credentials.json"]
    read = [_of_rattler(path) for path in by_pixi] + [_of_mamba(path) for path in by_mamba]
    return StoredLogins(read, keyring=keyring, before_keyring=len(named), everywhere=everywhere)


def _keys(url: str) -> Iterator[str]:
    """Yield the keys of logins for *url*, the narrowest first."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host:
        return
    segments = [segment for segment in parts.path.split("/") if segment]
    place = f"{host}:{parts.port}" if parts.port else host
    for count in range(len(segments), -1, -1):
        yield "/".join((place, *segments[:count]))
    yield host
    domain = host
    while domain:
        yield f"*.{domain}"
        domain = domain.partition(".")[2]


def _of_rattler(path: Path) -> dict[str, Login]:
    entries = _document(path)
    return {host: login for host, entry in entries.items() if (login := _rattler_login(entry)) is not None}


def _rattler_login(entry: object) -> Login | None:
    if not isinstance(entry, Mapping):
        return None
    for kind, value in entry.items():
        if kind == "BasicHTTP" and isinstance(value, Mapping):
            return Login("basic", str(value.get("password", "")), str(value.get("username", "")))
        if kind == "OAuth" and isinstance(value, Mapping) and value.get("access_token"):
            return Login("bearer", str(value["access_token"]))
        if kind in ("CondaToken", "BearerToken") and isinstance(value, str):
            return Login("token" if kind == "CondaToken" else "bearer", value)
    return None


def _of_mamba(path: Path) -> dict[str, Login]:
    logins = {}
    for host, entry in _document(path).items():
        if isinstance(entry, Mapping) and (login := _mamba_login(entry)) is not None:
            logins[host.rstrip("/")] = login
    return logins


def _mamba_login(entry: Mapping[str, Any]) -> Login | None:
    kind = entry.get("type")
    if kind == "BasicHTTPAuthentication":
        try:
            password = base64.b64decode(str(entry.get("password", "")), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        return Login("basic", password, str(entry.get("user", "")))
    if kind in ("CondaToken", "BearerToken") and isinstance(entry.get("token"), str):
        return Login("token" if kind == "CondaToken" else "bearer", entry["token"])
    return None


def _document(path: Path) -> dict[str, Any]:
    try:
        document = load_json(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ScanError(f"{path} can't be read: {error.strerror}", hint="Check its permissions.") from None
    except ValueError:
        # The parser's message may quote a password.
        hint = "Log in again with the tool that wrote it, which writes it anew."
        raise ScanError(f"{path} isn't valid JSON", hint=hint) from None
    return document if isinstance(document, dict) else {}


def _ask_keyring(executable: str, host: str) -> Login | None:
    """Return the login that pixi has stored for *host* in the system's keyring, or ``None``."""
    try:
        found = subprocess.run(
            [executable, "get", "--", "rattler", host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_KEYRING_SECONDS,
            check=False,
        )
        return _rattler_login(load_json(found.stdout)) if found.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None


def with_netrc(url: str, environ: Mapping[str, str]) -> str:
    """Return *url* with the entry of its host in netrc, if there is one.

    Parameters
    ----------
    url
        The URL of a channel, without credentials.
    environ
        ``NETRC`` and ``HOME`` count.
    """
    import netrc

    parts = urlsplit(url)
    if not parts.hostname:
        return url
    home = home_folder(environ)
    named = [Path(environ["NETRC"])] if environ.get("NETRC") else []
    for path in (*named, home / ".netrc", home / "_netrc"):
        try:
            found = netrc.netrc(path).authenticators(parts.hostname)
        except (OSError, netrc.NetrcParseError):
            continue
        if found is not None:
            username, _, password = found
            return Login("basic", password or "", username).add_to(url)
    return url


def anaconda_tokens(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the tokens that ``anaconda login`` has stored: the server's URL to its token.

    Source: conda's ``gateways/anaconda_client.py``.
    """
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    folders = [
        data / "anaconda-client",
        data / "binstar",
        home / ".continuum" / "anaconda-client",
        home / "Library" / "Application Support" / "binstar",
    ]
    if environ.get("BINSTAR_CONFIG_DIR"):
        folders.insert(0, Path(environ["BINSTAR_CONFIG_DIR"]))
    tokens: dict[str, str] = {}
    for folder in folders:
        for path in sorted((folder / "tokens").glob("*.token")):
            try:
                token = path.read_bytes().decode("utf-8", "replace").strip()
            except OSError:
                continue
            server = unquote_plus(path.name.removesuffix(".token")).rstrip("/")
            if token and "://" in server:
                tokens.setdefault(server, token)
    return tokens
