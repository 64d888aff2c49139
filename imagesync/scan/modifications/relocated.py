"""Files that differ from what was recorded only by the prefix, since the environment was moved."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from imagesync.scan.conda.prefix_records import with_placeholder
from imagesync.scan.modifications.recorded import Claim

_SCRIPT_START = 4096
# A shell starts the interpreter if its path is too long for the first line, or has a space.
_INTERPRETER = re.compile(rb"""#!(?:/bin/sh\n'''exec')?[ \t]*(?:"([^"\n]+)"|'([^'\n]+)'|(\S+))""")


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
    return any(
        hashlib.sha256(original).hexdigest() == sha256
        for prefix in prefixes
        for original in with_placeholder(content, prefix, os.fsencode(placeholder))
    )


def _starts_foreign_interpreter(path: str, prefixes: Iterable[bytes]) -> bool:
    """Return True if a script is for the interpreter of another environment."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            start = file.read(_SCRIPT_START)
    except OSError:
        return False
    named = _INTERPRETER.match(start)
    if named is None:
        return False
    interpreter = named[1] or named[2] or named[3]
    return (
        interpreter.startswith(b"/")
        and b"python" in interpreter.rpartition(b"/")[2]
        and not any(interpreter.startswith(prefix + b"/") for prefix in prefixes)
    )
