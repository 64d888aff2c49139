"""Images as one makes them without imagesync, each as its own documentation advises."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from uv import find_uv_bin

from benchmarks.environments import BIN, Environment, clean_environ, run
from benchmarks.registries import Certificates
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest, ContextFile
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import PACKAGES_REPOSITORY
from imagesync.image_layout import Label, image_tag

# What this machine trusts, a step must trust, too: a company's proxy has its own authority.
_CA = "/tmp/ca.pem"
_TRUST = f"--mount=type=bind,source=ca.pem,target={_CA} "
_PIP = f"PIP_CERT={_CA} pip install --no-cache-dir"
_UV = f"SSL_CERT_FILE={_CA} uv sync --locked --no-dev --no-editable"


class ImageBuilder(Protocol):
    """What makes images from one Dockerfile and its context."""

    @property
    def bind_mounts_count(self) -> bool:
        """Return whether a step is done again if a file that it mounts changes."""

    def build(self, files: Path, *, no_cache: bool) -> str:
        """Return the ID of the image."""

    def push(self, image: str, reference: str) -> None:
        """Push an image under a name."""

    def layers(self, image: str) -> tuple[str, ...]:
        """Return the digests of the uncompressed layers."""

    def size(self, image: str) -> int:
        """Return the uncompressed size, in bytes."""

    def run(self, image: str, *command: str) -> None:
        """Run a command in a container."""

    def remove(self, image: str) -> None:
        """Remove an image."""


@dataclass(frozen=True)
class DockerBuilder:
    """Docker Engine with BuildKit, by the same API as imagesync's own builds."""

    engine: Engine
    bind_mounts_count: bool = True

    def build(self, files: Path, *, no_cache: bool) -> str:
        """Return the ID of the image."""
        context = [
            ContextFile.from_file(path.relative_to(files).as_posix(), path)
            for path in [files / "Dockerfile", *sorted(set(files.rglob("*")) - {files / "Dockerfile"})]
            if path.is_file()
        ]
        request = BuildRequest("default", LINUX_AMD64.name, no_cache=no_cache)
        return self.engine.build_files(context, request, progress=SilentProgress())

    def push(self, image: str, reference: str) -> None:
        """Push an image under a name."""
        self.engine.tag(image, reference)
        self.engine.push(reference, progress=SilentProgress())

    def layers(self, image: str) -> tuple[str, ...]:
        """Return the digests of the uncompressed layers."""
        template = "{{range .RootFS.Layers}}{{println .}}{{end}}"
        return tuple(run("docker", "inspect", "--format", template, image).split())

    def size(self, image: str) -> int:
        """Return the uncompressed size, in bytes."""
        return int(run("docker", "inspect", "--format", "{{.Size}}", image))

    def stands_on(self, image: str) -> tuple[str, ...]:
        """Return the image of packages that an image of imagesync begins with."""
        found = self.engine.inspect(image)
        digest = found.labels.get(Label.PACKAGES_HASH, "") if found is not None else ""
        return (f"{PACKAGES_REPOSITORY}:{image_tag(digest)}",) if digest else ()

    def run(self, image: str, *command: str) -> None:
        """Run a command in a container."""
        run("docker", "run", "--rm", image, *command)

    def remove(self, image: str) -> None:
        """Remove an image, with its names."""
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


