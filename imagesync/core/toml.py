"""TOML, by the standard library's parser where it has one."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """Return the document in *text*; a ``ValueError`` names line and column of an error."""
    # The same parser under two names (PEP 680).
    parser = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = parser.loads(text)
    return document
