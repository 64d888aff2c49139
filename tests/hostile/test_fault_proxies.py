"""A fault at any request of a build, a hit or a push: it is made good, or an error says what failed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.commands import CommandLine
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.servers import World, layers
from tests.integration.registry_proxy import Fault

LOGIN_PAGE: Final = b"<!DOCTYPE html><title>Log in</title>"
FAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "cut before the answer": {"cut_upload": 0},
    "cut in the answer": {"cut_download": 9},
    "busy": {"status": 503},
    "busy for ever": {"status": 503, "times": 1000},
    "too many requests": {"status": 429, "headers": {"Retry-After": "0"}},
    "a page to log in": {"status": 200, "headers": {"Content-Type": "text/html"}, "content": LOGIN_PAGE},
    "an empty answer": {"status": 200},
    "other bytes": {"corrupt": True},
    "twice the answer": {"repeat": True},
    "another digest": {"replace": {"Docker-Content-Digest": "sha256:" + "0" * 64}},
    "an odd location": {"replace": {"Location": "http://[::1"}},
    "an odd redirect": {"status": 302, "headers": {"Location": "http://[::1"}},
    "a redirect to itself": {"status": 307, "headers": {"Location": "/"}},
}
# Each takes as long as a client waits.
SLOW_FAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "no answer": {"stall": True},
    "a byte now and then": {"slow": True},
}
JOBS: Final = (pytest.param("cold build", marks=pytest.mark.campaign), "push", "hit")
BUDGET: Final = 90.0  # seconds for the trials of a job in a campaign
SECONDS: Final = 60.0  # for a command with a fault, on a busy machine


def prepared(world: World, job: str) -> CommandLine:
    """Return the command line for a job that nobody has done before."""
    if job == "hit":
        return world.machine(store=world.pushed, repository="known")
    return world.machine(store=world.built if job == "push" else None)


def requests(world: World, job: str) -> dict[str, int]:
    """Return how many requests a job sends to each server where nothing fails."""
    cli = prepared(world, job)
    world.forget()
    finished = cli("build", "--push")
    counted = {server: len(proxy.requests) for server, proxy in world.proxies.items()}
    assert layers(finished.reference) == world.layers
    shutil.rmtree(cli.cwd)
    return counted


def attempt(world: World, job: str, server: str, number: int, fault: Fault) -> None:
    """Run a job with a fault at one request of it, and once more without."""
    cli = prepared(world, job)
    world.forget()
    world.proxies[server].fail(replace(fault, skip=number))
    began = time.monotonic()
    # Without a fault the servers have the time that a busy machine takes.
    finished = cli.with_environ(IMAGESYNC_TIMEOUT="2").run("build", "--push", timeout=300)
    seconds = time.monotonic() - began
    world.forget()
    print(job, server, number, fault, finished, f"{seconds:.1f} s")  # for whoever reads of a failure
    assert "Traceback" not in finished.stderr
    assert finished.returncode in (0, 1)
    assert seconds < (300 if fault.stall or fault.slow else SECONDS)
    if finished.returncode == 0:
        assert layers(finished.reference) == world.layers
    else:
        assert finished.stdout == ""
        assert "error: " in finished.stderr
    # Whatever was half done is no hindrance.
    again = cli.run("build", "--push")
    assert again.returncode == 0, again
    assert layers(again.reference) == world.layers
    shutil.rmtree(cli.cwd)


@pytest.mark.parametrize("job", JOBS)
def test_fault_at_a_request_is_made_good_or_named(
    world: World, tried: Callable[[str], None], job: str
) -> None:
    chance = random.Random(None if IS_CAMPAIGN else job)
    counted = requests(world, job)
    places = [(server, number) for server, many in counted.items() for number in range(many)]
    planned = [(*place, fault) for place in places for fault in FAULTS]
    chance.shuffle(planned)
    slow = [(*place, fault) for place in places for fault in SLOW_FAULTS]
    # As many in a campaign as there is time for.
    planned = [*chance.sample(slow, 2), *planned] if IS_CAMPAIGN else planned[:1]
    end = time.monotonic() + BUDGET
    for server, number, name in planned:
        attempt(world, job, server, number, Fault(".*", ".*", **{**FAULTS, **SLOW_FAULTS}[name]))
        tried(f"fault proxy, {job}: {name}")
        if time.monotonic() > end:
            break


@pytest.mark.parametrize("server", [pytest.param("index", marks=pytest.mark.campaign), "registry"])
def test_setting_says_how_long_a_server_may_be_silent(world: World, server: str) -> None:
    cli = prepared(world, "push" if server == "registry" else "cold build")
    world.forget()
    world.proxies[server].fail(Fault(".*", ".*", stall=True))
    began = time.monotonic()
    # pip's own timeout gives way.
    finished = cli.with_environ(IMAGESYNC_TIMEOUT="1", PIP_TIMEOUT="100", UV_HTTP_TIMEOUT="100").run(
        "build", "--push", timeout=90
    )
    world.forget()
    assert finished.returncode in (0, 1), finished
    assert time.monotonic() - began < SECONDS
    shutil.rmtree(cli.cwd)
