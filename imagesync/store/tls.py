"""Trust in TLS: the system's authorities, as pip and browsers do it."""

from __future__ import annotations

import ssl
from typing import Any

from requests.adapters import HTTPAdapter


class SystemTrustAdapter(HTTPAdapter):
    """Trusts what the operating system trusts, beside the authorities that requests brings along."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (as in requests)
        """Give the pool a context that has the system's authorities."""
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **options)
