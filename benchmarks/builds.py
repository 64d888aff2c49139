"""The figures of images: built, pushed, run and compared, by imagesync and by what one uses without it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.counting import Relay
from benchmarks.environments import BIN, HEAVY, LIGHT, Environment, run
from benchmarks.measure import Contender, Run, run_once
from benchmarks.registries import Certificates, Registry, registry
from benchmarks.results import Results
from benchmarks.rivals import DockerBuilder
from imagesync.errors import ImagesyncError

# In this order, because each finds what the one before has left.
WORKS = ("cold", "warm", "unchanged", "light", "heavy", "edit")
FIGURES = (*WORKS, "import")
# Not measured: makes, or finds, the image that the works after it stand on.
FIRST = "first"


class ImageContender(Protocol):
    """What makes an image of an environment, again and again."""

    @property
    def name(self) -> str:
        """Return the name in tables."""

    @property
    def certificates(self) -> Certificates | None:
        """Return those of a registry that it can push to, if that must answer by TLS."""

    def start_turn(self, turn: int) -> None:
        """Forget what the turn before has cached."""

    def prepare(self, work: str) -> None:
        """Do what isn't measured, before :meth:`build`."""

    def build(self, work: str) -> Mapping[str, float]:
        """Make the image: one of :data:`WORKS`, or :data:`FIRST`."""

    def push(self, target: str) -> None:
        """Push the image under a name."""

    def load(self) -> None:
        """Put the image where it can be run."""

    def layers(self) -> tuple[str, ...]:
        """Return the digests of its layers."""

    def size(self) -> int:
        """Return its uncompressed size, in bytes."""

    def import_pandas(self) -> Mapping[str, float]:
        """Run a container that imports pandas, to its end."""

    def version(self, package: str) -> str:
        """Raise an error unless the image has the environment's version of *package*."""

    def close(self) -> None:
        """Remove what it made."""


@dataclass
class Imagesync:
    """The command line, each time a whole process.

    Parameters
    ----------
    builder
        ``docker``, which ends with an image in the engine, or ``oci``, which ends with an OCI layout.
    base
        The root image, or for ``oci`` the image that ``docker`` makes of it, in a registry.
    docker_host
        Where the engine answers.
    """

    builder: str
    environment: Environment
    base: str
    store: Path
    docker_host: str
    engine: DockerBuilder
    _made: list[str] = field(default_factory=list)
    _described: dict[str, Any] = field(default_factory=dict)
    _repository: str = "imagesync-bench"

    @property
    def name(self) -> str:
        """Return the name in tables."""
        return "imagesync" if self.builder == "docker" else "imagesync, no engine"

    @property
    def certificates(self) -> Certificates | None:
        """Return those of a registry that it can push to, if that must answer by TLS."""
        return None

    @property
    def image(self) -> str:
        """Return the ID of the last image."""
        return str(self._described["image_id"])

    def start_turn(self, turn: int) -> None:
        """Do nothing: `cold` empties the store."""

    def prepare(self, work: str) -> None:
        """Empty the store, if the build is to find nothing but the base image."""
        if work == "cold":
            shutil.rmtree(self.store, ignore_errors=True)
            if self.builder == "oci":
                empty = self.store.with_name("empty")
                run(BIN / "uv", "venv", "--quiet", "--clear", "--python", self.environment.python, empty)
                self._imagesync(python=empty / "bin" / "python")

    def build(self, work: str) -> Mapping[str, float]:
        """Build or find the image."""
        self._imagesync(*(["--no-cache"] if work in ("cold", "warm") else []))
        if work != FIRST and self._described["cached"] != (work == "unchanged"):
            raise RuntimeError(f"{self.name}, {work}: {'found' if self._described['cached'] else 'built'}")
        return {}

    def push(self, target: str) -> None:
        """Push the image, which the command finds again."""
        self._repository = target.rpartition(":")[0]
        self._imagesync("--push")
        self._repository = "imagesync-bench"

    def layers(self) -> tuple[str, ...]:
        """Return the digests of the image's layers, compressed ones without an engine."""
        if self.builder == "docker":
            return self.engine.layers(self._described["image_id"])
        return tuple(layer["digest"] for layer in self._manifest()["layers"])

    def size(self) -> int:
        """Return the uncompressed size, in bytes; without an engine by loading the image into one."""
        return self.engine.size(self._loaded())

    def import_pandas(self) -> Mapping[str, float]:
        """Run a container that imports pandas, to its end."""
        self.engine.run(self._loaded(), "python", "-c", "import pandas")
        return {}

    def version(self, package: str) -> str:
        """Raise an error unless the image has the environment's version of *package*."""
        version = self.environment.pins()[package]
        if self.builder == "docker":
            code = f"import importlib.metadata as m; assert m.version('{package}') == '{version}'"
            self.engine.run(self._described["image_id"], "python", "-c", code)
        return version

    def close(self) -> None:
        """Remove the images, the shared ones that they stand on, and the store."""
        for image in dict.fromkeys(self._made):
            for name in (image, *self.engine.stands_on(image)):
                self.engine.remove(name)
        shutil.rmtree(self.store, ignore_errors=True)

    def load(self) -> None:
        """Put an image that was built without an engine into one, so that it can be run."""
        if self.builder == "oci":
            self._imagesync("--output", "docker")
            self._made.append(self._loaded())

    def _loaded(self) -> str:
        return str(self._described["image_id" if self.builder == "docker" else "reference"])

    def _imagesync(self, *arguments: str, python: Path | None = None) -> None:
        described = self.store.with_name(f"{self.store.name}.json")
        python = python or self.environment.python
        environment = ("--python", python, "--base", self.base, "--builder", self.builder)
        names = ("--repository", self._repository, "--cache-dir", self.store, "--metadata-file", described)
        environ = {"DOCKER_HOST": self.docker_host}
        run(BIN / "imagesync", "build", *environment, *names, *arguments, environ=environ)
        self._described = json.loads(described.read_text("utf-8"))
        if self.builder == "docker":
            self._made.append(self._described["image_id"])

    def _manifest(self) -> dict[str, Any]:
        layout = self.store / "images"
        index = json.loads((layout / "index.json").read_text("utf-8"))
        digest = index["manifests"][-1]["digest"].removeprefix("sha256:")
        manifest: dict[str, Any] = json.loads((layout / "blobs" / "sha256" / digest).read_text("utf-8"))
        return manifest


