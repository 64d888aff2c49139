"""Run all tests in parts beside each other, and say at the end what each part came to.

Tests that use the container engine wait a lot, so two parts of them run at once, beside those that use none.
Tests that cancel builds come when both have ended: cancelled builds that share steps with others can crash
BuildKit in Docker 20.10 (moby#42414). Arguments are passed to pytest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

WORK = Path(".work")
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
NOTABLE = ("FAILED ", "ERROR ", "SKIPPED ")
NO_TESTS = 5  # pytest's exit code where its arguments select none


class Run:
    """All parts, each a process of pytest with a log in ``.work``."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.codes: dict[str, int] = {}
        self._in_memory = parts_in_memory()
        self._arguments = arguments
        self._running: list[subprocess.Popen[bytes]] = []
        self._is_interrupted = False
        # Hundreds of processes import imagesync: its modules are compiled once.
        self._environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def part(self, part: str) -> None:
        """Run a part to its end."""
        if not self._is_interrupted:
            self.codes[part] = self._pytest(part)

    def interrupt(self) -> None:
        """Interrupt what runs, as Ctrl-C does: it removes what it has made in the engine."""
        self._is_interrupted = True
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def _pytest(self, part: str) -> int:
        command = [sys.executable, "-m", "pytest", *PARTS[part], *self._arguments]
        with ExitStack() as stack:
            if part in self._in_memory:
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="imagesync-", dir=MEMORY, ignore_cleanup_errors=True)
                )
                command.append(f"--basetemp={folder}/tests")
            return self._run(part, command)

    def _run(self, part: str, command: Sequence[str]) -> int:
        with (
            log(part).open("wb", buffering=0) as file,
            subprocess.Popen(
                command,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C interrupts it once: by us
            ) as process,
        ):
            self._running.append(process)
            assert process.stdout is not None
            while output := process.stdout.read1():  # type: ignore[attr-defined]
                file.write(output)
                if part == SHOWN:
                    show(output)
        return process.returncode


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


def log(part: str) -> Path:
    """Return the file with a part's output."""
    return WORK / f"tests-{part}.log"


def show(output: bytes) -> None:
    """Write output of pytest to ours."""
    sys.stdout.buffer.write(output)
    sys.stdout.flush()


def summary(part: str) -> list[str]:
    """Return what a part came to, and what of it failed or didn't run."""
    lines = log(part).read_text("utf-8", "replace").splitlines()
    below = next(
        (number for number, line in enumerate(lines) if " short test summary info " in line), len(lines)
    )
    names = [line for line in lines[below:] if line.startswith(NOTABLE)]
    return [f"{part}: {lines[-1].strip('= ') if lines else 'no output'}", *(f"  {name}" for name in names)]


def exit_code(codes: Sequence[int]) -> int:
    """Return the first failure of pytest; that there are no tests is one where no part has any."""
    failures = [code for code in codes if code not in (0, NO_TESTS)]
    return failures[0] if failures else min(codes)


def end(number: int, _frame: FrameType | None) -> None:
    """End by an exception."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run all parts."""
    WORK.mkdir(exist_ok=True)
    for part in PARTS:
        log(part).unlink(missing_ok=True)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    # All builds start from the base image. It is there before, so that no test takes it for one of its own.
    base = {**os.environ, "IMAGESYNC_BASE": os.environ["IMAGESYNC_TEST_BASE"]}
    subprocess.run(
        [sys.executable, "scripts/base_python.py"], env=base, check=True, stdout=subprocess.DEVNULL
    )
    run = Run(sys.argv[1:])
    with ThreadPoolExecutor(len(PARTS)) as threads:
        try:
            without_engine = threads.submit(run.part, "without-engine")
            list(threads.map(run.part, ("engine", "engine-beside")))
            run.part("engine-alone")
            without_engine.result()
        finally:
            run.interrupt()
    for part in PARTS:
        if part != SHOWN:
            show(f"\n{part}\n".encode() + log(part).read_bytes())
    print("", *(line for part in PARTS for line in summary(part)), sep="\n", flush=True)
    return exit_code(list(run.codes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
