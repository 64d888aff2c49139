"""The build context: what is in it, that it is the same each time, and that nothing of a user's is lost."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sysconfig
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import meta
from packaging.utils import parse_wheel_filename

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.engine.build_context import stream_files
from imagesync.engine.lookup import FoundImage
from imagesync.errors import RenderError
from imagesync.image.built_image import image_of
from imagesync.image.conda.conda_installer import CondaInstaller
from imagesync.image.conda.layer import ArchiveImage, CondaLayer, archive_key
from imagesync.image.dockerfile import Wheels, make_context
from imagesync.image.dockerfile_options import run_lines, uses_cuda
from imagesync.image.image_context import BuildContext, write_context
from imagesync.image.templates import (
    CONDA_PROGRAMS,
    PROGRAMS,
    RATTLER_INSTALL,
    build_files,
    build_programs,
    dockerfile_base,
    template_environment,
)
from imagesync.image_layout import BaseImage, CopiedFile, CopiedFiles, ImageOptions, Label
from imagesync.lock.layers import from_label, shared_layer, to_label
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedConda, LockedPackage, VendoredPackage
from imagesync.loose_code.code_layer import CodeLayer
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Interpreter, Source
from imagesync.standalone.programs import program_modules
from imagesync.store.store import StoredFile
from tests.documented_values import documented_values

BASE = BaseImage(
    reference="imagesync-base:0123456789abcdef",
    root="ubuntu:24.04",
    digest="sha256:" + "a" * 64,
    image_id="sha256:" + "b" * 64,
    python_version="3.12.3",
    python_executable="/usr/bin/python3",
    glibc=(2, 39),
    base_hash="sha256:" + "c" * 64,
    apt=("curl", "libgl1"),
)

# Those that the Dockerfile starts itself.
PROGRAMS_STARTED = (
    "tools/compile_modules.py",
    "tools/install_conda.py",
    "tools/install_wheels.py",
    "tools/install_code.py",
)
RENDERED = ("Dockerfile.j2", "image/activate.sh.j2", "image/profile.sh.j2")
INTERPRETER = Interpreter("cpython", "3.12.3", "linux-x86_64", "cp312", "/usr/bin/python3", "/usr", "/usr")


def stored(folder: Path, filename: str, content: bytes = b"content") -> StoredFile:
    path = folder / hashlib.sha256(filename.encode()).hexdigest()
    path.write_bytes(content)
    return StoredFile(filename, path, "sha256:" + hashlib.sha256(content).hexdigest(), len(content))


def locked(wheel: StoredFile) -> LockedPackage:
    name, version, _, _ = parse_wheel_filename(wheel.filename)
    artifact = Artifact(wheel.filename, f"https://index.example/{wheel.filename}", wheel.digest)
    return LockedPackage(name, str(version), artifact)


def vendored(wheel: StoredFile) -> VendoredPackage:
    name, version, _, _ = parse_wheel_filename(wheel.filename)
    source = Source("directory", url="file:///src/mine")
    planned = PlannedPackage(name, str(version), Level.EXACT, f"=={version}", "local", source)
    return VendoredPackage(name, str(version), wheel.digest, planned)


class Inputs:
    """Two wheels from an index, one of the user's own, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.alder = stored(folder, "alder-1.0-py3-none-any.whl", b"alder")
        self.birch = stored(folder, "Birch.Tree-2.0-py3-none-any.whl", b"birch")
        self.mine = stored(folder, "mine-0.1+local.1-py3-none-any.whl", b"mine")
        self.bytecode = stored(folder, "alder-1.0-py3-none-any.zip", b"bytecode")
        self.code = CodeLayer(stored(folder, "code.zip", b"code"), stored(folder, "code.zip.pyc.zip", b"pyc"))
        self.uv = folder / "uv"
        self.uv.write_bytes(b"#!/bin/sh\n")
        target = Target(LINUX_AMD64, BASE.python_version, BASE.glibc)
        deviation = Deviation(
            parse_wheel_filename(self.alder.filename)[0], "1.1", "1.0", Level.EXACT, "it's $5"
        )
        self.lock = Lock(
            target, (locked(self.alder), locked(self.birch)), (vendored(self.mine),), (deviation,)
        )

    def context(self, **changes: object) -> BuildContext:
        arguments: dict[str, object] = {
            "base": BASE,
            "environment_hash": "sha256:" + "e" * 64,
            "name": "imagesync:" + "e" * 16,
            "packages": Wheels((self.alder, self.birch), (self.bytecode,)),
            "vendored": Wheels((self.mine,)),
            "installer": self.uv,
            "templates": None,
            "version": "0.1.0",
        }
        return make_context(**{"lock": self.lock, **arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    folder = tmp_path / "store"
    folder.mkdir()
    return Inputs(folder)


def archive(context: BuildContext) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(stream_files(context.files))))


