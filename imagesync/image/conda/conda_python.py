"""Choose the Python of a pip environment's image: conda's, if a channel has the local version."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.errors import LockError
from imagesync.plan.conda import with_channels
from imagesync.plan.make_plan import make_plan
from imagesync.store.source import open_source

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.conda.channels import Channels
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment
    from imagesync.settings.model import Settings

_FORMAT = 1
PATIENCE: Final = 2.0
"""Seconds that a channel may take to answer."""
REMEMBERED: Final = 3600.0
"""Seconds for which an answer is cached, no answer included."""


def with_conda_python(
    plan: Plan,
    environment: Environment,
    *,
    settings: Settings,
    environ: Mapping[str, str],
    open_channels: Callable[[tuple[str, ...]], Channels],
    cache: Path,
    progress: Progress,
) -> Plan:
    """Return *plan* with conda's interpreter, if the settings allow both and a channel has it.

    If a channel doesn't answer, the base image's interpreter is used, and the channel is asked in an hour.

    Parameters
    ----------
    plan
        The plan of a pip environment.
    environment
        The scanned environment.
    settings, environ
        Name the channels, and whether the interpreter is chosen.
    open_channels
        Opens channels by their URLs.
    cache
        The folder that answers are kept in.
    progress
        Reports the choice of conda's interpreter.
    """
    if settings.python_source != "auto" or plan.interpreter == "conda":
        return plan
    environment = with_channels(environment, settings.channels, environ=environ)
    decided = make_plan(environment, settings=replace(settings, python_source="conda"))
    (python,) = (package for package in decided.conda if package.name == "python")
    if not _known(python.version, open_channels(decided.channels), cache):
        return plan
    progress.line(
        f'Python {python.version} comes from {decided.channels[0]} (python = "base" for the base\'s)'
    )
    # What was changed of the packages is known of those of *plan*.
    planned = {package.name: package for package in plan.packages if package.name != "python"}
    packages = tuple(planned.get(package.name, package) for package in decided.packages)
    return replace(decided, packages=packages, code=plan.code, findings=plan.findings)


def _known(version: str, channels: Channels, cache: Path) -> bool:
    """Return True if a channel has that Python; a recent answer comes from the cache."""
    path = cache_path(cache, version, *channels.channels)
    known = read_cache(path, key=_FORMAT, max_age=REMEMBERED)
    if known is None:
        known = _has(version, channels)
        write_cache(path, known, key=_FORMAT)
    return bool(known)


def _has(version: str, channels: Channels) -> bool:
    if not all(_answers(url, channels) for url in channels.channels):
        return False
    try:
        pythons = channels.available(["python"]).get("python", ())
    except LockError:
        return False
    return any(python.version == version for python in pythons)


def _answers(url: str, channels: Channels) -> bool:
    """Return True if a channel answers in time, in a thread: timeouts don't cover resolving a name."""
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
