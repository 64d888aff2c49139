"""The figure "edit": from a changed line of an editable project to a tagged image."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Contender, in_turns
from benchmarks.report import Figure
from benchmarks.subjects import Imagesync, LocalEnvironment, PlainDockerfile, clean_environ
from imagesync.core.platforms import LINUX_AMD64
from imagesync.engine.build_context import BuildRequest
from tests.engine_proxy import EngineProxy

BACKENDS = {
    "hatchling": ("hatchling", "hatchling.build"),
    "flit": ("flit_core>=3.8", "flit_core.buildapi"),
    "setuptools": ("setuptools>=61", "setuptools.build_meta"),
}
LIMITS = {"hatchling": 2.5, "flit": 2.5, "setuptools": 4.0}
_NAME = "heron"


@dataclass(frozen=True)
class Project:
    """A project of two modules, installed editable.

    Parameters
    ----------
    backend
        A key of :data:`BACKENDS`.
    """

    folder: Path
    backend: str
    _lines: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def install(self, environment: LocalEnvironment) -> None:
        """Write the project anew, and install it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        package = self.folder / "src" / _NAME
        package.mkdir(parents=True)
        requirement, backend = BACKENDS[self.backend]
        (self.folder / "pyproject.toml").write_text(
            f'[build-system]\nrequires = ["{requirement}"]\nbuild-backend = "{backend}"\n'
            f'[project]\nname = "{_NAME}"\nversion = "1.0"\ndescription = "A bird"\n',
            "utf-8",
        )
        (package / "__init__.py").write_text(f"from {_NAME}.core import VALUE\n", "utf-8")
        self.edit()
        _pip(environment, "install", "--editable", str(self.folder))

    def edit(self) -> None:
        """Change a line."""
        line = f"VALUE = {os.getpid()}, {next(self._lines)}\n"
        (self.folder / "src" / _NAME / "core.py").write_text(line, "utf-8")

    def remove(self, environment: LocalEnvironment) -> None:
        """Leave the environment as it was."""
        _pip(environment, "uninstall", "--yes", _NAME)


def _pip(environment: LocalEnvironment, *arguments: str) -> None:
    command = [str(environment.python), "-m", "pip", "--quiet", *arguments]
    subprocess.run(command, check=True, env=clean_environ())


@dataclass(frozen=True)
class CopyAndInstall:
    """The Dockerfile that one writes for quick edits: packages below, then ``COPY`` and ``pip install``.

    The layers below the ``COPY`` are in the builder's cache, as they are for whoever has built before.
    """

    plain: PlainDockerfile
    project: Project

    def build(self) -> str:
        """Build it, and return the image's ID."""
        steps = (
            "USER 0:0",
            "COPY project /tmp/project",
            "RUN pip install --no-deps /tmp/project",
            "USER 1000:1000",
        )
        context = self.plain.context(*steps, project=self.project.folder)
        request = BuildRequest("default", LINUX_AMD64.name, build_args=self.plain.index_arguments())
        return self.plain.engine.build([context], request, progress=self.plain.progress)


def measure_edit(ours: Imagesync, plain: PlainDockerfile, *, backend: str, work: Path, turns: int) -> Figure:
    """Return the figure of one backend, each turn after an edit of a line."""
    project = Project(work / f"project-{backend}", backend)
    rival = CopyAndInstall(plain, project)
    made: list[str] = []
    project.install(ours.environment)
    try:

        def build_ours() -> Mapping[str, int]:
            project.edit()
            with EngineProxy() as proxy:
                made.append(ours.image(docker_host=proxy.url))
                return {"requests": len(proxy.requests), "bytes sent": proxy.sent}

        def build_rival() -> Mapping[str, int]:
            project.edit()
            made.append(rival.build())
            return {}

        contenders: dict[str, Contender] = {
            "imagesync build": build_ours,
            "COPY and pip install": build_rival,
        }
        runs = in_turns(contenders, runs=turns, warm_up=True)
    finally:
        project.remove(ours.environment)
        for image in made:
            plain.engine.remove(image)
    return Figure(
        f"edit of one line, {backend}",
        "imagesync build",
        "COPY and pip install",
        runs,
        limit=LIMITS[backend],
    )
