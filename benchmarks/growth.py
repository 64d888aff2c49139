"""``python -m benchmarks.growth``: what more packages and more environments cost.

- 50 to 1,600 small packages of local archives in one environment: scan, plan, and a build without an engine.
- 16 environments that share most packages, one after another with one store and one registry: imagesync
  without an engine, and the Dockerfile of uv's Docker guide with one cache mount.

Results go to the same file as those of ``python -m benchmarks``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from pathlib import Path

from benchmarks.builds import Imagesync
from benchmarks.counting import Relay
from benchmarks.environments import BIN, PROJECT, Environment, make_environment, run, tools, write_project
from benchmarks.measure import run_once
from benchmarks.registries import Registry, registry
from benchmarks.results import FILE, Results, versions
from benchmarks.rivals import DockerBuilder, Dockerfile, make_uv_image
from benchmarks.scripts import run_script
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.base import ensure_base
from imagesync.image_layout import BaseImage
from imagesync.settings.model import Settings
from tests.indexes import make_wheel

COUNTS = (50, 100, 200, 400, 800, 1600)
ENVIRONMENTS = 16
_BUILT = 800  # packages, at most
_FILES = 20  # of a package
# What an environment has in the version before, two of them, and what it has besides, one.
_OLDER = ("click==8.5.0", "cloudpickle==3.1.2", "fsspec==2026.7.0", "toolz==1.1.0")
_MORE = ("attrs==26.1.0", "humanize==4.15.0", "tabulate==0.9.0", "tqdm==4.67.1")
_ALL_VARIANTS = list(product(combinations(_OLDER, 2), combinations(_MORE, 1)))
# The first has neither, and no two are the same: imagesync would find the image of the one before.
_VARIANTS = [((), ()), *random.Random(0).sample(_ALL_VARIANTS, k=len(_ALL_VARIANTS))]


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="NAME", help="packages, environments")
    parser.add_argument("--turns", type=int, default=3, help="turns of `packages`")
    parser.add_argument("--most", type=int, default=max(COUNTS), help="packages, at most")
    parser.add_argument("--environments", type=int, default=ENVIRONMENTS)
    parser.add_argument("--base", default=os.environ.get("IMAGESYNC_BASE", Settings().base))
    parser.add_argument("--results", type=Path, default=FILE, help="the file of results")
    arguments = parser.parse_args()
    if unknown := {*arguments.figures} - {"packages", "environments"}:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    if arguments.environments > len(_VARIANTS):
        parser.error(f"--environments may be {len(_VARIANTS)} at most")
    figures = arguments.figures or ["packages", "environments"]
    work = Path(".work/bench").absolute()
    work.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.results, versions())
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(Relay(find_endpoint(os.environ).url.removeprefix("unix://")))
        engine = stack.enter_context(Engine(Endpoint(relay.url, "the benchmark")))
        base = ensure_base(engine, settings=Settings(base=arguments.base), progress=SilentProgress())
        python = run("scripts/find-python.sh", base.minor).strip()
        if "packages" in figures:
            for count in (count for count in COUNTS if count <= arguments.most):
                _grow_packages(count, python, base, work / "growth", results, turns=arguments.turns)
        if "environments" in figures:
            _grow_environments(
                arguments.environments, python, base, engine=engine, relay=relay, work=work, results=results
            )
    return 0


def _grow_packages(
    count: int, python: str, base: BaseImage, work: Path, results: Results, *, turns: int
) -> None:
    environment = _many_packages(work / str(count), python, count)
    store = work / str(count) / "store"
    common = ("--python", environment / "bin" / "python", "--cache-dir", store)
    base_name = f"docker-daemon:{base.reference}"
    build = ("build", "--builder", "oci", "--no-cache", "--base", base_name, "--repository", "bench-growth")
    commands = {"scan": ("scan", *common[:2]), "plan": ("plan", *common, "--base", base_name)}
    if count <= _BUILT:
        commands["build"] = (*build, *common)
    for turn in range(turns):
        for name, words in commands.items():
            if name == "build":
                shutil.rmtree(store, ignore_errors=True)
            measured = run_once(partial(_command, *words))
            print(f"{count} packages, {name}: {measured.seconds:.2f} s", flush=True)
            results.add(f"growth, {name}", str(count), "imagesync", turn, measured)
    shutil.rmtree(work / str(count))


def _command(*words: str | Path) -> dict[str, float]:
    run(BIN / "imagesync", *words)
    return {}


def _many_packages(folder: Path, python: str, count: int) -> Path:
    """Return an environment of packages whose content doesn't compress to nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    source = random.Random(count)
    for number in range(count):
        name = f"grown{number:04}"
        files = {
            f"{name}/part{part:02}.py": f"value = '{source.randbytes(600).hex()}'\n".encode()
            for part in range(_FILES)
        }
        filename, content = make_wheel(name, "1.0", files=files)
        (wheels / filename).write_bytes(content)
    environment = folder / "env"
    run(BIN / "uv", "venv", "--quiet", "--no-project", "--python", python, environment)
    install = ("pip", "install", "--quiet", "--offline", "--python", environment / "bin" / "python")
    run(BIN / "uv", *install, *sorted(wheels.iterdir()))
    return environment


