# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH118, PTH208
"""conda channels: from names to URLs, and from URLs to the credentials that open them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import strip_credentials
from imagesync.core.files import read_bytes

if TYPE_CHECKING:
    from imagesync.indexes.conda.configuration import CondaConfiguration

_SUBDIR = re.compile(r"/(?:noarch|(?:linux|osx|win|emscripten|wasi|freebsd|zos)-[a-z0-9_]+)/?$")
# What conda itself knows by name besides what is configured.
_BUILT_IN = {
    "pkgs/main": "https://repo.anaconda.com",
    "pkgs/r": "https://repo.anaconda.com",
    "pkgs/msys2": "https://repo.anaconda.com",
    "pkgs/free": "https://repo.anaconda.com",
    "pkgs/pro": "https://repo.anaconda.com",
}


@dataclass(frozen=True, repr=False)
class Names:
    """What channel names mean; URLs are with their credentials.

    Parameters
    ----------
    alias
        The URL below which a plain name is a channel.
    default
        What ``defaults`` stands for.
    custom
        Name to the URL below which the channel of that name is.
    multiple
        Name to the channels that it stands for.
    home
        What ``~`` stands for.
    """

    alias: str
    default: tuple[str, ...]
    custom: Mapping[str, str]
    multiple: Mapping[str, tuple[str, ...]]
    home: str

    def urls(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return the URLs, without subdir, that *channels* (names, URLs, folders) stand for, each once."""
        return tuple(dict.fromkeys(url for channel in channels for url in self._of(channel, set())))

    def _of(self, channel: str, seen: set[str]) -> Iterator[str]:
        several = self.default if channel == "defaults" else self.multiple.get(channel)
        if several is not None and channel not in seen:
            for other in several:
                yield from self._of(other, seen | {channel})
            return
        url = self._url(channel)
        if url:
            yield url

    def _url(self, channel: str) -> str:
        if "://" in channel:
            return _SUBDIR.sub("", channel).rstrip("/")
        if channel.startswith(("/", "./", "../", "~/")) or channel in (".", ".."):
            path = os.path.join(self.home, channel[2:]) if channel.startswith("~/") else channel
            return Path(os.path.abspath(path)).as_uri()
        name = _SUBDIR.sub("", f"/{channel.strip('/')}").strip("/")
        if name in ("", "nodefaults"):
            return ""
        # The first parts of a name may be what is configured: with {team: URL}, team/dev is URL/team/dev.
        known = {**_BUILT_IN, **self.custom}
        first = name
        while first:
            if first in known:
                return f"{known[first].rstrip('/')}/{name}"
            first = first.rpartition("/")[0]
        return f"{self.alias.rstrip('/')}/{name}"


def urls_of(configuration: CondaConfiguration, channels: Iterable[str]) -> tuple[str, ...]:
    """Return the URLs of *channels*, with the credentials that the configuration has for them."""
    names = Names(
        alias=configuration.channel_alias,
        default=configuration.default_channels,
        custom=configuration.custom_channels,
        multiple=configuration.custom_multichannels,
        home=os.path.expanduser("~"),  # noqa: PTH111
    )
    return names.urls(channels)


def with_credentials(configuration: CondaConfiguration, url: str) -> str:
    """Return *url*, of a channel or of a file in one, with the credentials in conda's configuration.

    They are those of the configured channel that it belongs to, of ``channel_alias`` and ``custom_channels``,
    or the token that ``anaconda login`` has left; in this order.

    Parameters
    ----------
    url
        Without credentials; one that has some stays as it is.
    """
    if "://" not in url or strip_credentials(url) != url:
        return url
    known = (*configuration.channels, *configuration.default_channels)
    for other in (*known, configuration.channel_alias, *configuration.custom_channels.values()):
        public = strip_credentials(other).rstrip("/")
        if public != other.rstrip("/") and (url == public or url.startswith(public + "/")):
            return other.rstrip("/") + url[len(public) :]
    for server, token in configuration.tokens.items():
        public = server.rstrip("/")
        if url == public or url.startswith(public + "/"):
            return f"{public}/t/{token}{url[len(public) :]}"
    return url


def with_netrc(url: str, environ: Mapping[str, str]) -> str:
    """Return *url* with the entry of its host in netrc, if there is one.

    Parameters
    ----------
    environ
        ``NETRC`` and ``HOME`` count.
    """
    from urllib.parse import quote, urlsplit, urlunsplit

    parts = urlsplit(url)
    home = environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~")  # noqa: PTH111
    for path in (environ.get("NETRC", ""), os.path.join(home, ".netrc"), os.path.join(home, "_netrc")):
        if not path or not parts.hostname:
            continue
        import netrc

        try:
            found = netrc.netrc(path).authenticators(parts.hostname)
        except (OSError, netrc.NetrcParseError):
            continue
        if found is not None:
            user, _, password = found
            known = f"{quote(user, safe='')}:{quote(password or '', safe='')}"
            return urlunsplit(parts._replace(netloc=f"{known}@{parts.netloc}"))
    return url


def anaconda_tokens(environ: Mapping[str, str], home: str) -> dict[str, str]:
    """Return the tokens that ``anaconda login`` has left: the server's URL to its token.

    Source: conda's ``gateways/anaconda_client.py``.
    """
    from urllib.parse import unquote_plus

    data = environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    places = [
        environ.get("BINSTAR_CONFIG_DIR", ""),
        os.path.join(data, "anaconda-client"),
        os.path.join(data, "binstar"),
        os.path.join(home, ".continuum", "anaconda-client"),
        os.path.join(home, "Library", "Application Support", "binstar"),
    ]
    tokens: dict[str, str] = {}
    for place in places:
        folder = os.path.join(place, "tokens") if place else ""
        try:
            names = sorted(os.listdir(folder)) if folder else []
        except OSError:
            continue
        for name in names:
            if not name.endswith(".token"):
                continue
            try:
                token = read_bytes(os.path.join(folder, name)).decode("utf-8", "replace").strip()
            except OSError:
                continue
            server = unquote_plus(name.removesuffix(".token")).rstrip("/")
            if token and "://" in server:
                tokens.setdefault(server, token)
    return tokens
