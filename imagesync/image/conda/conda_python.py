"""Choose the Python of a pip environment's image: conda's, if a channel has the local version."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import LockError
from imagesync.plan.conda import with_channels

if TYPE_CHECKING:
    from imagesync.lock.conda.channels import Channels
    from imagesync.scan.environment import Environment
    from imagesync.settings.model import Settings

_FORMAT = 2
PATIENCE: Final = 2.0
"""Seconds that a channel may take to answer."""
REMEMBERED: Final = 7 * 24 * 3600.0
"""Seconds for which the answer of channels is remembered."""
SILENCE_REMEMBERED: Final = 3600.0
"""Seconds for which a channel that didn't answer isn't asked again."""


class ChosenPython(NamedTuple):
    """The origin of the image's Python.

    Parameters
    ----------
    source
        The base image, or a conda channel.
    reason
        Why it is the base image although no channel refused; empty otherwise.
    """

    source: Literal["base", "conda"]
    reason: str = ""


def choose_python(
    environment: Environment,
    *,
    settings: Settings,
    environ: Mapping[str, str],
    open_channels: Callable[[tuple[str, ...]], Channels],
    cache: Path,
) -> ChosenPython:
    """Return the origin of the image's Python for *environment*, whose own Python isn't conda's.

    Channels are asked only if no answer is cached. If one doesn't answer, the origin is the base image, and
    that is the reason.

    Parameters
    ----------
    environment
        The scanned environment.
    settings, environ
        Name the channels.
    open_channels
        Opens channels by their URLs.
    cache
        The folder that answers are kept in.
    """
    environment = with_channels(environment, settings.channels, environ=environ)
    urls, version = environment.channels, environment.python.version.rstrip("+")
    path = cache_path(cache, version, settings.platform.subdir, *urls)
    answer = _remembered(path)
    if answer is None:
        answer = _ask(version, open_channels(urls))
        write_cache(path, answer, key=_FORMAT)
    if isinstance(answer, str):
        return ChosenPython("base", f"{answer} didn't answer when asked for Python {version}")
    return ChosenPython("conda" if answer else "base")


def _remembered(path: Path) -> bool | str | None:
    """Return the last answer, which is kept at *path*; ``None`` if the channels have to be asked."""
    answer: bool | str | None = read_cache(path, key=_FORMAT, max_age=REMEMBERED)
    if isinstance(answer, str):
        answer = read_cache(path, key=_FORMAT, max_age=SILENCE_REMEMBERED)
    return answer


def _ask(version: str, channels: Channels) -> bool | str:
    """Return True if a channel has that Python, or the URL of a channel that doesn't answer."""
    for url in channels.channels:
        if not _answers(url, channels):
            return url
    try:
        pythons = channels.available(["python"]).get("python", ())
    except LockError:
        return channels.channels[0]
    return any(python.version == version for python in pythons)


def _answers(url: str, channels: Channels) -> bool:
    """Return True if a channel answers in time, in a thread: timeouts don't cover resolving a name."""
    from imagesync.store.source import open_source

    answered = threading.Event()

    def ask() -> None:
        try:
            with open_source(f"{url}/noarch/repodata.json", access=channels.archives().access):
                answered.set()
        except (OSError, LockError):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()
