"""Lock files made by the tools themselves, read as one lock: uv, pip-tools and py-rattler's writer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uv
from packaging.utils import canonicalize_name
from rattler import (
    BuildString,
    Gateway,
    GenericVirtualPackage,
    LockChannel,
    LockFile,
    LockPlatform,
    PackageName,
    RepoDataRecord,
    Version,
    solve,
)

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import LockError, UsageError
from imagesync.image_layout import BaseImage
from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.lock import Lock, Target
from imagesync.lock.lockfile.models import ReadLock, ReadRequest, Selection
from imagesync.lock.lockfile.prepare import check_target, with_artifacts
from imagesync.lock.lockfile.read import describe_selection, read_lock
from imagesync.lock.resolvers.pip_tools import PipToolsResolver
from imagesync.lock.resolvers.uv import UvResolver
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_hash import BaseInputs, plan_content
from imagesync.pipeline.lock_file_inputs import LockFileInputs
from imagesync.plan.loose_code import Code
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Interpreter, Package, Source
from imagesync.session import Session
from imagesync.settings.model import Settings
from imagesync.wheels.wheel_contents import WheelContent
from tests.indexes import LocalIndex

MINOR = ".".join(map(str, sys.version_info[:2]))
TARGET = Target(LINUX_AMD64, f"{MINOR}.2", (2, 36))
PASSWORD = "word-in-no-file"
LINUX, MACOS = "py3-none-manylinux_2_17_x86_64", "py3-none-macosx_11_0_arm64"
_ROOT = """\
[project]
name = "room"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["cable", "lamp", "window; sys_platform == 'win32'"]
[project.optional-dependencies]
dim = ["shade"]
[dependency-groups]
dev = ["dusk"]
[tool.uv.sources]
cable = { workspace = true }
[tool.uv.workspace]
members = ["cable"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
_MEMBER = """\
[project]
name = "cable"
version = "0.2.0"
requires-python = ">=3.10"
dependencies = ["bulb"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""


@pytest.fixture(scope="module")
def private_index() -> Iterator[LocalIndex]:
    """Return an index that asks for a password."""
    with LocalIndex(username="me", password=PASSWORD) as index:
        for name in ("lamp", "shade", "dusk", "window"):
            index.add_wheel(name, "1.0")
        for tag in (LINUX, MACOS):
            index.add_wheel("bulb", "2.0", tag=tag)
        yield index


@pytest.fixture(scope="module")
def environ(private_index: LocalIndex, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of somebody whose tools know the index and its password."""
    folder = tmp_path_factory.mktemp("home")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "UV_CACHE_DIR": str(folder / "uv"),
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": private_index.url_with_credentials,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(folder / "pip"),
        "PIP_INDEX_URL": private_index.url_with_credentials,
    }


