"""The session that a command's options describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from imagesync.session import Session


def session_of(context: click.Context, /, options: Mapping[str, object]) -> Session:
    """Return the session that *options* describe; the context's object says whether to be quiet."""
    from imagesync.session import open_session

    settings = {key: value for key, value in options.items() if value not in (None, ())}
    python, prefix = (_optional_path(settings.pop(key, None)) for key in ("python", "prefix"))
    return open_session(python=python, prefix=prefix, quiet=context.obj, **settings)


def _optional_path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None