@dataclass(frozen=True)
class Builds:
    """Measures the works of all contenders in turns.

    Parameters
    ----------
    engine_relay
        Counts what goes to the engine.
    """

    environment: Environment
    contenders: Sequence[ImageContender]
    results: Results
    engine_relay: Relay
    work: Path
    _failed: set[str] = field(default_factory=set)

    def measure(self, figures: Sequence[str], *, turns: int) -> None:
        """Measure the figures named, each turn all of them."""
        works = [name for name in WORKS if name in figures]
        if self.environment.size == "C":  # the tests' channel has one version of each package
            works = [name for name in works if name not in ("light", "heavy")]
        try:
            for turn in range(turns):
                self._turn(works, turn, with_import="import" in figures)
                self.environment.restore()
        finally:
            self.environment.restore()
            for contender in self.contenders:
                contender.close()

    def _turn(self, works: Sequence[str], turn: int, *, with_import: bool) -> None:
        with contextlib.ExitStack() as stack:
            registries = {
                contender.name: stack.enter_context(
                    registry(self.work / "registries", contender.certificates)
                )
                for contender in self._working
            }
            for contender in self._working:
                contender.start_turn(turn)
            if not works or works[0] not in ("cold", "warm"):
                for contender in self._working:
                    with self._or_without(contender):
                        contender.prepare(FIRST)
                        contender.build(FIRST)
                        contender.push(registries[contender.name].target())
            for work in works:
                self._change(work, turn)
                for contender in self._working:
                    with self._or_without(contender):
                        self._work(contender, work, turn, registries[contender.name])
            if with_import:
                self._import(turn)

    @contextlib.contextmanager
    def _or_without(self, contender: ImageContender) -> Iterator[None]:
        """Say what failed, so that the others are measured all the same."""
        try:
            yield
        except (RuntimeError, ImagesyncError, OSError) as error:
            print(f"{contender.name} failed: {error}", file=sys.stderr, flush=True)
            self._failed.add(contender.name)

    @property
    def _working(self) -> list[ImageContender]:
        return [contender for contender in self.contenders if contender.name not in self._failed]

    def _change(self, work: str, turn: int) -> None:
        """Change the environment, as a person does before the build."""
        for name, (package, versions) in (("light", LIGHT), ("heavy", HEAVY)):
            if work == name:
                self.environment.change(package, versions[turn % len(versions)])
        if work == "edit":
            self.environment.edit()

    def _work(self, contender: ImageContender, work: str, turn: int, target: Registry) -> None:
        """Measure the build, and then the push."""
        before = contender.layers() if work == "warm" else ()
        contender.prepare(work)
        built = self._counted(lambda: contender.build(work), self._sent_to_engine)
        layers = contender.layers()
        counted = {**built.counted, "layers": len(layers)}
        if before:
            counted["same layers"] = sum(a == b for a, b in zip(layers, before, strict=False))
        if work in ("light", "heavy"):
            contender.version({"light": LIGHT, "heavy": HEAVY}[work][0])
        self._add(work, contender, turn, replace(built, counted=counted))

        def push() -> Mapping[str, float]:
            contender.push(target.target())
            return {}

        pushed = self._counted(push, target.counted)
        counted = dict(pushed.counted)
        if work == "cold":
            counted["compressed"] = target.compressed()
        self._add(f"{work}, push", contender, turn, replace(pushed, counted=counted))

    def _sent_to_engine(self) -> dict[str, int]:
        requests, sent = self.engine_relay.counted()
        return {"engine requests": requests, "engine bytes": sent}

    @staticmethod
    def _counted(contender: Contender, count: Callable[[], Mapping[str, int]]) -> Run:
        before = count()
        run = run_once(contender)
        return replace(
            run, counted={**run.counted, **{name: total - before[name] for name, total in count().items()}}
        )

    def _import(self, turn: int) -> None:
        for contender in self._working:
            with self._or_without(contender):
                contender.load()
                contender.import_pandas()  # what was just written is read once
        for contender in self._working:
            with self._or_without(contender):
                run = run_once(contender.import_pandas)
                counted = {"size": contender.size(), "layers": len(contender.layers())}
                self._add("import", contender, turn, replace(run, counted=counted))

    def _add(self, figure: str, contender: ImageContender, turn: int, run: Run) -> None:
        counted = ", ".join(f"{name} {value:.0f}" for name, value in run.counted.items())
        print(f"{figure}, {contender.name}: {run.seconds:.2f} s; {counted}", flush=True)
        self.results.add(figure, self.environment.size, contender.name, turn, run)
