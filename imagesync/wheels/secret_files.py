"""Files that look like secrets, by their names and by the first line of private keys."""

from __future__ import annotations

import re
from collections.abc import Callable

_NAMES = re.compile(
    r"(?i)(\.env(\..+)?|\.envrc|\.netrc|_netrc|\.pypirc|\.pgpass|\.git-credentials|\.htpasswd"
    r"|id_(rsa|dsa|ecdsa|ed25519)|.+\.(key|p12|pfx|ppk|jks|kdbx)"
    r"|secrets\.(toml|ya?ml|json)|credentials\.json|(client[-_]secret|service[-_]account).*\.json)"
)
_FOLDERS = frozenset({".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker"})
_TEMPLATES = re.compile(r"(?i)\.env\.(example|sample|template|dist)")
# Certificates have the same suffixes as keys, so the content of these files decides.
_PERHAPS = (".pem", ".crt", ".cer", ".asc", "key", "key.json", "key.txt")
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")


def looks_secret(path: str, read: Callable[[], bytes]) -> bool:
    """Return True if the file at *path* looks like a secret.

    Parameters
    ----------
    path
        With ``/``.
    read
        Returns the file's bytes; only called for names that don't decide, such as ``.pem``.

    >>> [looks_secret(path, bytes) for path in ("app/.env", "app/.env.example", ".ssh/x")]
    [True, False, True]
    """
    folder, _, name = path.rpartition("/")
    if _NAMES.fullmatch(name):
        return not _TEMPLATES.fullmatch(name)
    if not _FOLDERS.isdisjoint(folder.split("/")):
        return True
    return name.lower().endswith(_PERHAPS) and _PRIVATE_KEY.search(read()) is not None