def test_build_files_are_the_shipped_files_of_a_context(inputs: Inputs, tmp_path: Path) -> None:
    python = stored(tmp_path, "python-3.12.3-0.conda")
    artifact = Artifact(python.filename, f"https://channel.example/linux-64/{python.filename}", python.digest)
    package = LockedConda("python", "3.12.3", "0", "https://channel.example", "linux-64", artifact)
    context = inputs.context(
        lock=replace(inputs.lock, conda=(package,)),
        code=inputs.code,
        conda=CondaLayer(packages=(package,), archives=(python,), installer=CondaInstaller("rattler")),
    )
    tools = {file.path: file.content for file in context.files if file.path.startswith("tools/")}
    others = {path for path in tools if path.startswith("tools/installer/")} | {"tools/uv"}
    programs = build_programs(conda=True)
    assert set(tools) - others == {*programs, "tools/activate.sh", "tools/profile.sh"}
    # What the programs are put together from, and the templates that rendering reads, count in the digest.
    covered = dict(build_files())
    names = (*PROGRAMS, *CONDA_PROGRAMS)
    modules = {f"standalone/{module}" for name in names for module in program_modules(f"image.{name}")}
    templates = {f"templates/{name}" for name in templates_read(*RENDERED)}
    assert set(covered) == {*modules, *templates, RATTLER_INSTALL.name}
    assert all(tools[path] == text.encode() for path, text in programs.items())
    used = {word for word in context.dockerfile.split() if word.startswith("/mnt/tools/")}
    assert {path.replace("tools/", "/mnt/tools/") for path in PROGRAMS_STARTED} <= used


def templates_read(*names: str) -> set[str]:
    """Return templates and all those that they import, extend or include."""
    environment = template_environment(None)
    assert environment.loader is not None
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            source = environment.loader.get_source(environment, name)[0]
            waiting += filter(None, meta.find_referenced_templates(environment.parse(source)))
    return found


@pytest.mark.parametrize("image", [None, "imagesync-installer:1"])
def test_conda_installer_is_sent_or_mounted(inputs: Inputs, tmp_path: Path, image: str | None) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"library")
    python = stored(tmp_path, "python-3.12.3-0.conda")
    artifact = Artifact(python.filename, f"https://channel.example/linux-64/{python.filename}", python.digest)
    package = LockedConda("python", "3.12.3", "0", "https://channel.example", "linux-64", artifact)
    installer = CondaInstaller("rattler", rattler=(("library.so", library),), image=image)
    context = inputs.context(
        lock=replace(inputs.lock, packages=(), vendored=(), deviations=(), conda=(package,)),
        packages=Wheels(),
        vendored=Wheels(),
        conda=CondaLayer(packages=(package,), archives=(python,), installer=installer),
    )
    assert ("tools/rattler/library.so" in {file.path for file in context.files}) == (image is None)
    mounts = [line for line in context.dockerfile.splitlines() if "--mount=type=bind,from=" in line]
    assert len(mounts) == (image is not None)
    assert all(f"from={image}," in line for line in mounts)