def _grow_environments(
    count: int, python: str, base: BaseImage, *, engine: Engine, relay: Relay, work: Path, results: Results
) -> None:
    shutil.rmtree(work / "growth", ignore_errors=True)  # of a run that was ended
    first = make_environment("S", work, python)
    docker = DockerBuilder(engine)
    uv_image = make_uv_image(engine, work / "uv-image")
    session = results.session.replace(":", "")
    made = []
    with registry(work / "registries") as ours_registry, registry(work / "registries") as theirs_registry:
        for number in range(count):
            environment = _variant(first, work / "growth" / f"env-{number}", python, number)
            place = work / "growth" / f"context-{number}"
            name = f"docker-daemon:{base.reference}"
            store = work / "growth" / "store"
            ours = Imagesync("oci", environment, name, store, relay.url, docker)
            theirs = Dockerfile(
                "Docker, uv",
                "uv",
                docker,
                environment,
                base.reference,
                uv_image,
                place / "docker-uv",
                session,
                tools(work, python),
            )
            made.append(theirs)
            for contender, target in ((ours, ours_registry), (theirs, theirs_registry)):
                _build_and_push(contender, target, number, results)
    for theirs in made:
        theirs.close()
    shutil.rmtree(work / "growth")


def _build_and_push(
    contender: Imagesync | Dockerfile, target: Registry, number: int, results: Results
) -> None:
    contender.prepare("light")
    before = target.counted()

    def build_and_push() -> dict[str, float]:
        contender.build("light")
        contender.push(target.target())
        return {}

    measured = run_once(build_and_push)
    counted: dict[str, float] = {name: total - before[name] for name, total in target.counted().items()}
    if isinstance(contender, Imagesync):
        counted["store bytes"] = sum(
            path.stat().st_size for path in contender.store.rglob("*") if path.is_file()
        )
    print(f"environment {number}, {contender.name}: {measured.seconds:.2f} s, {counted}", flush=True)
    results.add("growth, environments", "S", contender.name, number, replace(measured, counted=counted))


def _variant(first: Environment, folder: Path, python: str, number: int) -> Environment:
    """Return an environment that has some packages in the version before, and one more."""
    older, more = _VARIANTS[number]
    environment = Environment("S", folder / "env", folder / PROJECT, more)
    write_project(environment)
    run(BIN / "uv", "venv", "--quiet", "--no-project", "--python", python, environment.prefix)
    install = ("pip", "install", "--quiet", "--no-deps", "--python", environment.python)
    pinned = first.pins() | dict(pin.split("==") for pin in older)
    pins = (f"{name}=={version}" for name, version in pinned.items())
    run(BIN / "uv", *install, *pins, *more)
    run(BIN / "uv", *install, "--editable", environment.project)
    return environment


if __name__ == "__main__":
    run_script(main)
