"""``python -m benchmarks.builders``: builder ``oci`` against builder ``docker`` and a Dockerfile with uv.

All start from the same base and end with a usable image: in the OCI layout, or in the engine. The builds take
turns, so that what slows the machine for a while slows all; ratios are those of neighbours. Figures:

``layout``
    Artifacts and bytecode are in the store, and uv's wheels in a cache mount.
``cold``
    The store is empty, and uv has no cache: everything is fetched.
``loaded``
    A new environment of known packages, into the engine: the layers are written anew.
``edit``
    A changed line of an editable project, into the engine.

Needs a container engine and PyPI. What is pushed is measured by ``benchmarks.pushes``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import REQUIREMENTS
from benchmarks.measure import Contender, Run, in_turns, median_seconds, ratio
from benchmarks.results import machine
from benchmarks.scripts import run_script
from benchmarks.subjects import (
    REPOSITORY,
    CopyAndInstall,
    Imagesync,
    LocalEnvironment,
    PlainDockerfile,
    Project,
    make_environment,
)
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.base import ensure_base
from imagesync.settings.model import Settings
from imagesync.store.layout import IMAGES, LAYERS
from imagesync.store.layout import PACKAGES as PARTS

PACKAGES = {
    "tiny": ("toolz", "click", "markupsafe"),
    # The environment of docs/builders.md.
    "medium": ("numpy", "pandas", "scipy", "pyarrow", "scikit-learn", "dask", "distributed"),
    # L of docs/benchmarks.md.
    "large": tuple((REQUIREMENTS / "l.txt").read_text("utf-8").split()),
}
DOCKER, UV, UNCACHED_UV, COPY = "docker", "uv with cache mounts", "uv", "COPY and uv pip install"
INSTALL_PROJECT = (
    "--mount=type=cache,target=/root/.cache SSL_CERT_FILE=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}"
    " uv pip install --no-deps --compile-bytecode /tmp/project"
)


@dataclass(frozen=True)
class WithoutEngine:
    """Builds without an engine, on an image of the engine, that find more or less in the store."""

    ours: Imagesync

    def forget(self, *gone: str) -> None:
        """Remove the image, and of the store's layers the entries *gone*: ``layer`` or ``part``.

        The base stays: it was read when the image was built first.
        """
        index = self.ours.store / IMAGES / "index.json"
        if index.is_file():
            document = json.loads(index.read_text("utf-8"))
            document["manifests"] = [entry for entry in document["manifests"] if not _is_made_here(entry)]
            index.write_text(json.dumps(document), "utf-8")
        for entry in (self.ours.store / LAYERS).glob("*.json"):
            head = entry.read_text("utf-8")[:40]
            if any(f'"{kind}"' in head for kind in gone):
                entry.unlink()
        if "part" in gone:  # they are known by what they follow from, too
            shutil.rmtree(self.ours.store / PARTS, ignore_errors=True)

    def build(self, *arguments: str) -> str:
        """Build, and return the image's ID."""
        metadata = self.ours.make("--builder", "oci", *arguments)
        if metadata["cached"]:
            raise RuntimeError("the build was meant to build, and hit")
        return str(metadata["image_id"])


@dataclass(frozen=True)
class Subjects:
    """What is measured: one environment, its three builders, and the images that they leave in the engine."""

    engine: Engine
    environment: LocalEnvironment
    docker: Imagesync
    oci: WithoutEngine
    uv: PlainDockerfile
    work: Path
    made: list[str] = field(default_factory=list)

    def in_engine(self, image: str) -> Mapping[str, float]:
        """Note an image for its removal."""
        self.made.append(image)
        return {}

    def remove_made(self) -> None:
        """Remove the images that were made, so that no later build finds their layers."""
        while self.made:
            self.engine.remove(self.made.pop())


@contextmanager
def open_subjects(work: Path, *, base: str, python: str, packages: str) -> Iterator[Subjects]:
    """Give what is measured, with the environment *packages* in the folder *work*."""
    work.mkdir(parents=True, exist_ok=True)
    with Engine(find_endpoint(os.environ)) as engine:
        root = ensure_base(engine, settings=Settings(base=base), progress=SilentProgress())
        environment = make_environment(work / packages, python=python, requirements=PACKAGES[packages])
        docker = Imagesync(environment, base, store=work / "store", work=work)
        oci = WithoutEngine(
            Imagesync(environment, f"docker-daemon:{root.reference}", store=work / "store", work=work)
        )
        uv = PlainDockerfile(engine, root.reference, tuple(environment.installed()), SilentProgress(), UV)
        yield Subjects(engine, environment, docker, oci, uv, work)


def measure_layout(subjects: Subjects, *, turns: int) -> dict[str, list[Run]]:
    """Measure builds that find their artifacts in the store, and end with a layout or in the engine."""
    oci, gone = subjects.oci, {"oci, no part known": ("part", "layer"), "oci, parts known": ("layer",)}

    def build() -> Mapping[str, float]:
        oci.build()
        return {}

    contenders: dict[str, Contender] = {
        **dict.fromkeys(gone, build),
        "oci, layers known": build,
        DOCKER: lambda: subjects.docker.cold(empty_store=False),
        UV: lambda: subjects.in_engine(subjects.uv.build()),
    }
    # The artifacts, where nothing was built before.
    oci.forget("part", "layer")
    oci.build()
    subjects.docker.make()
    return in_turns(
        contenders, runs=turns, warm_up=True, prepare=lambda name: oci.forget(*gone.get(name, ()))
    )


