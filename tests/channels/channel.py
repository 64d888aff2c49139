"""The test channel: made once a machine, and whenever its content changes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock
from rattler.index import index_fs

from tests.channels.archive import CondaPackage, write_package
from tests.channels.content import packages

SUBDIRS = ("noarch", "linux-64", "linux-aarch64", "osx-arm64", "win-64")
_DAY = 24 * 3600
_WORK = Path(__file__).parents[2] / ".work" / "channels"


def ensure_channel(work: Path = _WORK) -> Path:
    """Return the folder of the test channel, which is made now unless one of the same content is there."""
    folder = work / _key()
    if folder.exists():
        return folder
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / "lock"):
        if not folder.exists():
            staged = Path(tempfile.mkdtemp(dir=work))
            make_channel(staged / "channel", packages(staged / "work"))
            (staged / "channel").rename(folder)
            shutil.rmtree(staged)
            _forget_old(work, folder)
    return folder


def _forget_old(work: Path, current: Path) -> None:
    """Remove channels of other content that are a day old, and what an interrupted set-up left."""
    for path in work.iterdir():
        other = path.is_dir() and path not in (current, work / "packages")
        if other and time.time() - path.stat().st_mtime > _DAY:
            shutil.rmtree(path)


def make_channel(folder: Path, content: Iterable[CondaPackage]) -> Path:
    """Write *content* into a channel in *folder*, index it, and return the folder."""
    for subdir in SUBDIRS:
        (folder / subdir).mkdir(parents=True, exist_ok=True)
    for package in content:
        write_package(package, folder)
    index_channel(folder)
    return folder


def index_channel(folder: Path) -> None:
    """Write the channel's ``repodata.json`` anew, after packages came or went."""
    asyncio.run(index_fs(folder, write_shards=False, force=True))


def _key() -> str:
    """Return a digest of all that the channel is made from: the code here, and the interpreter."""
    digest = hashlib.sha256(f"{sys.version}\0{sys.base_prefix}\0{os.path.realpath(sys.executable)}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name not in ("server.py", "environments.py", "channel.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
