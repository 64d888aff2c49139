"""What conda is told about channels, for fetching and for py-rattler: credentials, certificates, proxies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from imagesync.indexes.pypi.access import Access, Credential, Wording

if TYPE_CHECKING:
    from imagesync.indexes.conda.configuration import CondaConfiguration


_WORDING = Wording(
    place="channel",
    settings="`conda config --show`",
    logins="the channels in conda's configuration, `anaconda login`, `pixi auth login`, `mamba auth login` "
    "and netrc",
    certificate="`conda config --set ssl_verify /path/to/ca.pem`",
)


@dataclass(frozen=True, repr=False)
class ChannelUrls:
    """Channels and their mirrors, and what opens them.

    Parameters
    ----------
    places
        A channel's URL to where its files may be, in the order to try; all without credentials.
    private
        The URL of each place, without and with credentials.
    bearers
        The URL of a place to the token that it takes in a header.
    """

    places: Mapping[str, tuple[str, ...]]
    private: Mapping[str, str]
    bearers: Mapping[str, str] = field(default_factory=dict)


def channel_access(
    urls: ChannelUrls, configuration: CondaConfiguration, environ: Mapping[str, str]
) -> Access:
    """Return how archives are fetched."""
    certificate, key = configuration.client_cert, configuration.client_cert_key
    hosts = dict.fromkeys(urlsplit(url).netloc for url in urls.private)
    return Access(
        credentials=tuple(Credential(url, *pair) for url, pair in _passwords(urls.private).items()),
        ca_bundle=_ca_bundle(configuration, environ),
        client_certificate=(certificate, key) if certificate and key else certificate,
        trusted_hosts=tuple(filter(None, hosts)) if configuration.ssl_verify is False else (),
        proxy=_proxy(configuration),
        tokens=tuple(_tokens(urls.private).items()),
        bearers=tuple(urls.bearers.items()),
        mirrors=tuple((channel, places) for channel, places in urls.places.items() if places != (channel,)),
        wording=_WORDING,
    )


def channel_settings(urls: ChannelUrls, configuration: CondaConfiguration, *, cache: Path) -> ChannelSettings:
    """Return how py-rattler reads channels; see :func:`channel_access`."""
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
    )


def worker_environment(configuration: CondaConfiguration, environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with what py-rattler takes certificates and the proxy from."""
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
    """Return the channels with a token in their path, without and with it; passwords go another way."""
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
    """How channels are reached.

    Parameters
    ----------
    channels
        URLs without credentials, first the one that wins.
    cache
        The folder that keeps what channels say of their packages.
    places
        The URL of a channel to the URLs that it is read from, in the order to try, with tokens; none for a
        channel that is read from its own URL.
    passwords
        By host: user name and password.
    bearers
        By host: a token that is sent in a header.
    verify
        Whether certificates are checked.
    timeout
        Of a request, in seconds.
    """

    channels: tuple[str, ...]
    cache: str
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    passwords: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    bearers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool = True
    timeout: float = 30.0
