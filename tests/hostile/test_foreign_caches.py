"""A cache folder of another user or from another time: used, or one error that names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import BIN, CommandLine
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.servers import World, layers

NOBODY = 65534
# Root like any other user: what belongs to others is as their permissions say.
PLAIN = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
YEARS = 10 * 365 * 86400
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and util-linux"
)


def run_plainly(cli: CommandLine, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*PLAIN, str(BIN / "imagesync"), *arguments]
    return subprocess.run(
        command, env=dict(cli.environ), cwd=cli.cwd, capture_output=True, text=True, check=False, timeout=120
    )


def store_of(cli: CommandLine) -> Path:
    return Path(cli.environ["IMAGESYNC_CACHE_DIR"])


def give_away(folder: Path, *, readable: bool) -> None:
    """Let another user own a folder."""
    for path in (folder, *folder.rglob("*")):
        mode = (0o755 if path.is_dir() else 0o644) if readable else (0o700 if path.is_dir() else 0o600)
        path.chmod(mode)
        os.chown(path, NOBODY, NOBODY)


@needs_root
def test_cache_of_another_user_is_used_for_an_image_that_is_there(
    world: World, tried: Callable[[str], None]
) -> None:
    cli = world.machine(store=world.pushed, repository="known")
    give_away(store_of(cli), readable=True)
    before = {path: path.stat().st_mtime_ns for path in store_of(cli).rglob("*")}
    done = run_plainly(cli, "build", "--push")
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert layers(done.stdout.strip()) == world.layers
    assert {path: path.stat().st_mtime_ns for path in store_of(cli).rglob("*")} == before
    tried("cache of another user: an image that is there")
    shutil.rmtree(cli.cwd)


@needs_root
@pytest.mark.parametrize("kind", ["warm", "empty", "locked"] if IS_CAMPAIGN else ["empty"])
def test_cache_of_another_user_that_would_be_written_is_one_error(
    world: World, tried: Callable[[str], None], kind: str
) -> None:
    cli = world.machine(store=world.built if kind == "warm" else None)
    store_of(cli).mkdir(exist_ok=True)
    give_away(store_of(cli), readable=kind != "locked")
    done = run_plainly(cli, "build", "--push")
    assert done.returncode == 1, done
    assert done.stderr.count("error: ") == 1
    assert str(store_of(cli)) in done.stderr
    assert "Traceback" not in done.stderr
    assert "IMAGESYNC_CACHE_DIR" in done.stderr
    tried("cache of another user: nothing may be written")
    shutil.rmtree(cli.cwd)


@pytest.mark.campaign
@pytest.mark.parametrize("seconds", [YEARS, -YEARS])
def test_files_from_another_time_are_used(world: World, tried: Callable[[str], None], seconds: int) -> None:
    cli = world.machine(store=world.built)
    for path in (store_of(cli), *store_of(cli).rglob("*")):
        os.utime(path, (time.time() + seconds,) * 2, follow_symlinks=False)
    assert layers(cli("build", "--push").reference) == world.layers
    assert cli.run("cache", "info").returncode == 0
    assert cli.run("cache", "prune", "--older-than", "1").returncode == 0
    assert layers(cli("build", "--push").reference) == world.layers
    tried("clock: files from another time")
    shutil.rmtree(cli.cwd)


@pytest.mark.campaign
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime")
def test_clock_that_goes_wrong_and_right_again(world: World, tried: Callable[[str], None]) -> None:
    # To a clock that is late, what was written before is from the future. (One that is fast lets sleep fail:
    # libfaketime and clock_nanosleep.)
    cli = world.machine(store=world.built)
    wrong = cli.with_environ(LD_PRELOAD=FAKETIME, FAKETIME="-3000d", FAKETIME_DONT_FAKE_MONOTONIC="1")
    for each in (wrong, cli, wrong):
        done = each.run("build", "--push", timeout=120)
        assert done.returncode == 0, done
        assert layers(done.reference) == world.layers
        tried("clock: wrong by eight years, and right again")
    shutil.rmtree(cli.cwd)
