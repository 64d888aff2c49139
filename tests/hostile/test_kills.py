"""Processes that are killed at any moment: the store stays sound, and nobody waits for them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.store.layout import DERIVED, LOCKS, PARTIAL
from imagesync.store.store import Store
from tests.commands import CommandLine
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.servers import check_blobs

# What a build does with the store, again and again.
WRITE = """
import os, sys
from pathlib import Path
from imagesync.store.store import Store
store = Store(Path(sys.argv[1]))
for number in range(10_000):
    with store.lock(f"build-{number % 3}"):
        content = [os.urandom(1000) * 50, str(number).encode()]
        store.remember(f"key {number % 20}", store.add(iter(content), filename="a"))
        store.recall(f"key {(number + 7) % 20}")
    if number == 0:
        print(flush=True)
"""
# Each place that takes a lock which other processes want.
LOCKS_TAKEN = {
    "store": "from imagesync.store.store import Store; lock = lambda: Store(root).lock('shared')",
    "image layout": "from imagesync.registry.oci_layout import ImageLayout; lock = ImageLayout(root)._locked",
    "build folder": "from imagesync.core.scratch import fixed_folder; lock = lambda: fixed_folder(root, 'a')",
    "engine": "from imagesync.engine.fragile_builds import one_at_a_time\n"
    "from imagesync.core.progress import SilentProgress\n"
    "lock = lambda: one_at_a_time(str(root), progress=SilentProgress())",
}
TAKE = """
import os, sys
from pathlib import Path
root = Path(sys.argv[1])
LOCK
for number in range(20):
    with lock():
        place = Path(root, "inside")
        place.mkdir()
        place.rmdir()
        if sys.argv[2] == "last words" and number == 5:
            os.kill(os.getpid(), 9)
"""


def check(store: Store) -> None:
    """Check that everything in the store is what it says, and that the next run clears the rest."""
    check_blobs(store.root)
    for number in range(20):
        store.recall(f"key {number}")
    store.add([b"next"], filename="a")
    assert list((store.root / PARTIAL).iterdir()) == []
    assert list((store.root / LOCKS).iterdir()) == []
    assert not [path for path in (store.root / DERIVED).iterdir() if path.name.startswith("..")]


@pytest.mark.parametrize("seed", range(50 if IS_CAMPAIGN else 4))
def test_store_is_sound_after_a_kill(store: Store, tried: Callable[[str], None], seed: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, os.fspath(store.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0, 0.3))  # any moment will do
    process.kill()
    _, errors = process.communicate()
    tried("kill -9: the store afterwards")
    assert errors == b""
    check(Store(store.root))


@pytest.mark.parametrize("place", LOCKS_TAKEN if IS_CAMPAIGN else ["store"])
def test_lock_whose_holder_is_killed_passes_to_one_of_the_others(
    store: Store, tried: Callable[[str], None], place: str
) -> None:
    program = TAKE.replace("LOCK", LOCKS_TAKEN[place])
    store.add([b"content"], filename="a")
    number = 16 if IS_CAMPAIGN else 6
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, os.fspath(store.root), "last words" if each == 0 else ""],
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in range(number)
    ]
    killed, *others = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    tried(f"{number} processes, one killed with the lock: {place}")
    # It had emptied the folder that only the lock's holder may make.
    assert killed[1] == -signal.SIGKILL
    assert others == [("", 0)] * (number - 1)


@pytest.mark.parametrize("seed", range(50 if IS_CAMPAIGN else 4))
def test_command_ends_within_two_seconds_at_any_moment(
    cli: CommandLine, tried: Callable[[str], None], seed: int
) -> None:
    prefix = cli.cwd / "env"
    (prefix / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    here = cli.with_environ(DOCKER_HOST="tcp://127.0.0.1:1", IMAGESYNC_PROFILE="none")
    target = ("--target-python", "3.11.2", "--target-glibc", "2.36", "--base", "debian:bookworm-slim")
    process = here.start("lock", "--prefix", prefix, "-o", "pylock.toml", *target)
    time.sleep(random.Random(seed).uniform(0.5, 1.5))  # any moment will do
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    tried("SIGTERM: a command afterwards")
    assert time.monotonic() - began < 2
    # It may have been done, or not have begun: Python itself ends then as the system has it.
    assert process.returncode in (0, 1, 143, -signal.SIGTERM), stderr
    assert "Traceback" not in stderr
    lock = Path(cli.cwd, "pylock.toml")
    assert not lock.exists() or lock.read_text().startswith("lock-version")
