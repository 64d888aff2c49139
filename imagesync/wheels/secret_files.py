"""Which files look like secrets: by their names, and by what a private key begins with."""

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
# Certificates have the same suffixes as keys, so these are looked into: a private key says that it is one.
_PERHAPS = (".pem", ".crt", ".cer", ".asc", "key", "key.json", "key.txt")
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")


def looks_secret(path: str, read: Callable[[], bytes]) -> bool:
    """Return whether the file at *path* (with ``/``) looks like a secret.

    Parameters
    ----------
    read
        Gives the file's bytes; called for the few files only whose names leave it open, such as ``.pem``.

    >>> [looks_secret(path, bytes) for path in ("app/.env", "app/.env.example", ".ssh/x")]
    [True, False, True]
    """
    folder, _, name = path.rpartition("/")
    if _NAMES.fullmatch(name):
        return not _TEMPLATES.fullmatch(name)
    if not _FOLDERS.isdisjoint(folder.split("/")):
        return True
    return name.lower().endswith(_PERHAPS) and _PRIVATE_KEY.search(read()) is not None
