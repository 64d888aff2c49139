"""Connections to a running scheduler by its address."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.installation import own_installation
from imagesync.errors import ImagesyncError, UsageError

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security


TIMEOUT = 10
"""Seconds that a scheduler may take to answer."""


@dataclass(frozen=True)
class Certificates:
    """PEM files of a TLS connection to a scheduler; ``None`` for those of Dask's configuration."""

    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@contextlib.contextmanager
def connected(address: str, certificates: Certificates) -> Iterator[Client]:
    """Yield a client of the scheduler at *address*, and close it afterwards.

    Parameters
    ----------
    address
        Address of the scheduler.
    certificates
        Required for ``tls://``, unless Dask's configuration or a connection file has them.

    Raises
    ------
    UsageError
        Dask isn't installed, or certificates are missing.
    ImagesyncError
        No scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "Dask isn't installed beside imagesync, so no scheduler can be asked.",
            hint=f"Install it there: {own_installation().add_extra('dask')}",
        ) from error
    security = _security(address, certificates)
    if address.startswith("tls://") and not security.require_encryption:
        raise UsageError(
            f"{address} wants certificates.",
            hint="Give them: --tls-ca-file FILE --tls-cert FILE --tls-key FILE;"
            " or name them in Dask's own configuration."
            " Those of a cluster that `imagesync cluster up` started here are found.",
        )
    try:
        with warnings.catch_warnings():
            # Dask's version warnings: the comparison says more.
            warnings.simplefilter("ignore")
            client = Client(address, security=security, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ImagesyncError(
            f"No scheduler answers at {address}: {type(error).__name__}: {error}",
            hint="Is that its address, and are the certificates those of the cluster?",
        ) from error
    with client:
        yield client


def _security(address: str, certificates: Certificates) -> Security:
    from distributed.security import Security

    files = {
        "tls_ca_file": certificates.ca_file,
        "tls_client_cert": certificates.cert,
        "tls_client_key": certificates.key,
    }
    arguments = {key: str(path) for key, path in files.items() if path is not None}
    if not arguments:
        from imagesync.cluster.connection import connection_at
        from imagesync.cluster.security import security_from_dict

        connection = connection_at(address)
        return Security() if connection is None else security_from_dict(connection.security)
    return Security(require_encryption=True, **arguments)
