# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH111, PTH118
"""conda's configuration, read as conda reads it: ``.condarc`` files, then ``CONDA_*``; conda isn't started.

The source is conda's ``base/context.py`` and ``common/configuration.py``; its documentation, *Using the
.condarc conda configuration file* and *Settings*, describes the same. mamba reads the same files.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from imagesync.core.user_folders import home_folder
from imagesync.indexes.conda.condarc import condarc_files, package_caches, read_condarc, root_prefix
from imagesync.indexes.conda.logins import anaconda_tokens

# The first channel that has a package is the only one to take it from, the preferred one, or one of equals.
ChannelPriority = Literal["strict", "flexible", "disabled"]
DEFAULT_ALIAS = "https://conda.anaconda.org"
DEFAULT_CHANNELS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")
_FALSE = frozenset({"false", "no", "off", "0", "n", "f"})
_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
# Separators of lists in ``CONDA_*``; pins may contain commas.
_LISTS = {"channels": ",", "default_channels": ",", "pkgs_dirs": os.pathsep, "pinned_packages": "&"}
_WORDS = (
    "channel_alias",
    "channel_priority",
    "ssl_verify",
    "client_ssl_cert",
    "client_ssl_cert_key",
    "add_anaconda_token",
)
_PRIORITIES: dict[str, ChannelPriority] = {
    "strict": "strict",
    "disabled": "disabled",
    # It had two values before it had three.
    **dict.fromkeys(_FALSE, "disabled"),
}


_SUBDIR = re.compile(r"/(?:noarch|(?:linux|osx|win|emscripten|wasi|freebsd|zos)-[a-z0-9_]+)/?$")
# conda's built-in channel names.
_BUILT_IN = {
    "pkgs/main": "https://repo.anaconda.com",
    "pkgs/r": "https://repo.anaconda.com",
    "pkgs/msys2": "https://repo.anaconda.com",
    "pkgs/free": "https://repo.anaconda.com",
    "pkgs/pro": "https://repo.anaconda.com",
}


@dataclass(frozen=True, repr=False)
class ChannelNames:
    """The URLs of channel names, with their credentials.

    Parameters
    ----------
    alias
        The URL below which a plain name is a channel.
    default
        The channels of the name ``defaults``.
    custom
        Name to the URL above the channel of that name.
    multiple
        Name to its channels.
    home
        The home folder, for ``~``.
    """

    alias: str
    default: tuple[str, ...]
    custom: Mapping[str, str]
    multiple: Mapping[str, tuple[str, ...]]
    home: str

    def urls(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return the URLs, without subdir and each once, of *channels* (names, URLs, folders)."""
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
        # The first parts of a name may be configured: with {team: URL}, team/dev is URL/team/dev.
        known = {**_BUILT_IN, **self.custom}
        first = name
        while first:
            if first in known:
                return f"{known[first].rstrip('/')}/{name}"
            first = first.rpartition("/")[0]
        return f"{self.alias.rstrip('/')}/{name}"


