"""Commands that build and push at once, or are killed: store and registry hold nothing but whole images."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagesync.registry.repository import Repository
from imagesync.store.layout import LOCKS, PARTIAL
from tests.commands import CommandLine
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.servers import World, check_blobs, layers

BUDGET = 500.0  # seconds for the kills of a campaign, of which a busy machine takes most
KILLS = 50


def store_of(cli: CommandLine) -> Path:
    return Path(cli.environ["IMAGESYNC_CACHE_DIR"])


def pushed(reference: str) -> bool:
    with Repository(reference) as repository:
        return repository.resolve("linux/amd64") is not None


@pytest.mark.campaign
def test_build_that_is_killed_leaves_nothing_half_done(world: World, tried: Callable[[str], None]) -> None:
    """Builds that fetch everything, and such that have it and push."""
    stores = (None, world.built)
    longest = []
    for store in stores:
        began = time.monotonic()
        reference = world.machine(store=store)("build", "--push").reference
        longest.append(time.monotonic() - began)
    tag = reference.rpartition(":")[2]
    end = time.monotonic() + BUDGET

    def kill(number: int) -> None:
        if time.monotonic() > end:
            return
        cli = world.machine(store=stores[number % 2])
        process = cli.start("build", "--push")
        time.sleep(random.uniform(0.2, longest[number % 2]))  # any moment will do
        process.kill()
        process.communicate()
        check_blobs(store_of(cli))
        name = f"{cli.environ['IMAGESYNC_REPOSITORY']}:{tag}"
        if pushed(name):
            assert layers(name) == world.layers
        again = cli("build", "--push")
        assert layers(again.reference) == world.layers
        check_blobs(store_of(cli))
        for folder in (PARTIAL, LOCKS):
            assert list((store_of(cli) / folder).iterdir()) == []
        tried("kill -9 in a build with a push: the store and the registry afterwards")
        shutil.rmtree(cli.cwd)

    # Beside each other: much of a trial is waiting.
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(kill, range(KILLS)))


@pytest.mark.parametrize("seed", range(2 if IS_CAMPAIGN else 1))
def test_processes_that_build_at_once_get_one_image(
    world: World, tried: Callable[[str], None], seed: int
) -> None:
    number = 16 if IS_CAMPAIGN else 3
    cli = world.machine()
    processes = [cli.start("build", "--push") for _ in range(number)]
    time.sleep(random.Random(seed).uniform(0.5, 2.0) * number / 2)  # any moment will do
    processes[0].kill()
    ended = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    # It may have been done before.
    assert ended[0][2] in (-signal.SIGKILL, 0)
    assert [code for _, _, code in ended[1:]] == [0] * (number - 1), [each for each in ended if each[2]]
    (reference,) = {stdout.strip() for stdout, _, _ in ended[1:]}
    assert layers(reference) == world.layers
    check_blobs(store_of(cli))
    assert cli("build", "--push").reference == reference
    for folder in (PARTIAL, LOCKS):
        assert list((store_of(cli) / folder).iterdir()) == []
    tried(f"{number} builds at once in one store, one of them killed")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2))
def test_tag_that_two_machines_push_at_once_names_one_whole_image(
    world: World, tried: Callable[[str], None], seed: int
) -> None:
    name = f"{world.registry.host}/shared-{seed}:latest"
    one, other = world.machine(store=world.built), world.machine(store=world.built)
    other = other.with_environ(IMAGESYNC_IGNORE="birch")
    own = [
        layers(cli("build", "--push", "--tag", f"{name}-{number}").reference)
        for number, cli in enumerate((one, other))
    ]
    assert own[0] != own[1]
    started = [cli.start("build", "--push", "--tag", name) for cli in (one, other)]
    for process in started:
        _, stderr = process.communicate(timeout=120)
        # Who finds another image in its place says so.
        assert process.returncode == 0 or "isn't what was pushed" in stderr, stderr
    assert layers(name) in own
    # Who pushes last has the tag, also if somebody has overwritten it since.
    for cli, expected in ((one, own[0]), (other, own[1]), (one, own[0])):
        cli("build", "--push", "--tag", name)
        assert layers(name) == expected
    tried("one tag, pushed from two machines")
    for cli in (one, other):
        shutil.rmtree(cli.cwd)
