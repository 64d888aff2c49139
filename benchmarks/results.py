"""Results: a JSON line for each run, appended as soon as it is measured; and one document of all figures."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import uv

import imagesync
from benchmarks.measure import Run

FILE = Path(".work/bench/results.jsonl")


@dataclass(frozen=True)
class Result:
    """One measured run.

    Parameters
    ----------
    session
        When the command that measured it was started; the turns of one session are neighbours.
    figure, size, contender, turn
        What was measured, of which environment.
    run
        What it cost.
    """

    session: str
    figure: str
    size: str
    contender: str
    turn: int
    run: Run


class Results:
    """The file of results, open for one session."""

    def __init__(self, file: Path, versions: Mapping[str, str]) -> None:
        self._file = file
        self.session = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._append({"session": self.session, "machine": machine(), "versions": dict(versions)})

    def add(self, figure: str, size: str, contender: str, turn: int, run: Run) -> None:
        """Append a run."""
        record = {"figure": figure, "size": size, "contender": contender, "turn": turn, **run.to_dict()}
        self._append({"session": self.session, **record})

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_results(*files: Path) -> tuple[list[Result], dict[str, dict[str, Any]]]:
    """Return the results, and by session the machine and the versions.

    Of each figure and size only the last session counts, whichever file has it. If two files have the same
    session, the later file replaces it. A missing file has no results.
    """
    sessions: dict[str, dict[str, Any]] = {}
    found: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for file in files:
        read: dict[tuple[str, str, str], list[Result]] = {}
        for record in _records(file):
            if "figure" not in record:
                sessions[record["session"]] = record
                continue
            run = Run(**{field.name: record[field.name] for field in fields(Run)})
            names = ("session", "figure", "size", "contender", "turn")
            result = Result(**{name: record[name] for name in names}, run=run)
            read.setdefault((result.figure, result.size, result.session), []).append(result)
        for (figure, size, session), results in read.items():
            found.setdefault((figure, size), {})[session] = results
    # Sessions are named by when they began.
    return [result for each in found.values() for result in each[max(each)]], sessions


def write_document(file: Path, results: Iterable[Result], sessions: Mapping[str, dict[str, Any]]) -> None:
    """Write the results and their sessions as one JSON document, which :func:`read_results` reads, too."""
    results = list(results)
    used = {result.session for result in results}
    document = {
        "sessions": [record for session, record in sorted(sessions.items()) if session in used],
        "results": [{**vars(result), "run": result.run.to_dict()} for result in results],
    }
    file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _records(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    text = file.read_text("utf-8")
    if file.suffix == ".json":
        document = json.loads(text)
        yield from document["sessions"]
        yield from ({**result, **result["run"]} for result in document["results"])
        return
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # of a run that was ended while it wrote
            yield json.loads(line)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.machine()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": f"{load:.2f}",
    }


def versions() -> dict[str, str]:
    """Return the versions of what is compared, as far as it is installed."""
    found = {"imagesync": imagesync.__version__}
    commands = {
        "Docker Engine": ["docker", "version", "--format", "{{.Server.Version}}"],
        "Podman": ["podman", "version", "--format", "{{.Client.Version}}"],
        "uv": [uv.find_uv_bin(), "--version"],
    }
    for name, command in commands.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        found[name] = done.stdout.strip().removeprefix("uv ").split(" ")[0]
    requirements = (Path(__file__).parent / "requirements").glob("*.txt")
    wanted = ("coiled", "conda-lock", "conda-pack", "pip-tools", "pyoci")
    for path in requirements:
        pins = dict(line.partition("==")[::2] for line in path.read_text("utf-8").splitlines())
        found |= {name: pins[name] for name in wanted if name in pins}
    return found
