"""TLS to registries: whom engines trust, is trusted here, too."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter

from imagesync.errors import RegistryError

# Where engines look for a registry's own certificates, by its host and port.
_CERTIFICATES = (
    Path("/etc/docker/certs.d"),
    Path("~/.config/docker/certs.d"),
    Path("~/.docker/certs.d"),
    Path("/etc/containers/certs.d"),
)


class ContextAdapter(HTTPAdapter):
    """Connections of one TLS context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  as in requests
        """Give direct connections the context."""
        super().init_poolmanager(*args, ssl_context=self._context, **options)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  as in requests
        """Give connections through a proxy the context."""
        return super().proxy_manager_for(*args, ssl_context=self._context, **options)


def is_loopback(registry: str) -> bool:
    """Return whether a registry is on this machine, where engines ask for no TLS.

    >>> is_loopback("127.0.0.1:5000"), is_loopback("localhost"), is_loopback("[::1]:5000")
    (True, True, True)
    >>> is_loopback("registry.example.com")
    False
    """
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(registry: str, *, check: bool) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, and those that engines have for *registry*."""
    context = ssl.create_default_context()
    for path in _CERTIFICATES:
        _load(context, path.expanduser() / registry)
    if not check:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, folder: Path) -> None:
    try:
        for path in sorted(folder.glob("*.crt")):
            context.load_verify_locations(path)
        for path in sorted(folder.glob("*.cert")):
            context.load_cert_chain(path, path.with_suffix(".key"))
    except OSError as error:
        raise RegistryError(
            f"The certificates in {folder} can't be used: {error}.",
            hint="They are those of `docker`: *.crt is an authority, *.cert with *.key the client's own.",
        ) from error