def measure_cold(subjects: Subjects, *, turns: int) -> dict[str, list[Run]]:
    """Measure builds that have to fetch everything."""
    uv = PlainDockerfile(
        subjects.engine, subjects.uv.base, subjects.uv.requirements, subjects.uv.progress, UNCACHED_UV
    )

    def build() -> Mapping[str, float]:
        shutil.rmtree(subjects.oci.ours.store, ignore_errors=True)
        subjects.oci.build()
        return {}

    contenders: dict[str, Contender] = {
        "oci, empty store": build,
        DOCKER: lambda: subjects.docker.cold(empty_store=True),
        UNCACHED_UV: lambda: subjects.in_engine(uv.build()),
    }
    return in_turns(contenders, runs=turns, warm_up=False)


def measure_loaded(subjects: Subjects, *, turns: int) -> dict[str, list[Run]]:
    """Measure builds of a new environment of known packages that end in the engine."""

    def prepare(_: str) -> None:
        subjects.remove_made()
        subjects.oci.forget("layer")

    contenders: dict[str, Contender] = {
        "oci, loaded": lambda: subjects.in_engine(subjects.oci.build("--output", "docker")),
        DOCKER: lambda: subjects.docker.cold(empty_store=False),
        UV: lambda: subjects.in_engine(subjects.uv.build()),
    }
    return in_turns(contenders, runs=turns, warm_up=True, prepare=prepare)


def measure_edit(subjects: Subjects, *, turns: int) -> dict[str, list[Run]]:
    """Measure builds after a line of an editable project was changed; all end in the engine."""
    project = Project(subjects.work / "project")
    rival = CopyAndInstall(
        PlainDockerfile(
            subjects.engine, subjects.uv.base, subjects.uv.requirements, subjects.uv.progress, UNCACHED_UV
        ),
        project,
        INSTALL_PROJECT,
    )
    contenders: dict[str, Contender] = {
        "oci, loaded": lambda: subjects.in_engine(subjects.oci.build("--output", "docker")),
        DOCKER: lambda: subjects.in_engine(subjects.docker.image()),
        COPY: lambda: subjects.in_engine(rival.build()),
    }
    project.install(subjects.environment)
    try:
        return in_turns(contenders, runs=turns, warm_up=True, prepare=lambda _: project.edit())
    finally:
        project.remove(subjects.environment)


def read_arguments(description: str | None, figures: Collection[str]) -> argparse.Namespace:
    """Return what the command line says; without names of figures these are all *figures*."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", nargs="*", help=", ".join(figures))
    parser.add_argument("--base", default=os.environ.get("IMAGESYNC_BASE", "ubuntu:24.04"))
    parser.add_argument("--packages", choices=PACKAGES, default="medium")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    if unknown := set(arguments.figures).difference(figures):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    arguments.figures = arguments.figures or list(figures)
    return arguments


def main() -> int:
    """Measure, and print seconds and ratios on stdout."""
    measures = {
        "layout": measure_layout,
        "cold": measure_cold,
        "loaded": measure_loaded,
        "edit": measure_edit,
    }
    arguments = read_arguments(__doc__, measures)
    with open_subjects(
        Path(".work/bench/builders").absolute(),
        base=arguments.base,
        python=arguments.python,
        packages=arguments.packages,
    ) as subjects:
        for name in arguments.figures:
            measured = measures[name](subjects, turns=arguments.turns)
            others = [other for other in (DOCKER, UV, UNCACHED_UV, COPY) if other in measured]
            print_runs(f"{name}, {arguments.packages}", measured, others)
            subjects.remove_made()
        shutil.rmtree(subjects.work / "store" / "images", ignore_errors=True)
    return 0


def print_runs(title: str, measured: Mapping[str, list[Run]], others: list[str]) -> None:
    """Print what was measured as a table: seconds, the ratio to each of *others*, and counters."""
    print(f"{title}; {', '.join(f'{name} {value}' for name, value in machine().items())}\n")
    columns = ["", "seconds", *(f"of {other}" for other in others), "received, kB", "counted"]
    print(_row(columns))
    print("|---" * len(columns) + "|")
    for name, runs in measured.items():
        received = max((run.received or 0) // 1000 for run in runs)
        ratios = [str(ratio(runs, measured[other])) for other in others]
        counted = ", ".join(f"{key} {max(run.counted[key] for run in runs)}" for key in runs[0].counted)
        print(_row([name, f"{median_seconds(runs):.2f}", *ratios, str(received), counted]))
    print(flush=True)


def _is_made_here(entry: Mapping[str, Any]) -> bool:
    name: str = entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "")
    return name.startswith(f"{REPOSITORY}:")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_script(main)