def test_archives_of_conda_packages_are_sent_or_mounted(inputs: Inputs, tmp_path: Path) -> None:
    python = stored(tmp_path, "python-3.12.3-0.conda")
    compiled = stored(tmp_path, "python-3.12.3-0.zip", b"bytecode")
    artifact = Artifact(python.filename, f"https://channel.example/linux-64/{python.filename}", python.digest)
    package = LockedConda("python", "3.12.3", "0", "https://channel.example", "linux-64", artifact)
    image = ArchiveImage("archives:1", "/mnt/archives/0", frozenset(map(archive_key, (python, compiled))))

    def context(*images: ArchiveImage) -> BuildContext:
        installer = CondaInstaller("rattler")
        return inputs.context(
            lock=replace(inputs.lock, packages=(), vendored=(), deviations=(), conda=(package,)),
            packages=Wheels(),
            vendored=Wheels(),
            conda=CondaLayer(
                packages=(package,),
                archives=(python,),
                installer=installer,
                bytecode=(compiled,),
                images=images,
            ),
        )

    def lines(context: BuildContext, path: str) -> list[str]:
        (content,) = (file.content for file in context.files if file.path == path)
        assert isinstance(content, bytes)
        return content.decode().splitlines()

    sent, mounted = context(), context(image)
    archives = {"conda/linux-64/python-3.12.3-0.conda", "bytecode/conda/python-3.12.3-0.zip"}
    assert archives <= {file.path for file in sent.files}
    assert not archives & {file.path for file in mounted.files}
    assert lines(sent, "conda/explicit.txt") == [
        "@EXPLICIT",
        f"file:///mnt/conda/linux-64/{python.filename}#{python.digest}",
    ]
    assert lines(sent, "conda/bytecode.txt") == [
        f"file:///mnt/bytecode/{compiled.filename}#{compiled.digest}"
    ]
    for file, name in ((python, "explicit"), (compiled, "bytecode")):
        line = f"file:///mnt/archives/0/{archive_key(file)}/{file.filename}#{file.digest}"
        assert lines(mounted, f"conda/{name}.txt")[-1] == line
    assert "--mount=type=bind,source=bytecode/conda,target=/mnt/bytecode" in sent.dockerfile
    assert "source=bytecode/conda" not in mounted.dockerfile
    assert "--mount=type=bind,from=archives:1,target=/mnt/archives/0" in mounted.dockerfile


def test_archive_has_all_files_and_no_trace_of_this_machine(inputs: Inputs) -> None:
    members = archive(inputs.context(standalone=True)).getmembers()
    names = [member.name for member in members if member.isfile()]
    assert names[0] == "Dockerfile"
    assert names[1:] == sorted(names[1:])
    installer = {name for name in names if name.startswith("tools/installer/")}
    assert "tools/installer/__init__.py" in installer
    assert {name.rpartition(".")[2] for name in installer} == {"py"}
    assert set(names) - installer == {
        ".dockerignore",
        "Dockerfile",
        "README.md",
        "bytecode/index/alder-1.0-py3-none-any.zip",
        "lock.json",
        "requirements-vendored.txt",
        "requirements.txt",
        "tools/compile_modules.py",
        "tools/restore_conflicts.py",
        "tools/install_wheels.py",
        "tools/install_code.py",
        "tools/profile.sh",
        "tools/run_uv.py",
        "tools/uv",
        "wheels/index/Birch.Tree-2.0-py3-none-any.whl",
        "wheels/index/alder-1.0-py3-none-any.whl",
        "wheels/vendored/mine-0.1+local.1-py3-none-any.whl",
    }
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in members} == {
        (0, 0, "", "", 0)
    }
    assert {member.mode for member in members if member.isdir()} == {0o755}
    assert {member.name for member in members if member.isfile() and member.mode == 0o755} == {"tools/uv"}


def test_archive_is_the_same_each_time(inputs: Inputs) -> None:
    first = b"".join(stream_files(inputs.context().files))
    for file in (inputs.alder.path, inputs.uv):
        os.utime(file, (1, 1))
    turned = replace(inputs.lock, packages=inputs.lock.packages)
    again = inputs.context(lock=turned, packages=Wheels((inputs.birch, inputs.alder), (inputs.bytecode,)))
    assert b"".join(stream_files(again.files)) == first


def test_archive_has_the_announced_size(inputs: Inputs) -> None:
    context = inputs.context()
    assert sum(member.size for member in archive(context).getmembers()) == context.size