@dataclass(frozen=True, repr=False)
class CondaConfiguration:
    """The user's conda configuration of channels; URLs are WITH their credentials.

    Parameters
    ----------
    channels
        URLs without subdir, by priority; empty if nothing is configured.
    default_channels
        The channels of the name ``defaults``.
    channel_alias
        The URL below which a plain name is a channel.
    custom_channels
        Name to the URL above the channel of that name.
    custom_multichannels
        Name to its channels.
    mirrored_channels
        Name to its mirrors, as mamba reads it.
    package_caches
        Existing folders with packages that conda has downloaded.
    ssl_verify
        Whether certificates are checked, or the path of a CA bundle.
    client_cert, client_cert_key
        Paths of PEM files.
    proxies
        Scheme, or ``scheme://host``, to the URL of a proxy.
    tokens
        The URL of a server to the token that ``anaconda login`` has stored for it.
    channel_priority
        ``flexible`` by default, as in conda.
    pinned_packages
        Match specs for all installations, without credentials.
    """

    channels: tuple[str, ...] = ()
    default_channels: tuple[str, ...] = DEFAULT_CHANNELS
    channel_alias: str = DEFAULT_ALIAS
    custom_channels: Mapping[str, str] = field(default_factory=dict)
    custom_multichannels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mirrored_channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    package_caches: tuple[str, ...] = ()
    ssl_verify: bool | str = True
    client_cert: str | None = None
    client_cert_key: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    channel_priority: ChannelPriority = "flexible"
    pinned_packages: tuple[str, ...] = ()

    @property
    def public_urls(self) -> tuple[str, ...]:
        """Return the configured channels' URLs in their order, without credentials."""
        from imagesync.core.credentials import strip_credentials

        return tuple(dict.fromkeys(strip_credentials(url) for url in self.channels))

    def urls(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return the URLs of *channels* (names, URLs, folders), with the configured credentials."""
        names = ChannelNames(
            alias=self.channel_alias,
            default=self.default_channels,
            custom=self.custom_channels,
            multiple=self.custom_multichannels,
            home=os.path.expanduser("~"),
        )
        return names.urls(channels)

    def __repr__(self) -> str:
        """Return the configuration without credentials."""
        from imagesync.core.credentials import redact

        shown = ", ".join(
            f"{item.name}={redact(repr(getattr(self, item.name)))}"
            for item in fields(self)
            if item.name != "tokens"
        )
        return f"{type(self).__name__}({shown})"


def read_conda_configuration(
    prefix: Path, environ: Mapping[str, str], *, platform: str = sys.platform
) -> CondaConfiguration:
    """Return the configuration of channels that conda has in the environment at *prefix*.

    Parameters
    ----------
    prefix
        The environment; its ``.condarc`` is read, and that of the installation that it belongs to.
    environ
        Environment variables, with ``HOME``.
    platform
        In the terms of ``sys.platform``.

    Raises
    ------
    ScanError
        A configuration file can't be read, or isn't a mapping in YAML. conda stops there as well.
    """
    home = str(home_folder(environ, platform))
    root = root_prefix(str(prefix), environ)
    values = _Values(environ, home)
    for path in condarc_files(str(prefix), root, home, environ, platform):
        values.add(read_condarc(path))
    values.add(_variables(environ))
    return values.configuration(package_caches(values.merged_list("pkgs_dirs"), root, home, environ))


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in ``CONDA_*``."""
    values: dict[str, Any] = {}
    for key in (*_LISTS, *_WORDS):
        text = environ.get(f"CONDA_{key.upper()}", "")
        if not text:
            continue
        values[key] = text.split(_LISTS[key]) if key in _LISTS else text
    if "channels" not in values and environ.get("CONDA_CHANNEL"):
        values["channels"] = environ["CONDA_CHANNEL"].split(",")
    return values


class _Values:
    """The values of all sources, by ascending precedence."""

    def __init__(self, environ: Mapping[str, str], home: str) -> None:
        self._environ = environ
        self._home = home
        self._sources: list[dict[str, Any]] = []

    def add(self, source: Mapping[str, Any]) -> None:
        """Add a source of higher precedence than those before."""
        self._sources.append(dict(source))

    def merged_list(self, key: str) -> tuple[str, ...]:
        """Return the merged list, the entries of the source with the highest precedence first."""
        found: list[str] = []
        for source in reversed(self._sources):
            value = source.get(key)
            found += self._texts(value)
        return tuple(dict.fromkeys(found))

    def configuration(self, package_caches: tuple[str, ...]) -> CondaConfiguration:
        """Return the configuration, with channels as URLs."""
        alias = self._word("channel_alias") or DEFAULT_ALIAS
        names = ChannelNames(
            alias=alias if "://" in alias else f"https://{alias}",
            default=self.merged_list("default_channels") or DEFAULT_CHANNELS,
            custom={key: self._text(value) for key, value in self._map("custom_channels").items()},
            multiple={key: self._texts(value) for key, value in self._map("custom_multichannels").items()},
            home=self._home,
        )
        tokens = (
            anaconda_tokens(self._environ, Path(self._home)) if self._flag("add_anaconda_token", True) else {}
        )
        return CondaConfiguration(
            channels=names.urls(self.merged_list("channels")),
            default_channels=names.urls(("defaults",)),
            channel_alias=names.alias.rstrip("/"),
            custom_channels=names.custom,
            custom_multichannels=names.multiple,
            mirrored_channels={k: self._texts(v) for k, v in self._map("mirrored_channels").items()},
            package_caches=package_caches,
            ssl_verify=self._ssl_verify(),
            client_cert=self._word("client_ssl_cert") or None,
            client_cert_key=self._word("client_ssl_cert_key") or None,
            proxies={key: self._text(value) for key, value in self._map("proxy_servers").items() if value},
            tokens=tokens,
            channel_priority=_PRIORITIES.get(self._word("channel_priority").lower(), "flexible"),
            pinned_packages=self._pinned(),
        )

    def _pinned(self) -> tuple[str, ...]:
        specs = self.merged_list("pinned_packages")
        if not specs:
            return ()
        from imagesync.core.credentials import strip_credentials_in

        return tuple(map(strip_credentials_in, specs))

    def _ssl_verify(self) -> bool | str:
        word = self._word("ssl_verify")
        if word.lower() in _FALSE:
            return False
        if not word or word.lower() in _TRUE or word == "truststore":
            return True
        return os.path.join(self._home, word[2:]) if word.startswith("~/") else word

    def _map(self, key: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for source in self._sources:
            value = source.get(key)
            if isinstance(value, dict):
                merged.update({str(name): item for name, item in value.items()})
        return merged

    def _word(self, key: str) -> str:
        for source in reversed(self._sources):
            if source.get(key) is not None:
                return self._text(source[key])
        return ""

    def _flag(self, key: str, default: bool) -> bool:
        word = self._word(key).lower()
        return word in _TRUE if word in _TRUE | _FALSE else default

    def _texts(self, value: Any) -> tuple[str, ...]:  # noqa: ANN401  as YAML has it
        items = value if isinstance(value, list) else [] if value is None else [value]
        texts = (self._text(item).strip() for item in items if item is not None)
        return tuple(text for text in texts if text)

    def _text(self, value: Any) -> str:  # noqa: ANN401
        """Return a value with its variables expanded, as conda does; unknown ones stay."""
        text = str(value)
        if "$" not in text:
            return text
        find: Callable[[re.Match[str]], str] = lambda match: self._environ.get(match[1] or match[2], match[0])  # noqa: E731
        return _VARIABLE.sub(find, text)
