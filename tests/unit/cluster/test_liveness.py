"""A scheduler or a worker that is stopped without ending is given up, and named."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Client

from imagesync.cluster.agreement import liveness
from imagesync.cluster.agreement.members import query_members
from imagesync.errors import ClusterError
from tests.host_platform import NEEDS_OWN_SYSTEM

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="not on Windows"), NEEDS_OWN_SYSTEM]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Give the process ID of a scheduler with one worker, and its file of how to connect."""
    file = tmp_path / "scheduler.json"
    options = ("--scheduler-file", str(file), "--no-dashboard")
    with ExitStack() as stack:
        started = []
        for command in (("scheduler", "--port", "0", "--host", "127.0.0.1"), ("worker", "--no-nanny")):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, *options], stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process.pid)
        yield started[0], str(file)


def test_stopped_worker_and_scheduler_are_given_up(
    scheduler: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, file = scheduler
    with Client(scheduler_file=file, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        ((address, worker),) = client.run(os.getpid).items()
        assert len(client.sync(query_members, client)[1]) == 1
        monkeypatch.setattr(liveness, "EVERY", 0.5)
        monkeypatch.setattr(liveness, "PATIENCE", 3.0)
        for stopped, part in ((worker, f"worker {address}"), (pid, "scheduler")):
            os.kill(stopped, signal.SIGSTOP)
            try:
                with pytest.raises(ClusterError, match=f"The {part} hasn't answered for 3 s"):
                    client.sync(query_members, client)
            finally:
                os.kill(stopped, signal.SIGCONT)


def test_worker_that_the_work_has_given_up_is_named(
    scheduler: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_after(silence: float) -> None:
        await asyncio.sleep(silence)
        raise OSError("Timed out trying to connect")

    with Client(scheduler_file=scheduler[1], timeout=60, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        ((address, worker),) = client.run(os.getpid).items()
        monkeypatch.setattr(liveness, "PATIENCE", 8.0)
        with pytest.raises(OSError, match="Timed out"):
            client.sync(liveness.while_answering, client, fail_after(0))
        os.kill(worker, signal.SIGSTOP)
        try:
            with pytest.raises(ClusterError, match=rf"The worker {address} hasn't answered for \d s"):
                client.sync(liveness.while_answering, client, fail_after(6))
        finally:
            os.kill(worker, signal.SIGCONT)
