"""``python -m benchmarks``: the figures of docs/benchmarks.md, measured here.

Needs a container engine, the index and some patience: ten minutes and more, or one with ``--quick``.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import imagesync
from benchmarks.cluster import measure_cluster
from benchmarks.edit import BACKENDS, measure_edit
from benchmarks.measure import Contender, in_turns
from benchmarks.report import Figure, machine, print_figure
from benchmarks.subjects import (
    INSTALLERS,
    REQUIREMENTS,
    SMALL_REQUIREMENTS,
    Imagesync,
    PlainDockerfile,
    image_facts,
    make_environment,
    pip_list,
)
from imagesync.core.terminal import make_progress
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import PACKAGES_REPOSITORY
from imagesync.image.base import ensure_base
from imagesync.image_layout import Label, image_tag
from imagesync.settings.model import Settings
from tests.engine_proxy import EngineProxy

FIGURES = ("scan", "hit", "edit", "cluster", "cold", "warm")
_RIVAL = "docker build, {}"


def main() -> int:
    """Measure, print tables on stdout, and return 1 if a goal is missed."""
    arguments = _parse()
    # As an installed imagesync has it, and the pip that it is compared with; a checkout may have none.
    compileall.compile_dir(Path(imagesync.__file__).parent, quiet=1)
    work = Path(".work/bench").absolute()
    work.mkdir(parents=True, exist_ok=True)
    progress = make_progress()
    with Engine(find_endpoint(os.environ)) as engine:
        base = ensure_base(engine, settings=Settings(base=arguments.base), progress=progress)
        requirements = SMALL_REQUIREMENTS if arguments.quick else REQUIREMENTS
        name = "small" if arguments.quick else "full"
        with progress.task("Making the environment", total=None, unit="steps"):
            environment = make_environment(work / name, python=_python(base.minor), requirements=requirements)
        installed = environment.installed()
        ours = Imagesync(environment, arguments.base, store=work / "store", work=work)
        rival = PlainDockerfile(engine, base.reference, tuple(installed), progress)
        figures = []
        for figure in _measure(arguments, engine, ours, rival):
            if arguments.quick:
                # The goals are about the full environment, where less is fixed cost.
                figure = replace(figure, goal=None, limit=None)  # noqa: PLW2901
            print_figure(figure, sys.stdout)
            figures.append(figure)
        if set(arguments.figures) != {"scan"}:
            _remove(engine, ours.image())
    document = {
        "machine": machine(),
        "packages": len(installed),
        "quick": arguments.quick,
        "figures": [figure.to_dict() for figure in figures],
    }
    arguments.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"{len(installed)} packages; every run is in {arguments.json}")
    return 0 if all(figure.good for figure in figures) else 1


def _remove(engine: Engine, image_id: str) -> None:
    """Remove an image, and the packages image that it stands on."""
    image = engine.inspect(image_id)
    engine.remove(image_id)
    digest = image.labels.get(Label.PACKAGES_HASH, "") if image is not None else ""
    if digest:
        engine.remove(f"{PACKAGES_REPOSITORY}:{image_tag(digest)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; all if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="a small environment, few runs")
    parser.add_argument("--turns", type=int, help="turns of the long figures (3; 1 if quick)")
    parser.add_argument("--rivals", action="store_true", help="Dockerfiles with the newest pip and uv too")
    parser.add_argument(
        "--base", default=os.environ.get("IMAGESYNC_BASE", Settings().base), help="the root image"
    )
    parser.add_argument("--json", type=Path, default=Path(".work/bench/figures.json"), help="where JSON goes")
    arguments = parser.parse_args()
    unknown = set(arguments.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    arguments.figures = arguments.figures or list(FIGURES)
    arguments.turns = arguments.turns or (1 if arguments.quick else 3)
    return arguments


def _python(minor: str) -> str:
    """Return an interpreter of the base's feature version, as the demo finds it."""
    found = subprocess.run(["scripts/find-python.sh", minor], check=True, stdout=subprocess.PIPE, text=True)
    return found.stdout.strip()


def _measure(
    arguments: argparse.Namespace, engine: Engine, ours: Imagesync, rival: PlainDockerfile
) -> Iterator[Figure]:
    short_turns = 3 if arguments.quick else 10
    if "scan" in arguments.figures:
        contenders = {"imagesync scan": ours.scan, "pip list": lambda: pip_list(ours.environment)}
        runs = in_turns(contenders, runs=short_turns, warm_up=True)
        yield Figure("scan", "imagesync scan", "pip list", runs, goal=0.5)
    if "hit" in arguments.figures:
        ours.image()
        contenders = {"imagesync build": ours.hit, "imagesync scan": ours.scan}
        runs = in_turns(contenders, runs=short_turns, warm_up=True)
        yield Figure("hit", "imagesync build", "imagesync scan", runs, goal=1.5, limit=0.6)
        _print_requests(ours)
    if "edit" in arguments.figures:
        ours.image()
        for backend in BACKENDS:
            yield measure_edit(ours, rival, backend=backend, work=ours.work, turns=short_turns // 2)
    if "cluster" in arguments.figures:
        yield from measure_cluster(ours.image(), turns=short_turns // 2)
    for name, title, goal in (
        ("cold", "cold build, nothing in the store", 0.75),
        ("warm", "cold build, artifacts in the store", 0.45),
    ):
        if name in arguments.figures:
            yield _build_figure(
                title,
                engine,
                ours,
                rival,
                empty_store=name == "cold",
                goal=goal,
                turns=arguments.turns,
                rivals=arguments.rivals,
            )


def _build_figure(
    title: str,
    engine: Engine,
    ours: Imagesync,
    rival: PlainDockerfile,
    *,
    empty_store: bool,
    goal: float,
    turns: int,
    rivals: bool,
) -> Figure:
    if not empty_store:
        ours.image()
    made: dict[str, list[str]] = {}

    def build_ours() -> Mapping[str, int]:
        return ours.cold(empty_store=empty_store)

    def builder(installer: str) -> Contender:
        def build_rival() -> Mapping[str, int]:
            made.setdefault(_RIVAL.format(installer), []).append(replace(rival, installer=installer).build())
            return {}

        return build_rival

    installers = list(INSTALLERS)[: None if rivals else 1]
    contenders: dict[str, Contender] = {"imagesync build": build_ours}
    contenders |= {_RIVAL.format(installer): builder(installer) for installer in installers}
    runs = in_turns(contenders, runs=turns, warm_up=False)
    images = {"imagesync build": image_facts(engine, ours.image())}
    for name, built in made.items():
        images[name] = image_facts(engine, built[-1])
        for image in built:
            engine.remove(image)
    return Figure(title, "imagesync build", _RIVAL.format(installers[0]), runs, goal=goal, images=images)


def _print_requests(ours: Imagesync) -> None:
    """Print what a build that hits asks the engine."""
    with EngineProxy() as proxy:
        ours.hit(docker_host=proxy.url)
        print(f"a build that hits asks the engine: {', '.join(proxy.requests)}\n")


if __name__ == "__main__":
    sys.exit(main())
