"""What a stream can show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO


def is_interactive(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether *stream* is a terminal that can move its cursor (``TERM`` isn't ``dumb``)."""
    environ = os.environ if environ is None else environ
    return stream.isatty() and environ.get("TERM", "") not in {"dumb", "unknown"}


def has_colour(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether *stream* may be coloured (https://no-color.org)."""
    environ = os.environ if environ is None else environ
    return is_interactive(stream, environ) and not environ.get("NO_COLOR")
