"""Access to channels, for fetching and for py-rattler: mirrors, credentials, certificates, proxies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from imagesync.core.credentials import strip_credentials
from imagesync.core.limits import REPODATA, REPODATA_SECONDS, SILENCE
from imagesync.indexes.conda.conda_configuration import CondaConfiguration
from imagesync.indexes.pypi.access import Access, Credential, Wording

_WORDING = Wording(
    place="channel",
    settings="`conda config --show`",
    logins="the channels in conda's configuration, `anaconda login`, `pixi auth login`, `mamba auth login` "
    "and netrc",
    certificate="`conda config --set ssl_verify /path/to/ca.pem`",
)
_COMMUNITY = "https://conda.anaconda.org"
_DEFAULTS = "https://repo.anaconda.com"


@dataclass(frozen=True, repr=False)
class ChannelUrls:
    """Channels and their mirrors, with credentials.

    Parameters
    ----------
    places
        The URL of a channel to the URLs of its files, in the order to try; without credentials.
    private
        Each of these URLs, without and with credentials.
    bearers
        A URL to the token that is sent in a header.
    """

    places: Mapping[str, tuple[str, ...]]
    private: Mapping[str, str]
    bearers: Mapping[str, str] = field(default_factory=dict)


def channel_access(
    urls: ChannelUrls,
    configuration: CondaConfiguration,
    environ: Mapping[str, str],
    *,
    timeout: float = SILENCE,
) -> Access:
    """Return the access for fetching archives; *timeout* is in seconds without a byte."""
    certificate, key = configuration.client_cert, configuration.client_cert_key
    hosts = dict.fromkeys(urlsplit(url).netloc for url in urls.private)
    return Access(
        credentials=tuple(Credential(url, *pair) for url, pair in _passwords(urls.private).items()),
        ca_bundle=_ca_bundle(configuration, environ),
        client_certificate=(certificate, key) if certificate and key else certificate,
        trusted_hosts=tuple(filter(None, hosts)) if configuration.ssl_verify is False else (),
        proxy=_proxy(configuration),
        timeout=timeout,
        tokens=tuple(_tokens(urls.private).items()),
        bearers=tuple(urls.bearers.items()),
        mirrors=tuple((channel, places) for channel, places in urls.places.items() if places != (channel,)),
        wording=_WORDING,
    )


def channel_settings(
    urls: ChannelUrls, configuration: CondaConfiguration, *, cache: Path, timeout: float = SILENCE
) -> ChannelSettings:
    """Return the settings by which py-rattler reads channels; see :func:`channel_access`."""
    passwords = _passwords(urls.private)
    tokens = _tokens(urls.private)
    places = {
        channel: tuple(tokens.get(place, place) for place in places)
        for channel, places in urls.places.items()
    }
    return ChannelSettings(
        channels=tuple(urls.places),
        cache=str(cache),
        places={channel: tried for channel, tried in places.items() if tried != (channel,)},
        passwords={urlsplit(url).hostname or "": pair for url, pair in passwords.items()},
        bearers={urlsplit(url).hostname or "": token for url, token in urls.bearers.items()},
        verify=configuration.ssl_verify is not False,
        timeout=timeout,
    )


def worker_environment(configuration: CondaConfiguration, environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with the variables for certificates and proxy that py-rattler reads."""
    environment = dict(environ)
    environment.setdefault("PATH", os.defpath)
    if (bundle := _ca_bundle(configuration, environ)) is not None:
        environment["SSL_CERT_FILE"] = bundle
        environment.pop("SSL_CERT_DIR", None)
    if (proxy := _proxy(configuration)) is not None:
        for scheme in ("HTTP", "HTTPS", "ALL"):
            environment[f"{scheme}_PROXY"] = environment[f"{scheme.lower()}_proxy"] = proxy
    return environment