def test_file_that_shrinks_while_it_is_read_is_an_error(inputs: Inputs) -> None:
    context = inputs.context()
    inputs.alder.path.write_bytes(b"")
    with pytest.raises(RenderError, match="shorter"):
        b"".join(stream_files(context.files))


def test_large_files_are_read_in_pieces(inputs: Inputs, tmp_path: Path) -> None:
    large = stored(tmp_path, "alder-1.0-py3-none-any.whl", os.urandom(5 << 20))
    context = inputs.context(packages=Wheels((large, inputs.birch)))
    assert max(len(piece) for piece in stream_files(context.files)) <= 1 << 20
    extracted = archive(context).extractfile("wheels/index/alder-1.0-py3-none-any.whl")
    assert extracted is not None
    assert hashlib.sha256(extracted.read()).hexdigest() == large.digest.removeprefix("sha256:")


def test_requirements_are_hashed_and_separate(inputs: Inputs) -> None:
    files = {file.path: file.content for file in inputs.context().files}
    assert files["requirements.txt"] == (
        f"alder==1.0 --hash={inputs.alder.digest}\nbirch-tree==2.0 --hash={inputs.birch.digest}\n".encode()
    )
    expected = f"mine==0.1+local.1 --hash={inputs.mine.digest}\n".encode()
    assert files["requirements-vendored.txt"] == expected


def test_missing_wheel_is_named(inputs: Inputs) -> None:
    with pytest.raises(RenderError, match="no wheel was made for birch-tree"):
        inputs.context(packages=Wheels((inputs.alder,)))


def test_surplus_wheel_is_named(inputs: Inputs) -> None:
    with pytest.raises(RenderError, match="lock doesn't name: mine"):
        inputs.context(lock=replace(inputs.lock, vendored=()))


def test_labels_describe_the_image(inputs: Inputs) -> None:
    labels = inputs.context(created=1_700_000_000).labels
    assert labels["dev.imagesync.environment-hash"] == "sha256:" + "e" * 64
    assert labels["dev.imagesync.lock-digest"] == inputs.lock.digest
    assert labels["dev.imagesync.version"] == "0.1.0"
    assert json.loads(labels["dev.imagesync.deviations"])[0]["reason"] == "it's $5"
    assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert inputs.context().labels["org.opencontainers.image.created"] == "1970-01-01T00:00:00Z"
    assert labels["org.opencontainers.image.base.name"] == "ubuntu:24.04"


def test_label_names_the_imports_that_are_verified(inputs: Inputs) -> None:
    context = inputs.context(critical_imports=("alder", "birch"))
    found = FoundImage("sha256:" + "1" * 64, ("e" * 16,), context.labels, None)
    image = image_of(found, repository="imagesync", environment_hash=context.environment_hash)
    assert image is not None
    assert image.verified_imports == ("alder", "birch")
    assert "dev.imagesync.verified-imports" not in inputs.context(part="packages").labels


@pytest.mark.parametrize("conflicts", [None, {}, {"shared.py": "e" * 64}])
def test_label_of_file_conflicts_tells_none_from_unknown(
    inputs: Inputs, conflicts: Mapping[str, str] | None
) -> None:
    context = inputs.context(file_conflicts=conflicts)
    found = FoundImage("sha256:" + "1" * 64, ("e" * 16,), context.labels, None)
    image = image_of(found, repository="imagesync", environment_hash=context.environment_hash)
    assert image is not None
    assert image.file_conflicts == conflicts


@pytest.mark.parametrize(
    ("label", "value"),
    [
        *((Label.DEVIATIONS, value) for value in ("no JSON", "{}x", "5", '["toolz"]', '[{"name": "toolz"}]')),
        (Label.REPACKED, '[{"content": "sha256:1"}]'),
        (Label.REPACKED, '[{"name": ["toolz"], "content": ""}]'),
        (Label.FILE_CONFLICTS, "[]"),
        (Label.FILE_CONFLICTS, '{"a": 1}'),
        (Label.SHARED_CONDA_FILES, "[]"),
        (Label.SHARED_CONDA_FILES, '{"a": 1}'),
        (Label.SHARED_CONDA_FILES, '{"a": [[]]}'),
    ],
)
def test_image_with_labels_of_another_form_is_none(inputs: Inputs, label: str, value: str) -> None:
    context = inputs.context()
    found = FoundImage("sha256:" + "1" * 64, ("e" * 16,), {**context.labels, label: value}, None)
    assert image_of(found, repository="imagesync", environment_hash=context.environment_hash) is None


