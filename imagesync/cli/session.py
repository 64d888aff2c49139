"""The session of a command, from its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from imagesync.session import Session, open_session


def session_of(context: click.Context, /, options: Mapping[str, object]) -> Session:
    """Return the session that *options* describe, by default of the active environment or the project's.

    Parameters
    ----------
    context
        The context of the command; its object says whether to be quiet.
    options
        The command's options for settings and the environment, by parameter name.
    """
    settings = {key: value for key, value in options.items() if value not in (None, ())}
    python, prefix = (_optional_path(settings.pop(key, None)) for key in ("python", "prefix"))
    session = open_session(python=python, prefix=prefix, quiet=context.obj, **settings)
    return replace(session, discovers=True)


def _optional_path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None
