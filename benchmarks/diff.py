"""``python -m benchmarks.diff``: how long ``imagesync diff local IMAGE`` takes, every file compared.

200 packages of 75 files each, 15,000 files together, are installed into a virtual environment, and an image
with the label of their inventory is made, so that both sides are the same. Cold means that nothing is
remembered of the files, so that all of them are read; remembered, that none has changed since. Needs a
container engine.
"""

from __future__ import annotations

import argparse
import compileall
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import docker

import imagesync
from benchmarks.scripts import run_script
from imagesync.diff.sides import local_side
from imagesync.image_layout import Label
from imagesync.inventory.inventory import to_text
from imagesync.session import open_session
from tests.commands import BIN, clean_environ
from tests.environments import make_environment
from tests.indexes import make_wheel

PACKAGES, FILES, SIZE = 200, 75, 9000
GOALS = {"cold": 2.0, "remembered": 0.6}
_REFERENCE = "imagesync-bench/diff:latest"


def main() -> int:
    """Measure, print the figures, and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diff", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory(prefix="imagesync-bench-") as name:
        folder = Path(name)
        # As an installed imagesync has it; a checkout may have none.
        compileall.compile_dir(Path(imagesync.__file__).parent, quiet=1)
        environment = make_environment(
            folder / "env",
            python=sys.executable,
            packages=_make(folder),
            arguments=["--no-index", "--find-links", str(folder)],
        )
        cache = folder / "cache"
        inventory = local_side(open_session(python=environment.python, cache_dir=cache, quiet=True)).inventory
        client = docker.from_env()
        empty = folder / "empty.tar"
        empty.write_bytes(bytes(10240))
        client.api.import_image_from_file(
            str(empty),
            repository="imagesync-bench/diff",
            tag="latest",
            changes=[f'LABEL {Label.INVENTORY}="{to_text(inventory)}"'],
        )
        command: list[str | Path] = [BIN / "imagesync", "diff", "local", _REFERENCE]
        command += ["--python", environment.python]
        environ = {**clean_environ(), "IMAGESYNC_CACHE_DIR": str(cache), "IMAGESYNC_PROFILE": "none"}
        time.sleep(3)  # what was just written isn't remembered
        seconds: dict[str, list[float]] = {"cold": [], "remembered": []}
        for _ in range(turns):
            shutil.rmtree(cache, ignore_errors=True)
            for runs in seconds.values():
                start = time.perf_counter()
                subprocess.run(
                    command, env={**os.environ, **environ}, cwd=folder, check=True, stdout=subprocess.DEVNULL
                )
                runs.append(time.perf_counter() - start)
        client.images.remove(_REFERENCE)
    for kind, runs in seconds.items():
        print(
            f"{kind}: {statistics.median(runs):.2f} s in the middle of {turns} runs, "
            f"{min(runs):.2f} to {max(runs):.2f} (goal: {GOALS[kind]:g} s)"
        )
    return 0 if all(statistics.median(runs) <= GOALS[kind] for kind, runs in seconds.items()) else 1


def _make(folder: Path) -> list[str]:
    """Write wheels with random content, which doesn't compress to nothing, and return their names."""
    source = random.Random(1)
    names = []
    for number in range(PACKAGES):
        name = f"measured{number:03}"
        files = {
            f"{name}/part{part:02}.py": f"# {source.randbytes(SIZE // 2).hex()}\n".encode()
            for part in range(FILES - 3)  # the installer writes three more
        }
        filename, content = make_wheel(name, "1.0", files=files)
        (folder / filename).write_bytes(content)
        names.append(name)
    return names


if __name__ == "__main__":
    run_script(main)
