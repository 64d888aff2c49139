"""A cache of resolved build requirements, so that a build after an edit asks no index.

Each build has a new environment; only its versions are cached, for an hour. uv installs their wheels from
its own cache, without a resolution and without a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from imagesync.core.cache_file import cache_path, read_cache, write_cache

if TYPE_CHECKING:
    from imagesync.scan.environment import Interpreter

FRESH = 3600
"""The age in seconds after which requirements are resolved again."""
_FORMAT = 2
_FILES = ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE")


class BuildPins:
    """The versions that build requirements got before.

    Parameters
    ----------
    folder
        Where they are kept.
    indexes
        The indexes that they come from.
    environ
        The variables that uv gets.
    """

    def __init__(
        self, folder: Path, *, python: Interpreter, indexes: str, environ: Mapping[str, str]
    ) -> None:
        self._folder = folder
        variables = sorted((key, value) for key, value in environ.items() if key.startswith("UV_"))
        facts = [python.implementation, python.version, python.platform, indexes, variables]
        facts += _digests(environ)
        # Hashed, because the URLs of indexes may hold passwords.
        self._context = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def recall(self, requirements: Collection[str]) -> str | None:
        """Return the cached pins of *requirements*, one a line; ``None`` if there are none, or old ones."""
        pins = read_cache(self._path(requirements), key=_FORMAT, max_age=FRESH)
        return None if pins is None else str(pins)

    def remember(self, requirements: Collection[str], pins: str) -> None:
        """Cache the *pins* of *requirements*, unless there is a file or URL, whose content may change."""
        if any("@" in line or "/" in line for line in (*requirements, *pins.splitlines())):
            return
        write_cache(self._path(requirements), pins, key=_FORMAT)

    def _path(self, requirements: Collection[str]) -> Path:
        return cache_path(self._folder, self._context, sorted(requirements))


def _digests(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the digests of constraint files, whose content may change."""
    paths = (_path(entry) for name in _FILES for entry in environ.get(name, "").split())
    yield from (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file())


def _path(entry: str) -> Path:
    return Path(url2pathname(urlsplit(entry).path) if entry.startswith("file:") else entry).expanduser()
