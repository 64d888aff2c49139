"""Count the packages that an installer has installed so far, for the progress of a step of the build."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def counted(total: int, installed: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Print a line such as ``[12/162] numpy 2.1.0`` for each package that is installed meanwhile.

    Parameters
    ----------
    total
        The number of packages.
    installed
        Returns the packages that are installed, as their names and versions with dashes, ``numpy-2.1.0``.
    """
    ended = threading.Event()
    seen: set[str] = set()

    def look() -> None:
        for package in sorted(set(installed()) - seen):
            seen.add(package)
            print(f"[{len(seen)}/{total}] {' '.join(package.rsplit('-', 1))}", flush=True)

    def watch() -> None:
        while not ended.wait(1):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    look()
