"""``python -m benchmarks.repack``: how long it takes to repack packages from their installed files.

50 pure-Python packages of 40 modules each, 2,000 files together, are installed into a virtual environment and
made into wheels again. No wheel is remembered: each run makes all of them. Needs no engine and no index.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scripts import run_script
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.plan.make_plan import make_plan
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from imagesync.wheels.build_indexes import BuildIndexes
from imagesync.wheels.sources.source_digests import installed_digest
from imagesync.wheels.vendor import vendor
from tests.environments import make_environment
from tests.indexes import make_wheel

PACKAGES, FILES = 50, 2000
GOAL = 1.0
# Of a module in the wheels of dask, pandas and scikit-learn together, in bytes.
_SIZE = 9000


def main() -> int:
    """Measure, print one line, and return 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repack", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory(prefix="imagesync-bench-") as name:
        folder = Path(name)
        packages = _make(folder)
        environment = make_environment(folder / "env", python=sys.executable, packages=packages)
        found = scan(python=environment.python, environ={})
        plan = make_plan(found, settings=Settings(profile="none"))
        seconds = []
        for turn in range(turns):
            start = time.perf_counter()
            vendored = [
                VendoredPackage(
                    p.name, p.version, installed_digest(p.installed, p.modification), p, "measured"
                )
                for p in plan.packages
                if p.installed is not None
            ]
            wheels = vendor(
                vendored,
                python=found.python,
                target=Target(LINUX_AMD64, found.python.version, (2, 36)),
                store=Store(folder / f"store{turn}"),
                indexes=BuildIndexes(IndexConfiguration()),
                progress=SilentProgress(),
            )
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(
        f"{len(wheels)} packages, {FILES} files: {median:.2f} s in the middle of {turns} runs, "
        f"{min(seconds):.2f} to {max(seconds):.2f} (goal: {GOAL:g} s)"
    )
    return 0 if median <= GOAL else 1


def _make(folder: Path) -> list[str]:
    words = ["self", "value", "return", "def", "class", "import", "None", "array", "index", "frame", "#", "="]
    paths = []
    source = random.Random(1)
    for number in range(PACKAGES):
        module = f"measured{number:02}"
        files = {}
        for part in range(FILES // PACKAGES):
            name = "__init__" if part == 0 else f"part{part:02}"
            text = "# " + " ".join(source.choices(words, k=_SIZE // 6)) + f" {source.random()}\n"
            files[f"{module}/{name}.py"] = text.encode()
        filename, data = make_wheel(module, "1.0", files=files)
        (folder / filename).write_bytes(data)
        paths.append(str(folder / filename))
    return paths


if __name__ == "__main__":
    run_script(main)