def _passwords(urls: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for url, private in urls.items():
        parts = urlsplit(private)
        if parts.username is not None and parts.scheme in ("http", "https"):
            found[url] = (unquote(parts.username), unquote(parts.password or ""))
    return found


def _tokens(urls: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of channels with a token in their path: without, and with it."""
    found = {}
    for url, private in urls.items():
        parts = urlsplit(private)
        with_token = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if with_token != url:
            found[url] = with_token
    return found


def _ca_bundle(configuration: CondaConfiguration, environ: Mapping[str, str]) -> str | None:
    if isinstance(configuration.ssl_verify, str):
        return configuration.ssl_verify
    # requests, and so conda, reads these two.
    return environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None


def _proxy(configuration: CondaConfiguration) -> str | None:
    proxies = configuration.proxies
    return proxies.get("https") or proxies.get("http") or proxies.get("all")


@dataclass(frozen=True)
class ChannelSettings:
    """The settings by which py-rattler reads channels.

    Parameters
    ----------
    channels
        URLs without credentials, by priority.
    cache
        The folder for repodata.
    places
        The URL of a channel to the URLs to read instead, in the order to try, with tokens.
    passwords
        By host: user name and password.
    bearers
        By host: a token that is sent in a header.
    verify
        Check certificates.
    timeout
        Seconds without a byte.
    total
        Seconds of one request, whatever comes.
    most
        Bytes of a file of repodata, once it is decompressed.
    """

    channels: tuple[str, ...]
    cache: str
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    passwords: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    bearers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool = True
    timeout: float = SILENCE
    total: float = REPODATA_SECONDS
    most: int = REPODATA


@dataclass(frozen=True, repr=False)
class Mirrors:
    """The mirrors of channels.

    Parameters
    ----------
    configuration
        The configuration of conda: ``channel_alias``, ``custom_channels``, ``default_channels`` and
        ``channels`` have other URLs of a channel than its records, and ``mirrored_channels`` its mirrors.
    by_pixi
        The beginning of a URL to its replacements, in pixi's order.
    """

    configuration: CondaConfiguration
    by_pixi: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def places(self, channel: str) -> tuple[str, ...]:
        """Return the URLs to try for a file of *channel*, without credentials; its own comes last.

        Mirrors needn't be trusted, because the caller checks the sha256 of each file.

        Parameters
        ----------
        channel
            A URL without subdir and without credentials.
        """
        if "://" not in channel:
            return (channel,)
        found = [*self._of_pixi(channel), *self._of_conda(channel)]
        if channel in found:
            return tuple(dict.fromkeys(found))
        return tuple(dict.fromkeys((*found, channel)))

    @property
    def private_urls(self) -> tuple[str, ...]:
        """Return the URLs of mirrors as they are configured, with their credentials."""
        by_conda = (url for targets in self.configuration.mirrored_channels.values() for url in targets)
        by_pixi = (url.rstrip("/") for targets in self.by_pixi.values() for url in targets)
        return (*self.configuration.urls(by_conda), *by_pixi)

    def _of_pixi(self, channel: str) -> Iterator[str]:
        matching = [key for key in self.by_pixi if channel == key or channel.startswith(f"{key}/")]
        if matching:
            key = max(matching, key=len)
            for target in self.by_pixi[key]:
                yield strip_credentials(target).rstrip("/") + channel.removeprefix(key)

    def _of_conda(self, channel: str) -> Iterator[str]:
        configuration = self.configuration
        name = _name(channel)
        for mirrored, targets in configuration.mirrored_channels.items():
            urls = [*map(strip_credentials, configuration.urls(targets))]
            if mirrored == name or channel in urls:
                yield from urls
        if not name:
            return
        known = map(strip_credentials, configuration.urls([name]))
        yield from (url for url in known if url != channel)
        # A mirror that is configured by its URL ends with the name of the channel that it mirrors.
        configured = (*configuration.channels, *configuration.default_channels)
        others = (strip_credentials(url).rstrip("/") for url in configured)
        yield from (url for url in others if url != channel and url.endswith(f"/{name}"))


def _name(channel: str) -> str:
    """Return the name of a channel at its original URL; empty for any other URL."""
    for host in (_COMMUNITY, _DEFAULTS):
        if channel.startswith(f"{host}/"):
            return channel.removeprefix(f"{host}/").strip("/")
    return ""


def with_credentials(configuration: CondaConfiguration, url: str) -> str:
    """Return *url*, of a channel or of a file in one, with the credentials in conda's configuration.

    They are those of the configured channel that it belongs to, of ``channel_alias`` and ``custom_channels``,
    or the token that ``anaconda login`` has left; in this order.

    Parameters
    ----------
    configuration
        conda's configuration.
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
