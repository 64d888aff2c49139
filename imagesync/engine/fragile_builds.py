"""Builds on Docker Engine before 23, whose BuildKit may take the whole engine down.

It panics (``failed to get edge``, https://github.com/moby/moby/issues/42414) where builds that share steps
run at once and one of them is cancelled. So one build runs at a time on a host, and a cancelled one finishes
its step.
"""

from __future__ import annotations

import hashlib
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from imagesync.engine.client import is_podman
from imagesync.errors import BuildError, EngineError

if TYPE_CHECKING:
    import docker

    from imagesync.core.progress import Progress
    from imagesync.engine.build_steps import Steps

_FIXED = "1.42"
"""The API of Docker 23."""
_LOST_LAYER_ERROR = re.compile(
    r"failed to prepare .*/(?:committed|\.tmp-committed\d+): no such file or directory"
)
MEND_CACHE = "`docker builder prune` mends the cache."
LOST_LAYER = f"The engine's build cache has lost a layer: building without the cache. {MEND_CACHE}"
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_PING_SECONDS = 10
_CANCELLING = "Cancelling when this step has ended; once more to cancel at once"


def is_fragile(api: docker.APIClient) -> bool:
    """Return True if the engine is Docker's before 23; Podman has the same version of the API."""
    from docker.utils import version_lt

    if not version_lt(api.api_version, _FIXED):
        return False
    return not is_podman(api.version())


@contextmanager
def one_at_a_time(engine: str, *, progress: Progress) -> Iterator[None]:
    """Wait until no other build of imagesync runs in an engine of this host, and keep others waiting.

    Parameters
    ----------
    engine
        The engine's URL.
    progress
        Shows that it waits.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(engine.encode()).hexdigest()[:16]
    # Not in a cache folder: the engine is that of all users of the host.
    path = Path(tempfile.gettempdir(), f"imagesync-build-{name}.lock")
    lock = FileLock(path, mode=0o666, thread_local=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.line("Waiting for another build: Docker before 23 may end when several are cancelled")
            lock.acquire()
    except OSError:
        yield  # another user's file, which this user may not open
        return
    try:
        yield
    finally:
        # Who waits for the lock notices that its file is gone, and makes another.
        with suppress(OSError):  # another user's
            path.unlink()
        lock.release()


@contextmanager
def deferred_interrupts(steps: Steps, *, progress: Progress) -> Iterator[Callable[[], None]]:
    """Defer SIGINT, SIGTERM and SIGHUP until a step of the build ends; a second signal isn't deferred.

    Yields
    ------
    Callable
        To be called after each message of the engine; it interrupts the build at the end of a step.
    """
    pending: list[Callable[[], Any]] = []
    done_before = 0
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal done_before

        def interrupt() -> None:
            handler = before[number]
            if callable(handler):
                handler(number, frame)
            else:  # the system's own, which ends the process
                signal.signal(number, handler)
                signal.raise_signal(number)

        if pending or not steps.running:
            interrupt()
        pending.append(interrupt)
        done_before = steps.done
        # In a thread, because the signal may have come while this one prints, under a lock.
        threading.Thread(target=progress.line, args=(_CANCELLING,), daemon=True).start()

    def check() -> None:
        if pending and (steps.done > done_before or not steps.running):
            pending[0]()

    # Python delivers signals to the main thread alone.
    if threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            # What is ignored stays ignored, as under nohup; None is a handler that isn't Python's.
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handle)
    try:
        yield check
        if pending:
            pending[0]()
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


def has_lost_layer(error: BuildError) -> bool:
    """Return True if a build failed because the engine's build cache names a layer that is gone.

    Docker does so at times after it was restarted and images were removed; the same build then fails again
    and again (https://github.com/moby/buildkit/issues/5469). The one record can't be pruned: 20.10 names the
    record that it was about to make, and not the one whose layer it misses.

    >>> has_lost_layer(BuildError("failed to prepare 7j3f: open /x/committed: no such file or directory"))
    True
    >>> has_lost_layer(BuildError("failed to prepare 9a: open x/.tmp-committed29: no such file or directory"))
    True
    >>> has_lost_layer(BuildError("failed to compute cache key: no such file or directory"))
    False
    """
    return _LOST_LAYER_ERROR.search(error.message) is not None


def explain_end(api: docker.APIClient, *, fragile: bool) -> EngineError | None:
    """Return the error for an engine that went away during a build; ``None`` if it is there, or hangs."""
    import docker.errors
    import requests

    try:
        api.get(f"{api.base_url}/_ping", timeout=_PING_SECONDS).close()
    except requests.ReadTimeout:
        return None  # it hangs
    except (requests.RequestException, docker.errors.DockerException, OSError):
        reason = (
            " Docker before 23 may end when builds are cancelled (moby#42414); a newer one doesn't."
            if fragile
            else ""
        )
        return EngineError(
            f"The container engine went away during the build.{reason}",
            hint="Start it again, such as `sudo systemctl start docker`, and build again: images and finished"
            " steps are kept. Its log says why: journalctl -u docker",
        )
    return None
