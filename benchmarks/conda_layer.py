"""The conda layer of an image beside an installation on this machine, of the same archives.

    python -m benchmarks.conda_layer [--turns 5] [--micromamba PATH]

Ours is the build of the layer, without the builder's cache, from the archives and their bytecode to the image
in the engine, which has the installer already: once with the archives in the engine from a build before, and
once with those that only the store has, so that they are sent. Theirs installs the same archives into a
folder: `micromamba create` from an explicit file, where an executable is given or on PATH, and
`rattler.install`; each once with the packages unpacked in its cache beforehand, so that files are only
linked, and once from the archives. As py-rattler compiles nothing, there are more: compiled what micromamba
and conda compile, which is what noarch packages bring, or every module, as in our layer. It is slower than
micromamba, 1.4 times when a real one was measured, so ratios to it flatter ours. An installation is no image:
nothing of it is sent, packed or hashed.

IMAGESYNC_BENCH_DIR is a folder for all of it, best on the engine's file system. What is made is removed in
the end, because on ext4 without a journal the removal of many files slows down for minutes the making of
new ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import rattler

from benchmarks.scripts import run_script
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.base import ensure_base
from imagesync.lock.conda.locked_records import topological_order
from imagesync.lock.conda.repodata import locked
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from tests.channels.channel import ensure_channel
from tests.channels.environments import solve
from tests.engine_proxy import EngineProxy
from tests.integration.conda_layers import CondaLayers, as_lock

SPECS = [
    *("python", "dask", "pip", "setuptools", "wheel", "compass", "anvil", "greeter-native", "orchard-suite"),
    *("quill", "libbeacon", "gazebo", "lattice", "trellis", "arbor", "aurora", "ca-certificates", "colorama"),
]
OURS = ("ours, archives in the engine", "ours, archives sent")


def main() -> None:
    """Print the times of each, and the ratios turn by turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--micromamba", default=shutil.which("micromamba"))
    arguments = parser.parse_args()
    records = in_topological_order(solve([ensure_channel()], SPECS, platform="linux-64"))
    # Beside the package caches, which link their files: both are on one file system.
    work = Path(tempfile.mkdtemp(prefix="conda-layer-", dir=os.environ.get("IMAGESYNC_BENCH_DIR")))
    try:
        with ExitStack() as stack:
            engine = stack.enter_context(Engine(find_endpoint(os.environ)))
            info = engine.info()
            sides = ours(engine, stack, records, work, arguments.micromamba)
            sides |= theirs(records, work)
            if arguments.micromamba:
                sides |= theirs_by_micromamba(records, work, arguments.micromamba)
            print(f"{info.name} {info.version}, {len(records)} conda packages, {arguments.turns} turns")
            compare(sides, arguments.turns)
    finally:
        shutil.rmtree(work)


def in_topological_order(records: Sequence[rattler.RepoDataRecord]) -> list[rattler.RepoDataRecord]:
    """Return records in the order that micromamba needs: it compiles nothing that comes before Python."""
    by_name = {record.name.normalized: record for record in records}
    packages = [
        locked({**json.loads(record.to_json()), "fn": record.file_name, "channel": record.channel})
        for record in records
    ]
    return [by_name[package.name] for package in topological_order(packages)]


