"""The lock of an environment that hasn't changed: what it was made from is the same, so it is read.

A lock follows from the scan, the settings, the base image, and what the indexes answered. Reading it takes
a fraction of what it takes to plan, to look for contradictions, and to put the answers together.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.store.local import file_stamp

if TYPE_CHECKING:
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment
    from imagesync.settings import Settings

_FORMAT = 1
# Then the answers of the indexes are looked at again, which are remembered longer.
_SECONDS = 86_400.0
_FOLDER = "answers"
_PREFIX = "lock-"
# Variables that say what installers may install, and from where.
_VARIABLES = ("PIP_", "UV_", "CONDA_")


class KnownLock(NamedTuple):
    """A lock that was made before.

    Parameters
    ----------
    document
        As documented JSON.
    remarks
        What was said of the plan, a line each.
    files
        The URLs of files of this machine that are in it, each with what tells whether it is still the same.
    """

    document: str
    remarks: Sequence[str]
    files: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, lock: Lock, remarks: Sequence[str]) -> KnownLock:
        """Return *lock* as it is to be remembered."""
        document = json.dumps(lock.to_dict(), indent=2, ensure_ascii=False)
        urls = (p.artifact.url for p in lock.packages if p.artifact.url.startswith("file:"))
        return cls(document, remarks, {url: file_stamp(url) for url in urls})


class UnchangedLock:
    """The lock that was made of the same things, if there is one.

    Parameters
    ----------
    root
        The cache folder.
    environ
        The variables that say where packages come from; their values are hashed, and not kept.
    """

    def __init__(
        self, root: Path, environment: Environment, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        self._folder = root / _FOLDER
        configured = read_pip_configuration(prefix=Path(environment.python.prefix), environ=environ)
        self._made_from = [
            environment,
            [getattr(settings, field.name) for field in fields(settings) if field.compare],
            [getattr(configured, field.name) for field in fields(configured)],
            sorted(item for item in environ.items() if item[0].startswith(_VARIABLES)),
            sorted(_program()),
        ]

    def read(self, base: BaseImage) -> KnownLock | None:
        """Return the lock for an image on *base*, or ``None`` where none was written, or too long ago."""
        try:
            content = json.loads(self._path(base).read_text("utf-8"))
            fresh = content["format"] == _FORMAT and 0 <= time.time() - content["time"] < _SECONDS
            if not fresh or any(file_stamp(url) != stamp for url, stamp in content["files"].items()):
                return None
            return KnownLock(content["document"], content["remarks"], content["files"])
        except (OSError, ValueError, LookupError, TypeError):
            # Half a note is no note.
            return None

    def write(self, base: BaseImage, known: KnownLock) -> None:
        """Remember the lock for the next time; those that are too old go."""
        path = self._path(base)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        content = {"format": _FORMAT, "time": time.time(), **known._asdict()}
        # It is a matter of time alone: a full or read-only cache is no reason to fail.
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for old in path.parent.glob(f"{_PREFIX}*"):
                if time.time() - old.stat().st_mtime > _SECONDS:
                    old.unlink(missing_ok=True)
            try:
                temporary.write_text(json.dumps(content), "utf-8")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def _path(self, base: BaseImage) -> Path:
        made_from = repr([*self._made_from, base])
        digest = hashlib.sha256(made_from.encode(errors="surrogateescape")).hexdigest()
        return self._folder / f"{_PREFIX}{digest}.json"


def stays(lock: Lock, plan: Plan, settings: Settings) -> bool:
    """Return whether *lock* follows from what :class:`UnchangedLock` looks at, and from nothing else.

    Not where code of this machine has a part in it, where a channel was asked, nor where an index lacked
    something: it may have it now.
    """
    asks_channel = bool(settings.channels or settings.add_conda)
    if settings.python_source != "base" and not plan.conda:
        asks_channel = True  # whether it has this Python
    drifted = any(deviation.name != "python" for deviation in lock.deviations)
    return not (asks_channel or lock.vendored or settings.code or drifted)


def _program(folder: Path = Path(__file__).parents[1]) -> Iterator[tuple[str, int, int]]:
    """Yield what tells one version of this program from another, also while it is developed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _program(Path(entry.path))
            elif entry.name.endswith((".py", ".toml")):
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns
