"""Run all tests in parts beside each other, and say at the end what each part came to.

Tests that use the container engine wait a lot, so two parts of them run at once, beside those that use none.
Tests that cancel builds come when both have ended: cancelled builds that share steps with others can crash
BuildKit in Docker 20.10 (moby#42414). Arguments are passed to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from pytest_parts import Parts, show

PARTS = {
    "engine": ("-m", "engine and not beside and not alone", "tests/integration"),
    "engine-beside": ("-m", "engine and beside and not alone", "tests/integration"),
    "engine-alone": ("-m", "engine and alone", "tests/integration"),
    "without-engine": ("-m", "not engine", "--doctest-modules", "imagesync", "tests"),
}
# Most tests keep less than 1 GB at a time; what a part shares, and folders of failed tests, go at its end.
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = {"without-engine": 8 << 30, "engine": 4 << 30, "engine-beside": 4 << 30}
SHOWN = "engine"  # while it runs; the others' output follows at the end


def parts_in_memory() -> set[str]:
    """Return the parts whose files can be kept in memory at the same time.

    A part makes and removes some hundred thousand of them. An ext4 without a journal looks through all those
    that went in the last minutes for each that comes, which takes most of the time of making an environment.
    """
    parts = set()
    left = free_memory()
    for part, needed in MEMORY_NEEDED.items():
        if left >= needed:
            parts.add(part)
            left -= needed
    return parts


def free_memory() -> int:
    """Return how many bytes of files memory has room for, and programs among them may run."""
    try:
        state = os.statvfs(MEMORY)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    if state.f_flag & os.ST_NOEXEC:
        return 0
    (available,) = (int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    return min(available, state.f_bavail * state.f_frsize)


def main() -> int:
    """Run all parts."""
    parts = Parts("tests", PARTS)
    # All builds start from the base image. It is there before, so that no test takes it for one of its own.
    base = {**os.environ, "IMAGESYNC_BASE": os.environ["IMAGESYNC_TEST_BASE"]}
    subprocess.run(
        [sys.executable, "scripts/base_python.py"], env=base, check=True, stdout=subprocess.DEVNULL
    )
    in_memory = parts_in_memory()

    def run(part: str) -> None:
        with ExitStack() as stack:
            options = []
            if part in in_memory:
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="imagesync-", dir=MEMORY, ignore_cleanup_errors=True)
                )
                options.append(f"--basetemp={folder}/tests")
            parts.run(part, *options, is_shown=part == SHOWN)

    with parts.threads() as threads:
        without_engine = threads.submit(run, "without-engine")
        list(threads.map(run, ("engine", "engine-beside")))
        run("engine-alone")
        without_engine.result()
    for part in PARTS:
        if part != SHOWN:
            show(f"\n{part}\n".encode() + parts.log(part).read_bytes())
    print("", *parts.summary(), sep="\n", flush=True)
    return parts.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
