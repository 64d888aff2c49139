"""The session that a command's options describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from imagesync.session import Session


def session_of(context: click.Context, /, options: Mapping[str, object]) -> Session:
    """Return the session that *options* describe, of the environment that is active or the project's.

    The context's object says whether to be quiet.
    """
    from imagesync.session import open_session

    settings = {key: value for key, value in options.items() if value not in (None, ())}
    python, prefix = (_optional_path(settings.pop(key, None)) for key in ("python", "prefix"))
    session = open_session(python=python, prefix=prefix, quiet=context.obj, **settings)
    return replace(session, discovers=True)


def _optional_path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None
