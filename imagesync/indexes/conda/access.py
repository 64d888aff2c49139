"""What conda is told about channels, for fetching and for py-rattler: credentials, certificates, proxies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from imagesync.indexes.pypi.access import Access, Credential

if TYPE_CHECKING:
    from imagesync.indexes.conda.configuration import CondaConfiguration


def channel_access(
    urls: Mapping[str, str], configuration: CondaConfiguration, environ: Mapping[str, str]
) -> Access:
    """Return how archives are fetched.

    Parameters
    ----------
    urls
        Of channels, without and with credentials.
    """
    certificate, key = configuration.client_cert, configuration.client_cert_key
    hosts = (urlsplit(url).netloc for url in urls)
    return Access(
        credentials=tuple(Credential(url, *pair) for url, pair in _passwords(urls).items()),
        ca_bundle=_ca_bundle(configuration, environ),
        client_certificate=(certificate, key) if certificate and key else certificate,
        trusted_hosts=tuple(filter(None, hosts)) if configuration.ssl_verify is False else (),
        proxy=_proxy(configuration),
        tokens=tuple(_tokens(urls).items()),
    )


def channel_settings(
    urls: Mapping[str, str], configuration: CondaConfiguration, *, cache: Path
) -> ChannelSettings:
    """Return how py-rattler reads channels; see :func:`channel_access`."""
    passwords = {urlsplit(url).hostname or "": pair for url, pair in _passwords(urls).items()}
    return ChannelSettings(
        channels=tuple(urls),
        cache=str(cache),
        tokens=_tokens(urls),
        passwords=passwords,
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
    tokens
        URLs of channels, without and with their token.
    passwords
        By host: user name and password.
    verify
        Whether certificates are checked.
    timeout
        Of a request, in seconds.
    """

    channels: tuple[str, ...]
    cache: str
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    passwords: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    verify: bool = True
    timeout: float = 30.0
