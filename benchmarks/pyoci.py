"""Images by pyoci, which copies a project and its virtual environment on a base, without an engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import Environment, run
from benchmarks.registries import Certificates, Registry
from benchmarks.rivals import DockerBuilder

_IMAGE = "imagesync-bench-pyoci:latest"
_PACKAGES = "/app/.venv/lib/python{minor}/site-packages"


@dataclass
class Pyoci:
    """pyoci's command line, with the files of the environment (``--include-deps``) and a cache.

    Parameters
    ----------
    bases
        The registry that has the base image, by TLS: pyoci knows no other, and reads no engine's images.
    files
        The folder of the project, as a person has it: with its ``.venv``.
    """

    environment: Environment
    python_minor: str
    bases: Registry
    files: Path
    tools: Path
    engine: DockerBuilder

    @property
    def name(self) -> str:
        """Return the name in tables."""
        return "pyoci"

    @property
    def certificates(self) -> Certificates | None:
        """Return those of a registry that it can push to, which must answer by TLS."""
        return self.bases.certificates

    def start_turn(self, turn: int) -> None:
        """Do nothing: `cold` removes what was written."""

    def prepare(self, work: str) -> None:
        """Write the project as it is now, and forget all but the base if nothing is to be cached."""
        if work == "cold":
            shutil.rmtree(self.files, ignore_errors=True)
            shutil.copytree(self.environment.project, self.files)
            self._pyoci()
        shutil.copytree(self.environment.project, self.files, dirs_exist_ok=True)
        venv = self.files / ".venv"
        if not venv.is_symlink():
            venv.symlink_to(self.environment.prefix)

    def build(self, work: str) -> Mapping[str, float]:
        """Write the image into an OCI layout."""
        self._build(*(["--no-cache"] if work in ("cold", "warm") else []))
        return {}

    def push(self, target: str) -> None:
        """Build and push the image: pyoci has no command that only pushes."""
        self._build("--push", "--registry", target)

    def layers(self) -> tuple[str, ...]:
        """Return the digests of the layers: those of the base are compressed, and the others aren't."""
        (described,) = self._read("index.json")["manifests"]
        manifest = self._read(f"blobs/sha256/{described['digest'].removeprefix('sha256:')}")
        return tuple(layer["digest"] for layer in manifest["layers"])

    def size(self) -> int:
        """Return the uncompressed size, in bytes."""
        return self.engine.size(_IMAGE)

    def load(self) -> None:
        """Put the image into the engine, as pyoci's documentation does it."""
        run("skopeo", "copy", "--quiet", f"oci:{self._layout}", f"docker-daemon:{_IMAGE}")

    def import_pandas(self) -> Mapping[str, float]:
        """Run a container that imports pandas, to its end."""
        self._python("import pandas")
        return {}

    def version(self, package: str) -> str:
        """Raise an error unless the image has the environment's version of *package*."""
        version = self.environment.pins()[package]
        self.load()
        self._python(f"import importlib.metadata as m; assert m.version('{package}') == '{version}'")
        return version

    def close(self) -> None:
        """Remove the image, and all files."""
        self.engine.remove(_IMAGE)
        shutil.rmtree(self.files, ignore_errors=True)

    @property
    def _layout(self) -> Path:
        return self.files / "dist" / "image"

    def _build(self, *arguments: str) -> None:
        # It leaves out what says where packages are: `.venv/bin` and `pyvenv.cfg`.
        path = f"{_PACKAGES.format(minor=self.python_minor)}:/app/src"
        self._pyoci("--include-deps", "--env", f"PYTHONPATH={path}", *arguments)

    def _pyoci(self, *arguments: str) -> None:
        names = ("--tag", _IMAGE, "--base-image", self.bases.target(), "--cache-dir", self.files / "cache")
        assert self.bases.certificates is not None
        environ = {"SSL_CERT_FILE": str(self.bases.certificates[0])}
        command: tuple[str | Path, ...] = (self.tools / "pyoci", "build", *names, "--no-progress", *arguments)
        run(*command, cwd=self.files, environ=environ)

    def _python(self, code: str) -> None:
        run("docker", "run", "--rm", "--entrypoint", "python3", _IMAGE, "-c", code)

    def _read(self, path: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self._layout / path).read_text("utf-8"))
        return read
