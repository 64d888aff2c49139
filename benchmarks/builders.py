"""``python -m benchmarks.builders``: builder ``oci`` against builder ``docker`` and a Dockerfile with uv.

The environment is that of docs/builders.md: numpy, pandas, scipy, pyarrow, scikit-learn, dask, distributed.
All start from the same base and end with a usable image: in the OCI layout, or in the engine. Artifacts and
bytecode are in the store, and uv's wheels in a cache mount. The builds take turns, so that what slows the
machine for a while slows all; ratios are those of neighbours. Needs a container engine and PyPI.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Contender, Run, in_turns, median_seconds, ratio
from benchmarks.results import machine
from benchmarks.subjects import Imagesync, PlainDockerfile, make_environment
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.base import ensure_base
from imagesync.settings.model import Settings

PACKAGES = ("numpy", "pandas", "scipy", "pyarrow", "scikit-learn", "dask", "distributed")
DOCKER, UV = "docker", "uv with cache mounts"


@dataclass(frozen=True)
class WithoutEngine:
    """Builds without an engine, on an image of the engine, that find more or less in the store."""

    ours: Imagesync

    def build(self, *gone: str) -> Mapping[str, float]:
        """Build; of the store's layers are *gone* before: ``layer`` or ``part`` entries, the image always."""
        images = self.ours.store / "images"
        (images / "index.json").unlink(missing_ok=True)
        for entry in (self.ours.store / "layers").glob("*.json"):
            head = entry.read_text("utf-8")[:40]
            if any(f'"{kind}"' in head for kind in gone):
                entry.unlink()
        metadata = self.ours.make("--builder", "oci")
        if metadata["cached"]:
            raise RuntimeError("the build was meant to build, and hit")
        return {}


def main() -> int:
    """Measure, and print seconds and ratios on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=os.environ.get("IMAGESYNC_BASE", "ubuntu:24.04"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-warm-up", action="store_true", help="An earlier run has filled the store.")
    arguments = parser.parse_args()
    work = Path(".work/bench/builders").absolute()
    work.mkdir(parents=True, exist_ok=True)
    with Engine(find_endpoint(os.environ)) as engine:
        base = ensure_base(engine, settings=Settings(base=arguments.base), progress=SilentProgress())
        environment = make_environment(work / "env", python=arguments.python, requirements=PACKAGES)
        docker = Imagesync(environment, arguments.base, store=work / "store", work=work)
        oci = WithoutEngine(
            Imagesync(environment, f"docker-daemon:{base.reference}", store=work / "store", work=work)
        )
        uv = PlainDockerfile(engine, base.reference, tuple(environment.installed()), SilentProgress(), UV)

        def with_uv() -> Mapping[str, float]:
            uv.build()
            return {}

        contenders: dict[str, Contender] = {
            "oci, no part known": lambda: oci.build("part", "layer"),
            "oci, parts known": lambda: oci.build("layer"),
            "oci, layers known": oci.build,
            DOCKER: lambda: docker.cold(empty_store=False),
            UV: with_uv,
        }
        measured = in_turns(contenders, runs=arguments.turns, warm_up=not arguments.no_warm_up)
    _print(measured)
    shutil.rmtree(work / "store" / "images", ignore_errors=True)
    return 0


def _print(measured: Mapping[str, list[Run]]) -> None:
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"| | seconds | of {DOCKER} | of {UV} | received, kB |")
    print("|---|---|---|---|---|")
    for name, runs in measured.items():
        received = max((run.received or 0) // 1000 for run in runs)
        ratios = (str(ratio(runs, measured[other])) for other in (DOCKER, UV))
        print(f"| {name} | {median_seconds(runs):.1f} | {' | '.join(ratios)} | {received} |")


if __name__ == "__main__":
    sys.exit(main())
