"""A Docker Swarm of this machine alone; one at a time, because an engine can be in one swarm only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from filelock import FileLock


def swarm_lock() -> FileLock:
    """Return what whoever makes a swarm holds, or needs to see none."""
    return FileLock(Path(tempfile.gettempdir()) / "imagesync-tests-swarm.lock", timeout=300)


@contextmanager
def single_swarm(engine: docker.DockerClient) -> Iterator[None]:
    """Make a swarm, and leave it afterwards, with all that runs in it; whoever else wants one waits."""
    with swarm_lock():
        engine.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1")
        try:
            yield
        finally:
            engine.swarm.leave(force=True)
