"""Files that differ from what was recorded only by the prefix, since the environment was moved."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from imagesync.scan.modifications.recorded import Claim

_SCRIPT_START = 4096
# pip and uv let a shell start the interpreter if its path is too long for the first line, or has a space.
_INTERPRETER = re.compile(rb"""(?:#!|'''exec' )[ \t]*(?:"([^"\n]+)"|'([^'\n]+)'|(\S+))""")
_SHELLS = (b"/bin/sh", b"/usr/bin/sh")


def is_relocated(path: str, claim: Claim, prefixes: Iterable[str]) -> bool:
    """Return True if the file *path* differs from *claim* only by its prefix.

    Parameters
    ----------
    prefixes
        The folder of the environment, in all its forms.
    """
    found = [os.fsencode(prefix) for prefix in dict.fromkeys(prefixes) if prefix]
    if claim.original is not None:
        return _has_original(path, *claim.original, found)
    if not claim.path.startswith("..") and not claim.is_generated:
        return False
    return _starts_foreign_interpreter(path, found)


def _has_original(path: str, sha256: str, placeholder: str, prefixes: Iterable[bytes]) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    original = os.fsencode(placeholder)
    return any(hashlib.sha256(content.replace(prefix, original)).hexdigest() == sha256 for prefix in prefixes)


def _starts_foreign_interpreter(path: str, prefixes: list[bytes]) -> bool:
    """Return True if a script is for the interpreter of another environment."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            start = file.read(_SCRIPT_START)
    except OSError:
        return False
    if not start.startswith(b"#!"):
        return False
    lines = b"\n".join(start.split(b"\n")[:3])
    return b"python" in lines and not any(prefix in lines for prefix in prefixes)
