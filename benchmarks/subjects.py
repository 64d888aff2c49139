"""What the benchmarks of builders and pushes compare: imagesync's command line, and a Dockerfile."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from benchmarks.environments import clean_environ
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import Progress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.engine import Engine

REPOSITORY = "imagesync-bench"
_NAME = "heron"
# How a plain Dockerfile installs its requirements; the first is what the goals are about.
INSTALLERS = {
    "pip": "pip install --no-cache-dir -r /tmp/requirements.txt",
    "newest pip": "pip install --quiet --upgrade pip && pip install --no-cache-dir -r /tmp/requirements.txt",
    # Wheels stay in the builder's cache, so that a second build fetches none.
    "uv with cache mounts": "SSL_CERT_FILE=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}"
    " uv pip install --link-mode=copy --compile-bytecode -r /tmp/requirements.txt",
    "uv": "SSL_CERT_FILE=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}"
    " uv pip install --no-cache --compile-bytecode -r /tmp/requirements.txt",
}


@dataclass(frozen=True)
class LocalEnvironment:
    """A virtual environment made for benchmarks, with the newest pip in it."""

    folder: Path

    @property
    def python(self) -> Path:
        """Return its interpreter."""
        return self.folder / "bin" / "python"

    def installed(self) -> list[str]:
        """Return ``name==version`` of all it holds, sorted, without a project that a killed run has left."""
        command = [str(self.python), "-m", "pip", "list", "--format=json", "--exclude-editable"]
        listed = subprocess.run(command, check=True, capture_output=True, env=clean_environ()).stdout
        return sorted(f"{entry['name']}=={entry['version']}" for entry in json.loads(listed))


def make_environment(folder: Path, *, python: str, requirements: tuple[str, ...]) -> LocalEnvironment:
    """Make the environment, or take it as an earlier call left it."""
    done = folder / "requirements.in"
    wanted = "\n".join((python, *requirements))
    environment = LocalEnvironment(folder)
    if done.is_file() and done.read_text("utf-8") == wanted:
        return environment
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    for arguments in (["--upgrade", "pip"], list(requirements)):
        command = [str(environment.python), "-m", "pip", "install", "--quiet", *arguments]
        subprocess.run(command, check=True, env=clean_environ())
    done.write_text(wanted, "utf-8")
    return environment


@dataclass(frozen=True)
class Imagesync:
    """The command line, as a whole process, for one environment."""

    environment: LocalEnvironment
    base: str
    store: Path
    work: Path

    def scan(self) -> Mapping[str, float]:
        """Run ``imagesync scan``."""
        self._run("scan", "--python", str(self.environment.python), "--format", "json")
        return {}

    def cold(self, *, empty_store: bool) -> Mapping[str, float]:
        """Run a build that finds neither its image nor, if *empty_store*, any artifact."""
        if empty_store:
            shutil.rmtree(self.store, ignore_errors=True)
        metadata = self.make("--no-cache")
        if metadata["cached"]:
            raise RuntimeError("the build was meant to build, and hit")
        return {"deviations": len(metadata["deviations"])}

    def image(self, *, docker_host: str | None = None) -> str:
        """Return the ID of the environment's image, built if need be."""
        return str(self.make(docker_host=docker_host)["image_id"])

    def make(self, *arguments: str, docker_host: str | None = None) -> dict[str, Any]:
        """Return the description of the image that ``imagesync build`` writes."""
        metadata = self.work / "metadata.json"
        environment = ["--python", str(self.environment.python), "--base", self.base]
        names = ["--repository", REPOSITORY, "--cache-dir", str(self.store), "--metadata-file", str(metadata)]
        self._run("build", *environment, *names, *arguments, docker_host=docker_host)
        content: dict[str, Any] = json.loads(metadata.read_text("utf-8"))
        return content

    def _run(self, *arguments: str, docker_host: str | None = None) -> bytes:
        environ = clean_environ() | ({"DOCKER_HOST": docker_host} if docker_host else {})
        command = [str(Path(sys.executable).with_name("imagesync")), *arguments]
        done = subprocess.run(command, cwd=self.work, env=environ, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
        return done.stdout


@dataclass(frozen=True)
class PlainDockerfile:
    """The Dockerfile one would write: ``pip install -r requirements.txt`` on the same base, over the network.

    Parameters
    ----------
    engine
        Builds it through the same BuildKit API as imagesync's own builds.
    base
        The very image that imagesync's image stands on, so that making it is in neither time.
    installer
        A key of :data:`INSTALLERS`.
    """

    engine: Engine
    base: str
    requirements: tuple[str, ...]
    progress: Progress
    installer: str = "pip"

    def build(self) -> str:
        """Build without the builder's cache, and return the image's ID."""
        request = BuildRequest("default", LINUX_AMD64.name, build_args=self.index_arguments(), no_cache=True)
        return self.engine.build([self.context()], request, progress=self.progress)

    def index_arguments(self) -> dict[str, str]:
        """Return the build arguments that name the index."""
        url = os.environ.get("PIP_INDEX_URL")
        return {"PIP_INDEX_URL": url} if url else {}

    def _dockerfile(self, *, certificate: bool) -> str:
        lines = [
            f"FROM {self.base}",
            "USER 0:0",
            "ARG PIP_INDEX_URL",
            "ENV PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV=/opt/env PATH=/opt/env/bin:${PATH}",
            # What this machine trusts, the container must trust too: a company's proxy has its own authority.
            "COPY ca.pem /tmp/ca.pem\nARG PIP_CERT=/tmp/ca.pem" if certificate else "",
            "COPY requirements.txt /tmp/requirements.txt",
            # As from uv's own image; the base's Python need not have ensurepip for it.
            "COPY uv /usr/local/bin/uv" if self._has_uv else "",
            f"RUN {self._mounts}{self._venv} /opt/env && {INSTALLERS[self.installer]}",
            "USER 1000:1000",
        ]
        return "\n".join(line for line in lines if line) + "\n"

    @property
    def _has_uv(self) -> bool:
        return self.installer.startswith("uv")

    @property
    def _venv(self) -> str:
        return "uv venv --quiet --python python3" if self._has_uv else "python3 -m venv"

    @property
    def _mounts(self) -> str:
        return "--mount=type=cache,target=/root/.cache " if "cache mounts" in self.installer else ""

    def context(self, *steps: str, project: Path | None = None) -> bytes:
        """Return the build context, with further steps and the folder ``project`` if they are given."""
        certificate = os.environ.get("PIP_CERT") or os.environ.get("REQUESTS_CA_BUNDLE")
        files = {
            "Dockerfile": "\n".join([self._dockerfile(certificate=certificate is not None), *steps]).encode(),
            "requirements.txt": "".join(f"{line}\n" for line in self.requirements).encode(),
        }
        if certificate is not None:
            files["ca.pem"] = Path(certificate).read_bytes()
        if self._has_uv:
            files["uv"] = Path(find_uv_bin()).read_bytes()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                member.mode = 0o755 if name == "uv" else 0o644
                tar.addfile(member, io.BytesIO(content))
            if project is not None:
                tar.add(project, "project")
        return archive.getvalue()


@dataclass(frozen=True)
class Project:
    """A project of two modules, installed editable."""

    folder: Path
    _lines: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    def install(self, environment: LocalEnvironment) -> None:
        """Write the project anew, and install it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        package = self.folder / "src" / _NAME
        package.mkdir(parents=True)
        (self.folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
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

    Parameters
    ----------
    plain, project
        The packages below, and the project.
    install
        The command that installs it.
    """

    plain: PlainDockerfile
    project: Project
    install: str = "pip install --no-deps /tmp/project"

    def build(self) -> str:
        """Build it, and return the image's ID."""
        steps = (
            "USER 0:0",
            "COPY project /tmp/project",
            f"RUN {self.install}",
            "USER 1000:1000",
        )
        context = self.plain.context(*steps, project=self.project.folder)
        request = BuildRequest("default", LINUX_AMD64.name, build_args=self.plain.index_arguments())
        return self.plain.engine.build([context], request, progress=self.plain.progress)
