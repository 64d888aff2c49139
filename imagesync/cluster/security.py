"""Certificates of a cluster, kept in memory and passed to its containers by standard input.

Variables, command lines, labels and mounts would be visible in ``docker inspect`` or on a disk. Only the
container's process sees its standard input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imagesync.errors import UsageError

if TYPE_CHECKING:
    from distributed import Security

_FIELDS = (
    "tls_ca_file",
    "tls_client_cert",
    "tls_client_key",
    "tls_scheduler_cert",
    "tls_scheduler_key",
    "tls_worker_cert",
    "tls_worker_key",
)


def make_security(security: Security | bool | None) -> Security:
    """Return the security of a cluster's connections.

    Parameters
    ----------
    security
        ``None`` or ``True`` for new certificates, ``False`` for plain TCP.

    Raises
    ------
    UsageError
        A certificate file can't be read.
    """
    from distributed import Security

    if security is None or security is True:
        temporary: Security = Security.temporary()
        return temporary
    return Security(require_encryption=False) if security is False else security


def security_to_dict(security: Security) -> dict[str, str | bool]:
    """Return the arguments of an equal ``Security``, with the contents of certificate files."""
    contents: dict[str, str | bool] = {"require_encryption": bool(security.require_encryption)}
    for field in _FIELDS:
        value = getattr(security, field)
        if value:
            contents[field] = _content(value)
    return contents


def security_from_dict(contents: Mapping[str, str | bool]) -> Security:
    """Return the ``Security`` from the arguments of :func:`security_to_dict`."""
    from distributed import Security

    return Security(**contents)


def _content(value: str) -> str:
    if "\n" in value:
        return value
    try:
        with open(value, encoding="ascii") as file:  # noqa: PTH123  as distributed reads it
            return file.read()
    except (OSError, ValueError) as error:
        raise UsageError(f"The certificate {value} can't be read: {error}") from error
