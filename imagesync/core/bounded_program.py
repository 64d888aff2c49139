"""Run a program that asks indexes itself, within bounds of time, memory and speed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from imagesync.core.limits import RESOLUTION_SECONDS, TooSlow, limit_memory
from imagesync.core.received_bytes import TransferWatch

_EVERY = 5.0
"""Seconds between two looks at what a program has received."""


def run_bounded(
    command: Sequence[str], *, env: Mapping[str, str], timeout: float | None
) -> subprocess.CompletedProcess[str]:
    """Run a program that asks indexes itself, and return its output.

    Parameters
    ----------
    timeout
        In seconds, at most and by default :data:`~imagesync.core.limits.RESOLUTION_SECONDS`.

    Raises
    ------
    subprocess.TimeoutExpired
        It took longer, and was ended.
    imagesync.core.limits.TooSlow
        An index sent a byte now and then, and the program was ended.
    """
    with subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            with bounded_transfers(process):
                stdout, stderr = process.communicate(
                    timeout=min(timeout or RESOLUTION_SECONDS, RESOLUTION_SECONDS)
                )
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@contextmanager
def bounded_transfers(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Bound the memory of a program that asks indexes, and end it if they are too slow.

    The block waits for its end.

    Raises
    ------
    imagesync.core.limits.TooSlow
        They were.
    """
    limit_memory(process.pid)
    has_ended, errors = threading.Event(), list[TooSlow]()

    def watch() -> None:
        transfers = TransferWatch(process.pid)
        while not has_ended.wait(_EVERY):
            try:
                transfers.check()
            except TooSlow as error:  # noqa: PERF203  each look on its own
                errors.append(error)
                process.kill()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()
    for error in errors:
        raise error