@dataclass(frozen=True)
class PodmanBuilder:
    """Podman, which builds by Buildah, with a storage of its own.

    Its cache doesn't see what a bind mount holds (Buildah 1.28), so files that decide are copied.
    """

    folder: Path
    bind_mounts_count: bool = False

    def start(self, archive: Path) -> None:
        """Load the base and uv, as ``docker save`` wrote them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Podman's own defaults ask for higher limits than this machine may give.
        (self.folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
        )
        self._podman("load", "--quiet", "--input", archive)

    def stop(self) -> None:
        """Remove everything that it stored."""
        self._podman("system", "reset", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _podman(self, *arguments: str | Path) -> str:
        folders = ("--root", self.folder / "root", "--runroot", self.folder / "run")
        options = (*folders, "--runtime", "runc", "--cgroup-manager", "cgroupfs")
        environ = {"CONTAINERS_CONF": str(self.folder / "containers.conf")}
        return run("podman", *options, *arguments, environ=environ)

    def build(self, files: Path, *, no_cache: bool) -> str:
        """Return the ID of the image."""
        names = ["--quiet", "--layers", f"--no-cache={str(no_cache).lower()}", "--format", "docker"]
        return self._podman("build", *names, files).split()[-1]

    def push(self, image: str, reference: str) -> None:
        """Push an image under a name."""
        self._podman("push", "--quiet", "--tls-verify=false", image, f"docker://{reference}")

    def layers(self, image: str) -> tuple[str, ...]:
        """Return the digests of the uncompressed layers."""
        template = "{{range .RootFS.Layers}}{{println .}}{{end}}"
        return tuple(self._podman("image", "inspect", "--format", template, image).split())

    def size(self, image: str) -> int:
        """Return the uncompressed size, in bytes."""
        return int(self._podman("image", "inspect", "--format", "{{.Size}}", image))

    def run(self, image: str, *command: str) -> None:
        """Run a command in a container."""
        self._podman("run", "--rm", "--network", "host", image, *command)

    def remove(self, image: str) -> None:
        """Do nothing: the storage goes as a whole."""


@dataclass
class Dockerfile:
    """An image of a Dockerfile: of pip, or the multi-stage one of uv's Docker guide.

    Parameters
    ----------
    name
        Such as ``Docker, uv``.
    kind
        ``pip``, ``uv`` or ``conda-pack``.
    base
        The image that imagesync's image stands on, too, so that making it is in nobody's time; pip's has pip.
    files
        The folder of the context.
    session
        Makes the caches of this session its own.
    """

    name: str
    kind: str
    builder: ImageBuilder
    environment: Environment
    base: str
    uv_image: str
    files: Path
    session: str
    tools: Path
    _image: str = ""
    _turn: int = 0
    _made: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        """Return the ID of the last image."""
        return self._image

    @property
    def certificates(self) -> Certificates | None:
        """Return those of a registry that it can push to, if that must answer by TLS."""
        return None

    def start_turn(self, turn: int) -> None:
        """Take a new cache mount: nothing of the turn before is in it."""
        self._turn = turn

    def prepare(self, work: str) -> None:
        """Write the context: what a person has in a repository before the build."""
        if work not in ("warm", "unchanged"):
            self._write_context()
        if work == "unchanged":
            # Builds with --no-cache, as those before, leave little of what others reuse (Buildah no stage).
            self._made.append(self.builder.build(self.files, no_cache=False))

    def build(self, work: str) -> Mapping[str, float]:
        """Build the image."""
        if self.kind == "conda-pack":
            pack = (
                "--prefix",
                self.environment.prefix,
                "--output",
                self.files / "env.tar",
                "--format",
                "tar",
            )
            options = ("--quiet", "--force", "--ignore-editable-packages", "--ignore-missing-files")
            run(self.tools / "conda-pack", *pack, *options)
        self._image = self.builder.build(self.files, no_cache=work in ("cold", "warm"))
        self._made.append(self._image)
        return {}

    def push(self, target: str) -> None:
        """Push the last image."""
        self.builder.push(self._image, target)

    def load(self) -> None:
        """Do nothing: the image is where it was built."""

    def layers(self) -> tuple[str, ...]:
        """Return the digests of the last image's layers."""
        return self.builder.layers(self._image)

    def size(self) -> int:
        """Return the uncompressed size of the last image, in bytes."""
        return self.builder.size(self._image)

    def import_pandas(self) -> Mapping[str, float]:
        """Run a container that imports pandas, to its end."""
        self.builder.run(self._image, "python", "-c", "import pandas")
        return {}

    def version(self, package: str) -> str:
        """Raise an error unless the last image has the environment's version of *package*."""
        version = self.environment.pins()[package]
        code = f"import importlib.metadata as m; assert m.version('{package}') == '{version}'"
        self.builder.run(self._image, "python", "-c", code)
        return version

    def close(self) -> None:
        """Remove the images."""
        for image in dict.fromkeys(self._made):
            self.builder.remove(image)

    def _write_context(self) -> None:
        shutil.rmtree(self.files, ignore_errors=True)
        shutil.copytree(self.environment.project, self.files / "app")
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", self.files / "ca.pem")
        pins = [f"{name}=={version}" for name, version in sorted(self.environment.pins().items())]
        note = f"# {self.session}\n"  # no step of an earlier session counts as done
        if self.kind == "pip":
            (self.files / "requirements.txt").write_text(note + "\n".join(pins) + "\n", "utf-8")
        elif self.kind == "uv":
            project = self.files / "app" / "pyproject.toml"
            with project.open("a", encoding="utf-8") as file:
                file.write(f"[tool.uv]\nconstraint-dependencies = {pins!r}\n{note}")
            run(BIN / "uv", "lock", "--quiet", "--python", self.environment.python, cwd=self.files / "app")
        (self.files / "Dockerfile").write_text(self._text(), "utf-8")

    def _text(self) -> str:
        return {"pip": self._pip_text, "uv": self._uv_text, "conda-pack": self._conda_pack_text}[self.kind]()

    def _pip_text(self) -> str:
        return (
            f"FROM {self.base}\nUSER 0:0\n"
            "COPY requirements.txt /tmp/requirements.txt\n"
            f"RUN {_TRUST}{_PIP} -r /tmp/requirements.txt\n"
            f"COPY app /app\nRUN {_TRUST}{_PIP} --no-deps /app\n"
            "USER 1000:1000\n"
        )

    def _uv_text(self) -> str:
        cache = f"--mount=type=cache,id={self.files.name}-{self.session}-{self._turn},target=/root/.cache/uv "
        names = ("uv.lock", "pyproject.toml")
        copied, bound = "", ""
        if self.builder.bind_mounts_count:
            bound = "".join(f"--mount=type=bind,source=app/{name},target={name} " for name in names)
        else:
            copied = "COPY app/uv.lock app/pyproject.toml /app/\n"
        return (
            f"FROM {self.base} AS builder\nUSER 0:0\n"
            f"COPY --from={self.uv_image} /uv /bin/\n"
            "ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=0\nWORKDIR /app\n"
            f"{copied}RUN {cache}{_TRUST}{bound}{_UV} --no-install-project\n"
            f"COPY app /app\nRUN {cache}{_TRUST}{_UV}\n"
            f"FROM {self.base}\nCOPY --from=builder --chown=1000:1000 /app/.venv /app/.venv\n"
            "ENV PATH=/app/.venv/bin:$PATH\nUSER 1000:1000\n"
        )

    def _conda_pack_text(self) -> str:
        return (
            f"FROM {self.base}\nUSER 0:0\nADD env.tar /opt/env\n"
            "ENV PATH=/opt/env/bin:$PATH\nRUN conda-unpack\nUSER 1000:1000\n"
        )