@pytest.fixture(scope="module")
def workspace(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace of uv that uv has locked; nobody changes it."""
    root = tmp_path_factory.mktemp("room")
    (root / "cable").mkdir()
    (root / "pyproject.toml").write_text(_ROOT)
    (root / "cable" / "pyproject.toml").write_text(_MEMBER)
    run_uv("lock", cwd=root, environ=environ)
    return root


def run_uv(*arguments: str, cwd: Path, environ: dict[str, str]) -> str:
    command = [uv.find_uv_bin(), *arguments, "--quiet"]
    return subprocess.run(command, cwd=cwd, env=environ, check=True, capture_output=True, text=True).stdout


def read(path: Path, environ: dict[str, str] | None = None, **selection: object) -> ReadLock:
    return read_lock(
        ReadRequest(path, lambda: TARGET, environ or dict(os.environ), LINUX_AMD64, Selection(**selection))  # type: ignore[arg-type]
    )


def names(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in (*lock.packages, *lock.vendored)}


def test_uv_lock_gives_the_project_its_member_and_the_wheels_for_linux(
    workspace: Path, environ: dict[str, str], private_index: LocalIndex
) -> None:
    found = read(workspace / "uv.lock", environ)
    assert names(found.lock) == {"bulb": "2.0", "cable": "0.2.0", "lamp": "1.0", "room": "0.1.0"}
    assert {package.name for package in found.lock.vendored} == {"cable", "room"}
    (bulb, _) = found.lock.packages
    assert bulb.artifact.filename == f"bulb-2.0-{LINUX}.whl"
    assert bulb.artifact.digest == private_index.digest(bulb.artifact.filename)
    (cable, _) = found.lock.vendored
    assert cable.planned.source.url == (workspace / "cable").as_uri()
    assert PASSWORD not in repr(found)
    assert PASSWORD not in str(found.lock.to_dict())


def test_groups_and_extras_of_uv_lock_are_taken_by_name(workspace: Path, environ: dict[str, str]) -> None:
    path = workspace / "uv.lock"
    default, more = read(path, environ), read(path, environ, groups=("dev",), extras=("dim",))
    assert default.left_out == ("dusk", "shade")
    assert describe_selection(default, None) == (
        "uv.lock: the project's dependencies, without what only dev and dim need: dusk, shade"
    )
    assert {"dusk", "shade"} <= names(more.lock).keys()
    assert more.left_out == ()
    with pytest.raises(UsageError, match="has no group 'night'"):
        read(path, environ, groups=("night",))
    with pytest.raises(UsageError, match="has no extra '--all-extras'"):
        read(path, environ, extras=("--all-extras",))


def test_uv_lock_of_a_workspace_without_a_project_takes_its_members(
    workspace: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["cable"]\n')
    (tmp_path / "cable").mkdir()
    (tmp_path / "cable" / "pyproject.toml").write_text(_MEMBER)
    run_uv("lock", cwd=tmp_path, environ=environ)
    assert names(read(tmp_path / "uv.lock", environ).lock) == {"bulb": "2.0", "cable": "0.2.0"}


def test_uv_lock_without_its_project_or_of_a_newer_uv_is_refused_in_a_sentence(
    workspace: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    text = (workspace / "uv.lock").read_text()
    (tmp_path / "uv.lock").write_text(text)
    with pytest.raises(UsageError, match=r"only as uv\.lock beside its pyproject") as caught:
        read(tmp_path / "uv.lock", environ)
    assert "uv export" in str(caught.value.hint)
    (tmp_path / "pyproject.toml").write_text(_ROOT)
    (tmp_path / "uv.lock").write_text(text.replace("version = 1\n", "version = 99\n", 1))
    with pytest.raises(LockError, match=r"can't read .*uv\.lock: its format is version 99\.") as failed:
        read(tmp_path / "uv.lock", environ)
    assert "uv" in str(failed.value.hint)
    (tmp_path / "uv.lock").write_text(text)
    (tmp_path / "pyproject.toml").write_text(_ROOT.replace('"room"', '"hall"'))
    with pytest.raises(LockError, match=r"isn't the lock of the pyproject\.toml beside it: .*hall") as stale:
        read(tmp_path / "uv.lock", environ)
    assert stale.value.hint == "Lock again: uv lock"


def test_git_dependency_of_uv_lock_is_its_commit(environ: dict[str, str], tmp_path: Path) -> None:
    repository = tmp_path / "cable"
    repository.mkdir()
    (repository / "pyproject.toml").write_text(_MEMBER)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], cwd=repository, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()
    project = tmp_path / "room"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "room"\nversion = "1"\nrequires-python = ">=3.10"\n'
        f'dependencies = ["cable @ git+{repository.as_uri()}"]\n'
    )
    run_uv("lock", cwd=project, environ=environ)
    found = read(project / "uv.lock", environ)
    (cable,) = found.lock.vendored
    assert check_target(found, BASE_IMAGE, TARGET).vendored == (cable,)  # it has no wheel yet
    assert (cable.planned.source.kind, cable.planned.source.commit) == ("vcs", commit)


def test_pylock_of_uv_is_the_same_lock_and_is_refused_for_another_python(
    workspace: Path, environ: dict[str, str]
) -> None:
    text = run_uv("export", "--frozen", "--no-dev", "--format", "pylock.toml", cwd=workspace, environ=environ)
    path = workspace / "pylock.room.toml"
    path.write_text(text)
    try:
        assert read(path).lock.packages == read(workspace / "uv.lock", environ).lock.packages
        path.write_text(text.replace('requires-python = ">=3.10"', 'requires-python = ">=3.99"', 1))
        with pytest.raises(LockError, match="doesn't fit the image") as caught:
            read(path)
        assert "--base" in str(caught.value.hint)
    finally:
        path.unlink()


@pytest.mark.parametrize("resolver", [UvResolver, PipToolsResolver])
def test_requirements_of_pip_compile_get_the_artifact_with_their_digest(
    resolver: type[UvResolver | PipToolsResolver],
    environ: dict[str, str],
    private_index: LocalIndex,
    tmp_path: Path,
) -> None:
    (tmp_path / "requirements.in").write_text("bulb\nlamp\n")
    command = ["-m", "piptools", "compile", "--quiet", "--generate-hashes", "requirements.in"]
    subprocess.run([sys.executable, *command], cwd=tmp_path, env=environ, check=True, capture_output=True)
    path = tmp_path / "requirements.txt"
    assert f"--index-url {private_index.url_with_credentials}" in path.read_text().replace("****", PASSWORD)
    found = read(path)
    assert PASSWORD not in repr(found)
    indexes = read_pip_configuration(prefix=Path("/nonexistent"), environ=environ)
    asked = resolver(indexes, environ=environ, access=make_access(indexes, environ))
    lock = with_artifacts(found, TARGET, asked)
    assert [package.artifact.filename for package in lock.packages] == [
        f"bulb-2.0-{LINUX}.whl",
        "lamp-1.0-py3-none-any.whl",
    ]
    assert PASSWORD not in str(lock.to_dict())
    wrong = replace(found, hashes={**found.hashes, "lamp": frozenset({"sha256:" + "0" * 64})})  # type: ignore[dict-item]
    with pytest.raises(LockError, match=r"lamp|HASHES"):
        with_artifacts(wrong, TARGET, asked)


async def _solve(url: str, specs: list[str]) -> list[RepoDataRecord]:
    glibc = GenericVirtualPackage(PackageName("__glibc"), Version("2.36"), BuildString("0"))
    return await solve(
        [url], specs, gateway=Gateway(), platforms=["linux-64", "noarch"], virtual_packages=[glibc]
    )


@pytest.fixture(scope="module")
def pixi_lock(channel: Path, private_index: LocalIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a lock file as pixi writes it: two environments, two platforms, conda's and pip's packages."""
    folder = tmp_path_factory.mktemp("pixi")
    linux, macos = LockPlatform("linux-64"), LockPlatform("osx-arm64")
    lock = LockFile([linux, macos])
    url = channel.as_uri()
    for environment, specs in (("default", ["toolz"]), ("test", ["toolz", "python 3.11.*"])):
        lock.set_channels(environment, [LockChannel(url)])
        for record in asyncio.run(_solve(url, specs)):
            lock.add_conda_package(environment, linux, record)
    wheel = f"bulb-2.0-{LINUX}.whl"
    lock.add_pypi_package("test", linux, "bulb", "2.0", private_index.file_url(wheel))
    lock.add_pypi_package("default", macos, "bulb", "2.0", private_index.file_url(f"bulb-2.0-{MACOS}.whl"))
    path = folder / "pixi.lock"
    lock.to_path(path)
    # py-rattler's writer takes no digests of wheels.
    entry = "  name: bulb\n  version: '2.0'\n"
    text = path.read_text()
    assert entry in text
    path.write_text(
        text.replace(entry, f"{entry}  sha256: {private_index.digest(wheel).removeprefix('sha256:')}\n")
    )
    return path


def test_pixi_lock_gives_an_environment_with_its_python(pixi_lock: Path, private_index: LocalIndex) -> None:
    found = read(pixi_lock, environment="test")
    assert found.interpreter_version.startswith("3.11.")
    assert {"python", "toolz"} <= {package.name for package in found.lock.conda}
    assert all(package.artifact.digest for package in found.lock.conda)
    (bulb,) = found.lock.packages
    assert bulb.artifact.digest == private_index.digest(bulb.artifact.filename)
    default = read(pixi_lock)
    assert "bulb" in default.left_out
    assert default.others == ("test",)
    with pytest.raises(UsageError, match="has no environment 'docs'") as caught:
        read(pixi_lock, environment="docs")
    assert caught.value.hint == "It has default, test."


def test_pixi_lock_without_the_platform_names_pixis_command(pixi_lock: Path, tmp_path: Path) -> None:
    macos = LockPlatform("osx-arm64")
    lock = LockFile([macos])
    lock.set_channels("default", [LockChannel("https://conda.example.com/main")])
    lock.add_pypi_package(
        "default", macos, "lamp", "1.0", "https://pypi.example.com/lamp-1.0-py3-none-any.whl"
    )
    path = tmp_path / "pixi.lock"
    lock.to_path(path)
    with pytest.raises(LockError, match="'default' for osx-arm64, and the image is for linux-64") as caught:
        read(path)
    assert "pixi workspace platform add linux-64" in str(caught.value.hint)
    text = pixi_lock.read_text()
    path.write_text(text.replace(text.splitlines()[0], "version: 4", 1))
    with pytest.raises(UsageError, match="version 4"):
        read(path)
    path.write_text(text.replace(text.splitlines()[0], "version: 99", 1))
    with pytest.raises(UsageError, match="py-rattler can read"):
        read(path)


BASE_IMAGE = BaseImage(
    *("imagesync-base:1", "debian:bookworm-slim", "sha256:1", "sha256:2"),
    *(TARGET.python_version, "/usr/bin/python3", TARGET.glibc, "sha256:3"),
)
BASE = BaseInputs("sha256:3", "sha256:4", TARGET.python_version)


def locked_inputs(path: Path, environ: dict[str, str], cache: Path, **selection: str) -> LockFileInputs:
    context = Context(Settings(cache_dir=cache), environ=environ)
    return LockFileInputs(path, context, Code(), lambda: BASE_IMAGE, Selection(**selection))  # type: ignore[arg-type]


def test_uv_lock_and_the_environment_of_uv_sync_have_one_hash(
    workspace: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    command = ["sync", "--frozen", "--no-dev", "--no-install-workspace"]
    run_uv(*command, cwd=workspace, environ={**environ, "UV_PYTHON": sys.executable})
    context = Context(Settings(cache_dir=tmp_path), environ=environ)
    session = Session(context, python=workspace / ".venv" / "bin" / "python")
    plan = session.inputs().plan
    # Their installation takes a build back-end.
    local = [
        PlannedPackage(canonicalize_name(name), version, Level.EXACT, "", "", Source("directory"))
        for name, version in (("cable", "0.2.0"), ("room", "0.1.0"))
    ]
    plan = replace(plan, packages=(*plan.packages, *local))
    wheels = {package.name: WheelContent(f"sha256:{package.name}", package.version) for package in local}
    digests = {name: content.digest for name, content in wheels.items()}
    scanned = plan_content(plan, wheels=digests, modified={}, base=BASE)
    assert scanned is not None
    inputs = locked_inputs(workspace / "uv.lock", environ, tmp_path)
    known = inputs.known_hash(BASE, wheels)
    assert known is not None
    assert known.digest == scanned.digest
    before = inputs.input_hash(BASE)
    module = workspace / "cable" / "cable.py"
    module.write_text("volts = 12\n")
    assert locked_inputs(workspace / "uv.lock", environ, tmp_path).input_hash(BASE) != before
    module.unlink()


def test_pixi_lock_and_an_environment_of_its_packages_have_one_hash(pixi_lock: Path, tmp_path: Path) -> None:
    inputs = locked_inputs(pixi_lock, {}, tmp_path, environment="test")
    lock = inputs.lock_file.lock
    conda = tuple(
        PlannedConda(
            *(p.name, p.version, p.build, Level.EXACT, "", ""),
            record=CondaRecord(p.name, p.version, p.build, 0, p.channel, p.subdir, "", p.artifact.url),
        )
        for p in lock.conda
    )
    python = Interpreter("cpython", inputs.plan.python.version, "linux-x86_64", "cp311", "", "/env", "/env")
    bulb = Package(canonicalize_name("bulb"), "2.0")
    planned = PlannedPackage(bulb.name, "2.0", Level.EXACT, "", "", installed=bulb)
    plan = Plan(python, (planned,), conda=conda, interpreter="conda")
    scanned = plan_content(plan, wheels={}, modified={}, base=BASE)
    known = inputs.known_hash(BASE)
    assert scanned is not None
    assert known is not None
    assert known.digest == scanned.digest
