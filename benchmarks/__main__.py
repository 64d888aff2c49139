"""``python -m benchmarks``: imagesync beside what one would use without it, measured here.

Each run is appended to a file of results at once, so that what was measured stays if the command is ended;
``python -m benchmarks.report`` makes the tables of it. Needs Linux, root, a container engine and the index.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imagesync
from benchmarks import builds, commands
from benchmarks.builds import FIRST, Builds, ImageContender, Imagesync
from benchmarks.cluster import measure_cluster
from benchmarks.counting import Relay
from benchmarks.environments import SIZES, Environment, make_environment, tools
from benchmarks.pyoci import Pyoci
from benchmarks.registries import base_registry
from benchmarks.results import FILE, Results, versions
from benchmarks.rivals import (
    DockerBuilder,
    Dockerfile,
    PodmanBuilder,
    make_pip_image,
    make_uv_image,
    save_images,
)
from benchmarks.scripts import run_script
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.engine import Engine
from imagesync.image.base import ensure_base
from imagesync.image_layout import BaseImage
from imagesync.settings.model import Settings
from tests.indexes.certificates import make_certificates

FIGURES = (*commands.FIGURES, *builds.FIGURES, "cluster")
CONTENDERS = ("imagesync", "oci", "docker-pip", "docker-uv", "podman-pip", "podman-uv", "pyoci", "conda-pack")


def main() -> int:
    """Measure what the command line names."""
    arguments = _parse()
    # As an installed imagesync has it; a checkout may have none.
    compileall.compile_dir(Path(imagesync.__file__).parent, quiet=1)
    work = Path(".work/bench").absolute()
    work.mkdir(parents=True, exist_ok=True)
    endpoint = find_endpoint(os.environ)
    with contextlib.ExitStack() as stack:
        # The engine's own socket, behind a relay that counts, for everybody who uses it.
        relay = stack.enter_context(Relay(endpoint.url.removeprefix("unix://")))
        engine = stack.enter_context(Engine(Endpoint(relay.url, "the benchmark")))
        base = ensure_base(engine, settings=Settings(base=arguments.base), progress=SilentProgress())
        python = subprocess.run(
            ["scripts/find-python.sh", base.minor], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        environment = make_environment(arguments.size, work, python)
        results = Results(arguments.results, versions())
        measured = commands.Commands(
            environment,
            arguments.base,
            base.python_version,
            base.glibc,
            tools(work, python),
            work / arguments.size,
            python,
        )
        for figure in arguments.figures:
            if figure in commands.FIGURES:
                print(f"{figure}, {arguments.size}", flush=True)
                measured.measure(figure, results, turns=2 * arguments.turns)
        if set(arguments.figures) & {*builds.FIGURES, "cluster"}:
            images = Images(environment, arguments.base, base, engine, relay, results, measured.tools, work)
            images.measure(arguments)
    return 0


@dataclass(frozen=True)
class Images:
    """What the figures of images need.

    Parameters
    ----------
    root
        The root image, as a user names it.
    relay
        Where the engine answers.
    tools
        The folder of the rivals' commands.
    work
        The folder of everything that is made.
    """

    environment: Environment
    root: str
    base: BaseImage
    engine: Engine
    relay: Relay
    results: Results
    tools: Path
    work: Path

    def measure(self, arguments: argparse.Namespace) -> None:
        """Measure the figures of images and clusters that the command line names."""
        podman = PodmanBuilder(self.work / "podman")
        uv_image = make_uv_image(self.engine, self.work / "uv-image")
        pip_image = make_pip_image(self.engine, self.base.reference, self.work / "pip-image", self.tools)
        with contextlib.ExitStack() as stack:
            if any(name.startswith("podman") for name in arguments.contenders):
                archive = self.work / "podman.tar"
                save_images((self.base.reference, uv_image, pip_image), archive)
                stack.callback(podman.stop)
                podman.start(archive)
                archive.unlink()
            if set(arguments.figures) & set(builds.FIGURES):
                contenders = [
                    self._without_engine(name, stack)
                    if name in ("oci", "pyoci")
                    else self._contender(name, podman, uv_image, pip_image)
                    for name in arguments.contenders
                ]
                images = Builds(self.environment, contenders, self.results, self.relay, self.work)
                images.measure(arguments.figures, turns=arguments.turns)
            if "cluster" in arguments.figures:
                ours = self._imagesync("docker", self.root)
                ours.build(FIRST)
                measure_cluster(ours.image, self.environment.size, self.results, turns=arguments.turns)
                ours.close()

    @property
    def _folder(self) -> Path:
        return self.work / self.environment.size

    def _without_engine(self, name: str, stack: contextlib.ExitStack) -> ImageContender:
        """Return what takes its base from a registry on this machine; pyoci's must answer by TLS."""
        registries = self.work / "registries"
        if name == "oci":
            base = stack.enter_context(base_registry(self.base.reference, registries)).target()
            return self._imagesync("oci", base)
        (registries / "certificates").mkdir(parents=True, exist_ok=True)
        certificates = make_certificates(registries / "certificates")
        bases = stack.enter_context(base_registry(self.base.reference, registries, certificates))
        engine, files = DockerBuilder(self.engine), self._folder / "pyoci"
        return Pyoci(self.environment, self.base.minor, bases, files, self.tools, engine)

    def _imagesync(self, builder: str, base: str) -> Imagesync:
        store, engine = self._folder / f"store-{builder}", DockerBuilder(self.engine)
        return Imagesync(builder, self.environment, base, store, self.relay.url, engine)

    def _contender(self, name: str, podman: PodmanBuilder, uv_image: str, pip_image: str) -> ImageContender:
        if name == "imagesync":
            return self._imagesync("docker", self.root)
        program, _, kind = name.partition("-")
        builder = podman if program == "podman" else DockerBuilder(self.engine)
        title, kind = (name, name) if program == "conda" else (f"{program.capitalize()}, {kind}", kind)
        session = self.results.session.replace(":", "")
        return Dockerfile(
            title,
            kind,
            builder,
            self.environment,
            pip_image if kind == "pip" else self.base.reference,
            uv_image,
            self._folder / name,
            session,
            self.tools,
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; all if none is named"
    )
    parser.add_argument("--turns", type=int, default=3, help="commands without a build take twice as many")
    parser.add_argument("--size", choices=SIZES, default="S", help="which environment")
    parser.add_argument(
        "--contenders",
        type=lambda text: text.split(","),
        help=f"who builds images, separated by commas, of {', '.join(CONTENDERS)}",
    )
    parser.add_argument(
        "--base", default=os.environ.get("IMAGESYNC_BASE", Settings().base), help="the root image"
    )
    parser.add_argument("--results", type=Path, default=FILE, help="the file of results")
    arguments = parser.parse_args()
    unknown = {*arguments.figures} - {*FIGURES}
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    # pip and uv make no image of a conda environment, and conda-pack none of another.
    conda = ("imagesync", "oci", "conda-pack")
    possible: tuple[str, ...] = conda if arguments.size == "C" else CONTENDERS[:-1]
    for program, names in (("podman", ("podman-pip", "podman-uv")), ("skopeo", ("oci", "pyoci"))):
        if not shutil.which(program):
            possible = tuple(name for name in possible if name not in names)
    arguments.contenders = arguments.contenders or list(possible)
    if unknown := {*arguments.contenders} - {*possible}:
        parser.error(f"no such contender for size {arguments.size}: {', '.join(sorted(unknown))}")
    arguments.figures = arguments.figures or list(FIGURES)
    return arguments


if __name__ == "__main__":
    run_script(main)