def test_layers_that_change_rarely_come_first(inputs: Inputs) -> None:
    text = inputs.context(code=inputs.code).dockerfile
    parts = ("FROM", "-m venv", "wheels/index", "wheels/vendored", "code.zip /opt/env/code", "\nLABEL ")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.rstrip().endswith("USER 1000:1000")
    assert "syntax=" not in text
    assert "RUN --network" not in text


def test_environment_without_local_packages_has_no_step_for_them(inputs: Inputs) -> None:
    text = inputs.context(lock=replace(inputs.lock, vendored=()), vendored=Wheels()).dockerfile
    assert "vendored" not in text


@pytest.mark.parametrize("own", [True, False])
def test_rendered_dockerfile_passes_hadolint(inputs: Inputs, own: bool, tmp_path: Path) -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    changes = (
        {"code": inputs.code} if own else {"lock": replace(inputs.lock, vendored=()), "vendored": Wheels()}
    )
    folder = tmp_path / "context"
    write_context(inputs.context(**changes, standalone=own), folder)
    done = subprocess.run(
        [hadolint, "--no-color", folder / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_standalone_dockerfile_makes_its_base_image(inputs: Inputs) -> None:
    base = replace(BASE, pinned="ubuntu@sha256:" + "a" * 64, apt=("libgl1", "libgomp1"))
    context = inputs.context(base=base, standalone=True)
    first, second = context.dockerfile.split("\nFROM runtime\n")
    assert f"ARG BASE=ubuntu@sha256:{'a' * 64}\nFROM ${{BASE}} AS root\n" in first
    assert '\nARG APT="libgl1 libgomp1"\n' in first
    assert "-m venv" not in first
    assert "FROM" not in second
    assert BASE.reference not in context.dockerfile
    with_compiler = inputs.context(base=replace(BASE, toolchain=True), standalone=True)
    assert "\nFROM build\n" in with_compiler.dockerfile


def test_environment_with_conda_python_stands_on_the_base_without_python(
    inputs: Inputs, tmp_path: Path
) -> None:
    python = stored(tmp_path, "python-3.12.3-0.conda")
    artifact = Artifact(python.filename, f"https://channel.example/linux-64/{python.filename}", python.digest)
    package = LockedConda("python", "3.12.3", "0", "https://channel.example", "linux-64", artifact)

    def stages(**options: Any) -> list[str]:
        context = inputs.context(
            lock=replace(inputs.lock, conda=(package,)),
            conda=CondaLayer(packages=(package,), archives=(python,), installer=CondaInstaller("rattler")),
            **options,
        )
        lines = context.dockerfile.splitlines()
        found = [line for line in lines if line.startswith("FROM ")]
        is_copied = any(line.endswith(" AS conda") for line in found)
        assert ("COPY --from=conda /opt/env /opt/env" in lines) == is_copied
        return found

    assert stages() == [f"FROM {BASE.reference} AS conda", f"FROM {BASE.reference}-minimal"]
    assert stages(base=replace(BASE, toolchain=True)) == [f"FROM {BASE.reference}"]
    assert stages(standalone=True)[6:] == ["FROM runtime AS conda", "FROM minimal"]
    assert stages(standalone=True, base=replace(BASE, toolchain=True))[6:] == ["FROM build"]


def test_base_of_the_users_own_serves_as_the_stages_that_it_lacks(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.base").write_text("ARG BASE=x\nFROM ${BASE}\nRUN mine\n")
    context = inputs.context(templates=tmp_path, standalone=True)
    assert context.dockerfile.startswith("ARG BASE=ubuntu:24.04\nFROM ${BASE} AS base\nRUN mine\n")
    assert "\nFROM base\n" in context.dockerfile
    (tmp_path / "Dockerfile.base").write_text("ARG BASE=x\nFROM ${BASE} AS a\nFROM a AS runtime\n")
    assert "\nFROM runtime\n" in inputs.context(templates=tmp_path, standalone=True).dockerfile


def test_options_are_in_the_dockerfile_of_the_environment_and_not_of_its_packages(
    inputs: Inputs, tmp_path: Path
) -> None:
    source = tmp_path / "odbc.ini"
    source.write_text("x")
    files = (
        CopiedFiles("/etc/odbc.ini", (CopiedFile("/etc/odbc.ini", str(source), 1),), "sha256:1"),
        CopiedFiles("/srv/data", (CopiedFile("/srv/data/a/b", str(source), 1, executable=True),), "sha256:2"),
    )
    options = ImageOptions(
        env={"PRICE": '$5 "net"'},
        labels={"com.example.team": "weather"},
        cmd=("python", "-m", "mine"),
        workdir="/srv/app",
        user="2000",
        files=files,
        run=("useradd app\ntrue",),
    )
    whole = inputs.context(options=options, standalone=True)
    for line in (
        'ENV PRICE="\\$5 \\"net\\""',
        'COPY ["copied/0/file", "/etc/odbc.ini"]',
        'COPY ["copied/1/", "/srv/data"]',
        "RUN [ -d /srv/app ] || { mkdir -p /srv/app; chown 2000:2000 /srv/app; }",
        'WORKDIR "/srv/app"',
        'CMD ["python", "-m", "mine"]',
        'RUN ["/bin/sh", "-euc", "useradd app\\ntrue"]',
    ):
        assert line in whole.dockerfile.splitlines(), line
    assert whole.dockerfile.rstrip().endswith("USER 2000")
    assert whole.labels["com.example.team"] == "weather"
    modes = {file.path: file.mode for file in whole.files if file.path.startswith("copied/")}
    assert modes == {"copied/0/file": 0o644, "copied/1/a/b": 0o755}
    built = inputs.context(options=options)
    assert "useradd" not in built.dockerfile
    assert built.options.run == options.run


def test_working_directory_gets_its_owner_after_the_commands_that_may_add_him(inputs: Inputs) -> None:
    options = ImageOptions(user="app", workdir="/srv/app", run=("useradd app",))
    lines = inputs.context(options=options, standalone=True).dockerfile.splitlines()
    made, run, chown, user = (
        lines.index(line)
        for line in (
            "RUN [ -d /srv/app ] || { mkdir -p /srv/app; touch /opt/env/.workdir-made; }",
            'RUN ["/bin/sh", "-euc", "useradd app"]',
            "RUN [ ! -e /opt/env/.workdir-made ] || { rm /opt/env/.workdir-made; chown app /srv/app; }",
            "USER app",
        )
    )
    assert made < run < chown
    assert lines[-1] == "USER app"
    assert user < run
    assert run_lines(options)[-2:] == [lines[chown], "USER app"]
    assert "ENV HOME=/home/imagesync USER=app" in lines
    whole = inputs.context(options=replace(options, run=()), standalone=True).dockerfile
    assert "mkdir -p /srv/app; chown app /srv/app; }" in whole


def test_image_with_cuda_asks_for_the_driver(inputs: Inputs, tmp_path: Path) -> None:
    assert "NVIDIA" not in inputs.context().dockerfile
    for filename in ("nvidia_cublas_cu12-12.4.5-py3-none-any.whl", "torch-2.6.0+cu124-py3-none-any.whl"):
        wheel = stored(tmp_path, filename)
        lock = replace(inputs.lock, packages=(*inputs.lock.packages, locked(wheel)))
        wheels = Wheels((inputs.alder, inputs.birch, wheel))
        text = inputs.context(lock=lock, packages=wheels).dockerfile
        assert (
            'ENV NVIDIA_DRIVER_CAPABILITIES="compute,utility" \\\n    NVIDIA_VISIBLE_DEVICES="all"\n' in text
        )
        own = ImageOptions(env={"NVIDIA_VISIBLE_DEVICES": "0"})
        assert (
            'NVIDIA_VISIBLE_DEVICES="0"' in inputs.context(lock=lock, packages=wheels, options=own).dockerfile
        )
    for depends, is_asked in (
        (("__cuda >=12", "libfoo"), True),
        (("cuda-version 12.*", "__glibc >=2.17"), False),
    ):
        artifact = Artifact(
            "pytorch-2.6.0-0.conda", "https://channel.example/pytorch-2.6.0-0.conda", "sha256:1"
        )
        torch = LockedConda(
            "pytorch", "2.6.0", "0", "https://channel.example", "linux-64", artifact, depends=depends
        )
        assert uses_cuda(replace(inputs.lock, conda=(torch,))) is is_asked
    pynvml = locked(stored(tmp_path, "nvidia_ml_py-12.0-py3-none-any.whl"))
    assert not uses_cuda(replace(inputs.lock, packages=(pynvml,)))


def test_template_without_that_stage_gets_its_base_image_beside_it(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.j2").write_text("FROM {{ base.reference }}\n")
    files = {file.path: file.content for file in inputs.context(templates=tmp_path, standalone=True).files}
    assert files["base/Dockerfile"] == dockerfile_base().encode()
    assert f"--tag {BASE.reference} ".encode() in files["README.md"]


def test_base_without_a_known_digest_has_no_label_of_it(inputs: Inputs) -> None:
    labels = inputs.context(base=replace(BASE, digest="")).labels
    assert "org.opencontainers.image.base.digest" not in labels
    assert labels["org.opencontainers.image.base.name"] == "ubuntu:24.04"


def test_code_is_in_the_context_and_never_in_the_packages_image(inputs: Inputs) -> None:
    whole = inputs.context(code=inputs.code)
    assert {"code/code.zip", "code/code.zip.pyc.zip"} < {file.path for file in whole.files}
    uncompiled = inputs.context(code=replace(inputs.code, bytecode=None))
    assert "code/code.zip.pyc.zip" not in {file.path for file in uncompiled.files}
    assert "pyc.zip" not in uncompiled.dockerfile
    assert "loose_code" not in inputs.context().dockerfile
    assert "loose_code" not in inputs.context(part="packages").dockerfile


def test_users_block_on_one_line_stays_a_separate_line(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.j2").write_text(
        '{% extends "imagesync/Dockerfile.j2" %}{% block before_packages %}RUN one{% endblock %}'
        "{% block after_packages %}RUN two{% endblock %}"
    )
    lines = inputs.context(templates=tmp_path).dockerfile.splitlines()
    assert {"RUN one", "RUN two"} < set(lines)


def test_users_block_and_files_are_in_the_context(inputs: Inputs, tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    (templates / "files").mkdir(parents=True)
    (templates / "files" / "pip.conf").write_text("[global]\n")
    (templates / "files" / "start.sh").write_text("#!/bin/sh\n")
    (templates / "files" / "start.sh").chmod(0o755)
    (templates / "Dockerfile.j2").write_text(
        '{% extends "imagesync/Dockerfile.j2" %}\n'
        "{% block after_packages %}\nCOPY files/pip.conf /etc/pip.conf\n{{ super() }}{% endblock %}\n"
    )
    context = inputs.context(templates=templates)
    text = context.dockerfile
    assert text.index("wheels/vendored") < text.index("COPY files/pip.conf") < text.index("\nLABEL ")
    modes = {file.path: file.mode for file in context.files}
    assert modes["files/pip.conf"] == 0o644
    assert modes["files/start.sh"] == 0o755


def test_written_folder_has_the_files_of_the_archive(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on" / "the" / "way"
    context = inputs.context()
    write_context(context, folder)
    for member in archive(context).getmembers():
        path = folder / member.name
        assert path.is_dir() == member.isdir()
        if member.isfile():
            assert path.stat().st_mode & 0o777 == member.mode
            assert path.stat().st_size == member.size
    assert list(folder.parent.iterdir()) == [folder]


def test_earlier_context_is_replaced(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    write_context(inputs.context(), folder)
    write_context(inputs.context(lock=replace(inputs.lock, vendored=()), vendored=Wheels()), folder)
    assert not (folder / "wheels" / "vendored").exists()


def test_empty_folder_is_filled(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    write_context(inputs.context(), folder)
    assert (folder / "Dockerfile").is_file()


def test_folder_with_other_files_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(RenderError, match=r"did not write: thesis\.tex"):
        write_context(inputs.context(), folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["Dockerfile", "notes.txt"])
def test_edited_context_is_refused(inputs: Inputs, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "context"
    write_context(inputs.context(), folder)
    (folder / name).write_text("FROM mine\n")
    with pytest.raises(RenderError, match=name) as caught:
        write_context(inputs.context(), folder)
    assert "docs/templates.md" in str(caught.value.hint)
    assert (folder / name).read_text() == "FROM mine\n"


def test_documented_values_of_templates_are_there(inputs: Inputs, tmp_path: Path) -> None:
    used = documented_values("Values", attributes_of=("base", "lock"))
    assert {"base.python_version", "lock.deviations", "environment_hash"} <= set(used)
    shown = "".join(f"# {{{{ {name} | string | replace('\\n', ' ') }}}}\n" for name in used)
    (tmp_path / "Dockerfile.j2").write_text(f"FROM {{{{ base.reference }}}}\n{shown}")
    assert inputs.context(templates=tmp_path).dockerfile


def test_failed_write_keeps_the_earlier_context(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    write_context(inputs.context(), folder)
    before = (folder / "Dockerfile").read_bytes()
    broken = inputs.context(lock=replace(inputs.lock, vendored=()), vendored=Wheels())
    inputs.alder.path.unlink()
    with pytest.raises(RenderError, match="can't write the build context"):
        write_context(broken, folder)
    assert (folder / "Dockerfile").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_file_in_place_of_the_folder_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RenderError, match="no folder"):
        write_context(inputs.context(), tmp_path / "file")
    with pytest.raises(RenderError):
        write_context(inputs.context(), tmp_path / "file" / "below")


def test_steps_name_the_digests_of_mounted_files(inputs: Inputs, tmp_path: Path) -> None:
    """Podman's cache looks at the text of a step, and not at the files that are mounted into it."""
    other = stored(tmp_path, inputs.mine.filename, b"edited")
    edited = inputs.context(
        lock=replace(inputs.lock, vendored=(vendored(other),)), vendored=Wheels((other,))
    ).dockerfile
    before, after = (
        [line for line in text.splitlines() if "/opt/env/bin/python -IB" in line and "# sha256:" in line]
        for text in (inputs.context().dockerfile, edited)
    )
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_two_parts_have_the_steps_of_the_whole(inputs: Inputs) -> None:
    index = shared_layer(inputs.lock)
    shared = inputs.context(lock=index, part="packages", vendored=Wheels())
    above = inputs.context(
        part="environment",
        packages=Wheels(),
        installer=None,
        packages_image="imagesync-packages:0123456789abcdef",
    )
    assert above.dockerfile.startswith("FROM imagesync-packages:0123456789abcdef\n")
    wheels = [
        {file.path for file in context.files if file.path.startswith("wheels/")}
        for context in (shared, above, inputs.context())
    ]
    assert not wheels[0] & wheels[1]
    assert wheels[0] | wheels[1] == wheels[2]
    assert not any(file.path == "tools/uv" for file in above.files)
    # The lock can be read again from the label, which the image above doesn't inherit.
    plan = Plan(INTERPRETER, ())
    assert from_label(shared.labels["dev.imagesync.packages-lock"], plan) == index
    assert above.labels["dev.imagesync.packages-lock"] == ""
    assert above.labels["dev.imagesync.lock-digest"] == inputs.lock.digest


def test_label_without_a_lock_is_none(inputs: Inputs) -> None:
    plan = Plan(INTERPRETER, ())
    text = to_label(shared_layer(inputs.lock))
    assert from_label(text, plan) is not None
    for broken in ("", "no base64!", text[:-8], base64.b64encode(zlib.compress(b"[]")).decode()):
        assert from_label(broken, plan) is None
