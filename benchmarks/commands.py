"""The figures of commands without a build: scan, plan and lock, beside what does about the same."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.counting import opened_files
from benchmarks.environments import BIN, Environment, run, with_coiled
from benchmarks.measure import Contender, Run, in_turns
from benchmarks.results import Results

FIGURES = ("scan", "scan-coiled", "plan", "lock-empty", "lock", "lock-arm64")


@dataclass(frozen=True)
class Commands:
    """What the figures of commands need.

    Parameters
    ----------
    base
        The root image that imagesync locks for.
    python_version, glibc
        The image's Python and C library, for whoever has to be told.
    tools
        The folder of the rivals' commands.
    work
        For caches.
    """

    environment: Environment
    base: str
    python_version: str
    glibc: tuple[int, int]
    tools: Path
    work: Path
    host_python: str

    def measure(self, figure: str, results: Results, *, turns: int) -> None:
        """Measure a figure, and add its runs to *results*."""
        contenders = dict(self._contenders(figure))
        opened: dict[str, int] = {}
        for name, contender in list(contenders.items()):
            try:
                if figure != "lock-empty":
                    contender()  # to fill its cache
                with opened_files(self.work.parent) as files:
                    contender()
            except RuntimeError as error:
                print(f"{figure}, {name} failed: {error}", file=sys.stderr, flush=True)
                del contenders[name]
            opened[name] = len(files)

        def measured(name: str, turn: int, done: Run) -> None:
            counted = {**done.counted, **({"files": opened[name]} if opened[name] else {})}
            results.add(figure, self.environment.size, name, turn, replace(done, counted=counted))

        in_turns(contenders, runs=turns, warm_up=False, measured=measured)

    def _contenders(self, figure: str) -> Mapping[str, Contender]:
        if figure == "scan":
            return self._scans(self.environment.python)
        if figure == "scan-coiled":
            python = with_coiled(self.work.parent, self.host_python)
            coiled = (python.with_name("coiled"), "package-sync", "scan", "--csv")
            scans = self._scans(python)
            return {"imagesync scan": scans["imagesync scan"], "coiled package-sync scan": command(*coiled)}
        if figure == "plan":
            return {"imagesync plan": self._imagesync("plan", self.work / "store")}
        return self._locks(empty=figure == "lock-empty", arm64=figure == "lock-arm64")

    def _scans(self, python: Path) -> dict[str, Contender]:
        uv = BIN / "uv"
        return {
            "imagesync scan": command(BIN / "imagesync", "scan", "--python", python, "--format", "json"),
            "pip list": command(python, "-m", "pip", "list", "--format", "json"),
            "uv pip list": command(uv, "pip", "list", "--python", python, "--format", "json"),
            # Where packages contradict each other, these end with 1 and are left out.
            "pip check": command(python, "-m", "pip", "check"),
            "uv pip check": command(uv, "pip", "check", "--python", python),
        }

    def _imagesync(self, name: str | Path, store: str | Path, *arguments: str | Path) -> Contender:
        common = ("--python", self.environment.python, "--base", self.base, "--cache-dir", store)
        return command(BIN / "imagesync", name, *common, *arguments)

    def _locks(self, *, empty: bool, arm64: bool) -> dict[str, Contender]:
        """Return the lockers of the versions that are installed, with hashes.

        Parameters
        ----------
        empty
            Each with an empty cache; else with the one of the run before.
        arm64
            For Linux on arm64, which pip-compile can't.
        """
        work = self.work / "lock"
        work.mkdir(parents=True, exist_ok=True)
        pins = work / "pins.in"
        pins.write_text("".join(f"{n}=={v}\n" for n, v in self.environment.pins().items()), "utf-8")
        caches = {name: work / f"cache-{name}" for name in ("imagesync", "uv", "pip-compile")}
        suffix = "arm64" if arm64 else "amd64"
        out = {name: work / f"{name}-{suffix}.txt" for name in caches}
        # No engine here has the base for arm64, so it is told of its Python and C library.
        glibc = ".".join(map(str, self.glibc))
        target = ("--target-python", self.python_version, "--target-glibc", glibc) if arm64 else ()
        platform = ("--platform", f"linux/{suffix}", *target)
        machine = "aarch64" if arm64 else "x86_64"
        uv_platform = f"{machine}-manylinux_{self.glibc[0]}_{self.glibc[1]}"
        kind = ("--export", "explicit") if self.environment.size == "C" else ("--export", "requirements")
        lockers = {
            "imagesync": self._imagesync(
                "lock", caches["imagesync"], *platform, *kind, "-o", out["imagesync"]
            ),
            "uv": command(
                *(BIN / "uv", "pip", "compile", "--quiet", "--generate-hashes", "--cache-dir", caches["uv"]),
                *(
                    "--python-version",
                    self.python_version,
                    "--python-platform",
                    uv_platform,
                    "-o",
                    out["uv"],
                    pins,
                ),
            ),
            "pip-compile": command(
                *(self.tools / "pip-compile", "--quiet", "--generate-hashes", "--strip-extras"),
                *("--cache-dir", caches["pip-compile"], "-o", out["pip-compile"], pins),
            ),
        }
        if self.environment.size == "C":
            lockers = {"imagesync": lockers["imagesync"]}
        elif arm64:
            del lockers["pip-compile"]

        def locker(name: str) -> Contender:
            def lock() -> Mapping[str, float]:
                # An output file would be taken as the versions to keep.
                out[name].unlink(missing_ok=True)
                if empty:
                    shutil.rmtree(caches[name], ignore_errors=True)
                return lockers[name]()

            return lock

        titles = {"imagesync": "imagesync lock", "uv": "uv pip compile", "pip-compile": "pip-compile"}
        return {titles[name]: locker(name) for name in lockers}


def command(*words: str | Path) -> Callable[[], Mapping[str, float]]:
    """Return a contender that runs a command."""

    def run_it() -> Mapping[str, float]:
        run(*words)
        return {}

    return run_it
