"""The campaign of hostile inputs: what `make test` tries of it, many times over, with other inputs each time.

Most of it waits for engines, servers and time-outs, so it runs in parts beside each other. It ends after 30
minutes, whatever it is doing; a failure prints the input and the seed that repeats it. Arguments are passed
to pytest.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

from pytest_parts import WORK, Parts

FOLDER = Path("tests/hostile")
ENGINES = ("test_engines.py", "test_engine_answers.py")
CLUSTERS = ("test_clusters.py", "test_killed_builds.py")
COMMANDS = (
    "test_fault_proxies.py",
    "test_machines.py",
    "test_foreign_caches.py",
    "test_output.py",
    "test_full_disk.py",
)
PARTS = {
    "engines": [str(FOLDER / name) for name in ENGINES],
    "clusters": [str(FOLDER / name) for name in CLUSTERS],
    "commands": [str(FOLDER / name) for name in COMMANDS],
    "inputs": [str(FOLDER), *(f"--ignore={FOLDER / name}" for name in (*ENGINES, *CLUSTERS, *COMMANDS))],
}
LONGEST = 29.5 * 60  # seconds until what still runs is interrupted


def figures(part: str) -> Path:
    """Return the file with what a part tried."""
    return WORK / f"hostile-{part}.json"


def report(parts: Parts) -> None:
    """Print what failed, how often each kind was tried, and what there was no time for."""
    print(*parts.summary(), sep="\n")
    tried: Counter[str] = Counter()
    left_out: list[str] = []
    for path in map(figures, PARTS):
        if path.exists():
            found = json.loads(path.read_text())
            tried.update(found["tried"])
            left_out += found["left_out"]
    print("\nhostile inputs: kind, tried")
    for kind, number in sorted(tried.items()):
        print(f"{number:7} {kind}")
    print(f"{sum(tried.values()):7} in all")
    print(f"{len(left_out):7} tests left out for lack of time", *sorted(set(left_out)), sep="\n        ")


def main() -> int:
    """Run all parts, and return the first failure."""
    parts = Parts("hostile", PARTS)
    for part in PARTS:
        figures(part).unlink(missing_ok=True)

    def run(part: str) -> None:
        environ = {"IMAGESYNC_HOSTILE": "campaign", "IMAGESYNC_HOSTILE_FIGURES": str(figures(part))}
        parts.run(part, environ=environ)

    with parts.threads() as threads:
        if wait([threads.submit(run, part) for part in PARTS], LONGEST).not_done:
            print(f"After {LONGEST / 60:g} minutes what still runs is interrupted.", flush=True)
    report(parts)
    return parts.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
