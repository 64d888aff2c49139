"""What a user names on the command line, as one side of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.errors import UsageError
from imagesync.inventory.comparison import Side

if TYPE_CHECKING:
    from imagesync.cluster.agreement.running import Here
    from imagesync.session import Session

LOCAL: Final = "local"
SCHEMES: Final = ("tcp://", "tls://", "ws://", "wss://", "ucx://")
_FILES = (".json", ".yml", ".yaml", ".lock", ".txt", ".toml")


@dataclass(frozen=True)
class Certificates:
    """The PEM files of a TLS connection to a scheduler; ``None`` for what Dask's own configuration says."""

    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def find_side(text: str, *, session: Session, certificates: Certificates) -> Side:
    """Return the side that *text* names.

    Parameters
    ----------
    text
        ``local`` for the environment of *session*; the address of a scheduler; a file with a lock; a folder
        with an environment; else an image.

    Raises
    ------
    ImagesyncError
        It isn't there, or doesn't say what it holds.
    """
    if text == LOCAL:
        return Side(LOCAL, {LOCAL: _here(session).inventory})
    if text.startswith(SCHEMES):
        return _cluster(text, session=session, certificates=certificates)
    path = Path(text)
    if path.is_dir():
        return Side(text, {text: _here(_of_folder(session, path)).inventory})
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

    return Side(text, {text: read_image(text, environ=session.environ)})


def _here(session: Session) -> Here:
    from imagesync.diff.local import of_session

    return of_session(session)


def _of_folder(session: Session, folder: Path) -> Session:
    """Return a session of the environment in *folder*; its interpreter is asked where it runs here."""
    names = ("bin/python", "Scripts/python.exe", "python.exe")
    python = next((folder / name for name in names if (folder / name).is_file()), None)
    return replace(session, python=python, prefix=folder if python is None else None)


def _cluster(address: str, *, session: Session, certificates: Certificates) -> Side:
    from imagesync.cluster.agreement.connection import connected
    from imagesync.cluster.agreement.running import ask, side_of

    with connected(address, certificates) as client:
        answers = client.sync(ask, client)
    return side_of(answers, name=address, here=_here(session))
