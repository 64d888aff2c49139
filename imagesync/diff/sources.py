"""Sides of a comparison by their names on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.errors import UsageError
from imagesync.inventory.comparison import Side

if TYPE_CHECKING:
    from imagesync.diff.local import LocalSide
    from imagesync.session import Session

LOCAL: Final = "local"
_FILES = (".json", ".yml", ".yaml", ".lock", ".txt", ".toml")


def find_side(text: str, *, session: Session) -> Side:
    """Return the side that *text* names.

    Parameters
    ----------
    text
        ``local`` for the environment of *session*, a lock file, an environment's folder, or an image.
    session
        Session of the local environment.

    Raises
    ------
    ImagesyncError
        The side doesn't exist or has no readable inventory.
    """
    if text == LOCAL:
        return Side(LOCAL, {LOCAL: _read_local(session).inventory})
    path = Path(text)
    if path.is_dir():
        return Side(text, {text: _read_local(_folder_session(session, path)).inventory})
    if path.is_file():
        from imagesync.diff.files import read_inventory

        return Side(text, {text: read_inventory(path)})
    if path.suffix in _FILES or text.startswith((".", "/", "~")):
        raise UsageError(
            f"{text} isn't there.", hint="Give a lock file, an environment's folder, or an image."
        )
    if "://" in text:
        raise UsageError(
            f"{text} is no address of a scheduler.", hint="Its address begins with tcp:// or tls://."
        )
    from imagesync.diff.image import read_image

    return Side(text, {text: read_image(text, environ=session.context.environ)})


def _read_local(session: Session) -> LocalSide:
    from imagesync.diff.local import local_side

    return local_side(session)


def _folder_session(session: Session, folder: Path) -> Session:
    """Return a session of the environment in *folder*, with its interpreter if there is one."""
    names = ("bin/python", "Scripts/python.exe", "python.exe")
    python = next((folder / name for name in names if (folder / name).is_file()), None)
    return replace(session, python=python, prefix=folder if python is None else None, discovers=False)
