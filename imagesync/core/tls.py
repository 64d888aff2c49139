"""Trust in TLS: the system's authorities, as pip and browsers do it."""

from __future__ import annotations

import ssl
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter


class SystemTrustAdapter(HTTPAdapter):
    """Trusts what the operating system trusts, beside the authorities that requests brings along."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (as in requests)
        """Give the pool a context that has the system's authorities."""
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **options)


class TrustingAdapter(HTTPAdapter):
    """Checks no certificate; for hosts that the user trusts whatever they show."""

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:  # noqa: ANN401
        """Send *request* to the trusted host; a redirect elsewhere is another adapter's, which checks."""
        return super().send(request, *args, **{**options, "verify": False})