@dataclass(frozen=True)
class Side:
    """Something that is timed, and what has to happen before, untimed."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def ours(
    engine: Engine,
    stack: ExitStack,
    records: Sequence[rattler.RepoDataRecord],
    work: Path,
    micromamba: str | None,
) -> dict[str, Side]:
    """Return what builds the layer; all that it needs is in the store once this returns.

    Parameters
    ----------
    stack
        Removes the images in the end.
    """
    root = os.environ.get("IMAGESYNC_BASE", "imagesync/debian:bookworm")
    base = ensure_base(engine, settings=Settings(base=root), progress=SilentProgress())
    store = Store(work / "store")
    lock, archives = as_lock(records, base, store)
    executable = None if micromamba is None else Path(micromamba)
    layers = CondaLayers(engine, base, store, lock, archives, executable)

    def build() -> None:
        stack.callback(engine.discard, layers.build())

    build()
    with EngineProxy() as proxy, Engine(find_endpoint({"DOCKER_HOST": proxy.url})) as counted:
        through = replace(layers, engine=counted)
        for name, prepare in zip(OURS, (build, layers.forget_archives), strict=True):
            prepare()
            before, asked = proxy.sent, len(proxy.requests)
            stack.callback(engine.discard, through.build())
            sent, requests = proxy.sent - before, len(proxy.requests) - asked
            print(f"{name}: {sent / 1e6:.2f} MB sent in {requests} requests")
    return dict(zip(OURS, (Side(build), Side(build, layers.forget_archives)), strict=True))


def theirs(records: Sequence[rattler.RepoDataRecord], work: Path) -> dict[str, Side]:
    """Return installations by py-rattler, with a full cache and with none."""

    def install(cache: Path) -> Path:
        prefix = Path(tempfile.mkdtemp(prefix="env-", dir=work))
        asyncio.run(
            rattler.install(
                list(records), prefix, cache_dir=cache, execute_link_scripts=True, show_progress=False
            )
        )
        return prefix

    def compiled(cache: Path, modules_of: Callable[[Path], Iterator[str]]) -> None:
        prefix = install(cache)
        modules = prefix / "modules.txt"
        modules.write_text("".join(f"{prefix / path}\n" for path in modules_of(prefix)))
        python = [str(prefix / "bin" / "python"), "-Wi", "-m", "compileall", "-q", "-l", "-j0"]
        subprocess.run([*python, "-i", str(modules)], check=False, capture_output=True)

    def new_cache() -> Path:
        return Path(tempfile.mkdtemp(prefix="cache-", dir=work))

    warm_cache = work / "warm"
    install(warm_cache)
    return {
        "rattler.install, unpacked, noarch compiled": Side(lambda: compiled(warm_cache, noarch_modules)),
        "rattler.install, unpacked, all compiled": Side(lambda: compiled(warm_cache, all_modules)),
        "rattler.install, unpacked": Side(lambda: install(warm_cache)),
        "rattler.install, archives, noarch compiled": Side(lambda: compiled(new_cache(), noarch_modules)),
        "rattler.install, archives": Side(lambda: install(new_cache())),
    }


def noarch_modules(prefix: Path) -> Iterator[str]:
    """Yield the modules that micromamba and conda compile when they install."""
    for path in (prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_text())
        if record.get("noarch") == "python":
            yield from (name for name in record["files"] if name.endswith(".py"))


def all_modules(prefix: Path) -> Iterator[str]:
    """Yield the modules that our layer has bytecode of."""
    library = next(path.parent for path in (prefix / "lib").glob("python3*/os.py"))
    yield from (path.relative_to(prefix).as_posix() for path in library.rglob("*.py"))


def theirs_by_micromamba(
    records: Sequence[rattler.RepoDataRecord], work: Path, executable: str
) -> dict[str, Side]:
    """Return installations by micromamba from an explicit file, with a full cache and with none."""
    explicit = work / "explicit.txt"
    lines = [f"{record.url}#sha256:{record.sha256.hex()}" for record in records if record.sha256]
    explicit.write_text("\n".join(("@EXPLICIT", *lines)) + "\n")

    def install(cache: Path) -> None:
        prefix = Path(tempfile.mkdtemp(prefix="env-", dir=work))
        prefix.rmdir()
        environ = {**os.environ, "MAMBA_ROOT_PREFIX": str(work / "root"), "CONDA_PKGS_DIRS": str(cache)}
        command = [executable, "create", "--no-rc", "--yes", "--quiet", "--prefix", str(prefix)]
        subprocess.run([*command, "--file", str(explicit)], env=environ, check=True)

    def cold() -> None:
        install(Path(tempfile.mkdtemp(prefix="cache-", dir=work)))

    install(work / "mamba")
    return {
        "micromamba create, packages unpacked": Side(lambda: install(work / "mamba")),
        "micromamba create, archives": Side(cold),
    }


def compare(sides: Mapping[str, Side], turns: int) -> None:
    """Run all sides in turns, and print medians and ratios."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name, side in sides.items():
            side.prepare()
            # Nobody waits for the disk with what another one has written.
            os.sync()
            start = time.perf_counter()
            side.run()
            times[name].append(time.perf_counter() - start)
            print(f"turn {turn + 1}: {name}: {times[name][-1]:.2f} s", file=sys.stderr)
    for name, seconds in times.items():
        print(f"{name:<42} {statistics.median(seconds):6.2f} s")
    for mine in OURS:
        for name in sorted(times.keys() - set(OURS)):
            ratios = sorted(m / other for m, other in zip(times[mine], times[name], strict=True))
            median, least, most = statistics.median(ratios), ratios[0], ratios[-1]
            print(f"{mine} / {name:<42} {median:5.2f} ({least:.2f} to {most:.2f})")


if __name__ == "__main__":
    run_script(main)
