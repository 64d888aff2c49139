"""Certificates of a cluster: made for it alone, kept in memory, handed to its containers on standard input.

Not by a variable, a command line, a label or a mount: all of these are shown by ``docker inspect``, or lie on
a disk. What a container reads from its standard input is seen by its process only.
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
    """Return what a cluster's connections are secured with.

    Parameters
    ----------
    security
        ``None`` or true for certificates of its own, false for none at all.

    Raises
    ------
    UsageError
        Certificates are named that can't be read.
    """
    from distributed import Security

    if security is None or security is True:
        temporary: Security = Security.temporary()
        return temporary
    return Security(require_encryption=False) if security is False else security


def security_to_dict(security: Security) -> dict[str, str | bool]:
    """Return the arguments that make the same ``Security`` elsewhere, with the certificates themselves."""
    contents: dict[str, str | bool] = {"require_encryption": bool(security.require_encryption)}
    for field in _FIELDS:
        value = getattr(security, field)
        if value:
            contents[field] = _content(value)
    return contents


def security_from_dict(contents: Mapping[str, str | bool]) -> Security:
    """Return what :func:`security_to_dict` has written."""
    from distributed import Security

    return Security(**contents)


def _content(value: str) -> str:
    if "\n" in value:
        return value
    try:
        with open(value, encoding="ascii") as file:  # noqa: PTH123  as distributed itself reads it
            return file.read()
    except (OSError, ValueError) as error:
        raise UsageError(f"The certificate {value} can't be read: {error}") from error
