"""The campaign of hostile inputs: what `make test` tries of it, many times over, with other inputs each time.

Most of it waits for engines, servers and time-outs, so it runs in parts beside each other. It ends after 30
minutes, whatever it is doing; a failure prints the input and the seed that repeats it. Arguments are passed
to pytest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

WORK = Path(".work")
FOLDER = Path("tests/hostile")
ENGINES = ("test_engines.py", "test_engine_answers.py")
CLUSTERS = ("test_clusters.py",)
COMMANDS = ("test_fault_proxies.py", "test_machines.py", "test_foreign_caches.py")
PARTS = {
    "engines": [str(FOLDER / name) for name in ENGINES],
    "clusters": [str(FOLDER / name) for name in CLUSTERS],
    "commands": [str(FOLDER / name) for name in COMMANDS],
    "inputs": [str(FOLDER), *(f"--ignore={FOLDER / name}" for name in (*ENGINES, *CLUSTERS, *COMMANDS))],
}
LONGEST = 29.5 * 60  # seconds until what still runs is interrupted
NO_TESTS = 5  # pytest's exit code where its arguments select none


def start(part: str) -> subprocess.Popen[bytes]:
    """Start a part, with its output in a log and its figures in a file."""
    environ = {**os.environ, "IMAGESYNC_HOSTILE": "campaign", "IMAGESYNC_HOSTILE_FIGURES": figures(part)}
    command = [sys.executable, "-m", "pytest", *PARTS[part], *sys.argv[1:]]
    with log(part).open("wb") as file:
        return subprocess.Popen(
            command,
            env=environ,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C interrupts it once: by us
        )


def log(part: str) -> Path:
    """Return the file with a part's output."""
    return WORK / f"hostile-{part}.log"


def figures(part: str) -> str:
    """Return the path of the file with what a part tried."""
    return str(WORK / f"hostile-{part}.json")


def wait(running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait for all parts, and interrupt those that take too long."""
    end = time.monotonic() + LONGEST
    try:
        for process in running.values():
            process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(f"After {LONGEST / 60:g} minutes what still runs is interrupted.", flush=True)
    finally:
        for process in running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in running.values():
            process.wait()


def report() -> None:
    """Print what failed, how often each kind was tried, and what there was no time for."""
    tried: Counter[str] = Counter()
    left_out: list[str] = []
    for part in PARTS:
        lines = log(part).read_text("utf-8", "replace").splitlines()
        print(f"{part}: {lines[-1].strip('= ') if lines else 'no output'} ({log(part)})")
        print(*(f"  {line}" for line in lines if line.startswith(("FAILED ", "ERROR "))), sep="\n", end="")
        if Path(figures(part)).exists():
            found = json.loads(Path(figures(part)).read_text())
            tried.update(found["tried"])
            left_out += found["left_out"]
    print("\nhostile inputs: kind, tried")
    for kind, number in sorted(tried.items()):
        print(f"{number:7} {kind}")
    print(f"{sum(tried.values()):7} in all")
    print(f"{len(left_out):7} tests left out for lack of time", *sorted(set(left_out)), sep="\n        ")


def end(number: int, _frame: object) -> None:
    """End by an exception."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run all parts, and return the first failure."""
    WORK.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    for part in PARTS:
        Path(figures(part)).unlink(missing_ok=True)
    running = {part: start(part) for part in PARTS}
    wait(running)
    report()
    failed = [process.returncode for process in running.values() if process.returncode not in (0, NO_TESTS)]
    return failed[0] if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
