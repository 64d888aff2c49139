"""Reading TOML, with the standard library's parser where there is one."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """Return the document *text*; a ``ValueError`` says line and column of what is wrong with it."""
    # The same parser under two names (PEP 680), imported only where there is something to parse.
    parser = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = parser.loads(text)
    return document


def read_toml(path: Path) -> dict[str, Any]:
    """Return the document in file *path*.

    Raises
    ------
    ValueError
        It isn't TOML, or not UTF-8; the message says where.
    OSError
        The file can't be read.
    """
    return parse_toml(path.read_bytes().decode("utf-8"))