def make_uv_image(engine: Engine, folder: Path) -> str:
    """Return an image with uv's executable alone, as uv publishes one that can't be pulled here."""
    version = run(find_uv_bin(), "--version").split()[1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n", "utf-8")
    files = [
        ContextFile.from_file("Dockerfile", folder / "Dockerfile"),
        ContextFile.from_file("uv", Path(find_uv_bin()), mode=0o755),
    ]
    return _build_as(f"imagesync-bench-uv:{version}", files, engine)


def make_pip_image(engine: Engine, base: str, folder: Path, tools: Path) -> str:
    """Return an image of *base* with pip in its Python, as Python's own images have it.

    pip's version is that of *tools*.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pip = (tools / "python", "-m", "pip")
    version = run(*pip, "--version").split()[1]
    run(*pip, "download", "--quiet", "--no-deps", "--dest", folder, f"pip=={version}")
    (wheel,) = folder.iterdir()
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nUSER 0:0\nENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore\n"
        f"RUN --mount=type=bind,target=/context PYTHONPATH=/context/{wheel.name}"
        f" python3 -m pip install --no-index /context/{wheel.name}"
        ' && ln -sf "$(command -v python3)" /usr/local/bin/python\n',
        "utf-8",
    )
    files = [ContextFile.from_file(name, folder / name) for name in ("Dockerfile", wheel.name)]
    return _build_as(f"imagesync-bench-pip:{version}", files, engine)


def _build_as(reference: str, files: Sequence[ContextFile], engine: Engine) -> str:
    """Build an image of *files*, without a network, and return its name."""
    image = engine.build_files(files, BuildRequest("none", LINUX_AMD64.name), progress=SilentProgress())
    engine.tag(image, reference)
    return reference


def save_images(references: tuple[str, ...], archive: Path) -> None:
    """Write images of the engine into an archive for ``podman load``."""
    with archive.open("wb") as file:
        subprocess.run(["docker", "save", *references], check=True, stdout=file, env=clean_environ())
