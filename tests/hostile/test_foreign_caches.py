"""A cache folder of another user or from another time: used, or one error that names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.registry.oci_layout import ImageLayout
from tests.commands import BIN, CommandLine
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.servers import World, layers

NOBODY = 65534
# Root like any other user: what belongs to others is as their permissions say.
PLAIN = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--")
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


def entries(folder: Path) -> dict[Path, int]:
    """Return what is in a folder, with its times."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@needs_root
def test_cache_of_another_user_is_used_for_an_image_that_is_there(
    world: World, tried: Callable[[str], None]
) -> None:
    cli = world.machine(store=world.pushed, repository="known")
    give_away(store_of(cli), readable=True)
    before = entries(store_of(cli))
    done = run_plainly(cli, "build", "--push")
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert layers(done.stdout.strip()) == world.layers
    assert entries(store_of(cli)) == before
    tried("cache of another user: an image that is there")
    shutil.rmtree(cli.cwd)


@needs_root
@pytest.mark.parametrize("kind", ["warm", "empty"] if IS_CAMPAIGN else ["warm"])
def test_build_from_a_cache_of_another_user_goes_where_it_is_sent(
    world: World, tried: Callable[[str], None], kind: str
) -> None:
    cli = world.machine(store=world.built if kind == "warm" else None)
    store_of(cli).mkdir(exist_ok=True)
    give_away(store_of(cli), readable=True)
    before = entries(store_of(cli))
    refused = run_plainly(cli, "build")
    assert (refused.returncode, refused.stdout) == (1, ""), refused
    assert refused.stderr.count("error: ") == 1
    assert f"The cache folder {store_of(cli)} can't be written to" in refused.stderr
    assert "--output" in refused.stderr
    world.forget()
    done = run_plainly(cli, "build", "--push", "--output", f"oci:{cli.cwd / 'layout'}:mine")
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert layers(done.stdout.strip()) == world.layers
    image = ImageLayout(cli.cwd / "layout").whole_image("mine")
    assert image is not None
    assert tuple(layer.digest for layer in image.manifest.layers) == world.layers
    assert entries(store_of(cli)) == before
    if kind == "warm":
        assert not [path for _, path in world.index.requests if path.endswith(".whl")]
    else:
        assert "isn't kept" in done.stderr
    tried(f"cache of another user: a build from one that is {kind}")
    shutil.rmtree(cli.cwd)


@needs_root
def test_cache_that_another_user_has_locked_is_one_error(world: World, tried: Callable[[str], None]) -> None:
    cli = world.machine()
    store_of(cli).mkdir()
    give_away(store_of(cli), readable=False)
    done = run_plainly(cli, "build", "--push")
    assert done.returncode == 1, done
    assert done.stderr.count("error: ") == 1
    assert str(store_of(cli)) in done.stderr
    assert "Traceback" not in done.stderr
    assert "IMAGESYNC_CACHE_DIR" in done.stderr
    tried("cache of another user: it can't be read")
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


# In front of the C library: everything but the time of day is as it is.
OTHER_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) { const char *days = getenv("DAYS"); return days ? atol(days) * 86400 : 0; }
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.mark.campaign
@pytest.mark.parametrize("days", [3000, -3000])
def test_clock_that_goes_wrong_and_right_again(
    world: World, tried: Callable[[str], None], tmp_path: Path, days: int
) -> None:
    (tmp_path / "clock.c").write_text(OTHER_CLOCK)
    library = tmp_path / "clock.so"
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "clock.c"), "-ldl"]
    subprocess.run(command, check=True)
    cli = world.machine(store=world.built)
    wrong = cli.with_environ(LD_PRELOAD=library, DAYS=str(days))
    told = [sys.executable, "-c", "import time; print(time.time())"]
    now = float(subprocess.run(told, env=dict(wrong.environ), capture_output=True, check=True).stdout)
    assert abs(now - time.time() - days * 86400) < 60
    # To the one that is late, what was written before is from the future.
    for each in (wrong, cli, wrong):
        done = each.run("build", "--push", timeout=120)
        assert done.returncode == 0, done
        assert layers(done.reference) == world.layers
        tried(f"clock: eight years {'fast' if days > 0 else 'late'}, and right again")
    shutil.rmtree(cli.cwd)
