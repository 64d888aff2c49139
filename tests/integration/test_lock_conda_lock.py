"""``solver = "conda-lock"``: conda-lock's own solver, where something is there that it can solve with."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import PlainProgress, SilentProgress
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.conda.channels import Channels
from imagesync.lock.conda.conda_lock import CondaLockSolver
from imagesync.lock.conda.conda_program import CondaExecutable, find_conda
from imagesync.lock.conda.solver import CondaRequest, virtual_packages
from imagesync.lock.lock import Target
from imagesync.store.store import Store
from tests.channels.environments import CondaEnvironment
from tests.channels.server import ChannelServer
from tests.commands import CommandLine, clean_environ

ROOT = Path(__file__).parents[2]
MakeConda = Callable[..., CondaEnvironment]


@pytest.fixture(scope="module")
def server(channel: Path) -> Iterator[ChannelServer]:
    with ChannelServer(channel) as served:
        yield served


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def stand_in(folder: Path, name: str) -> Path:
    """Return a stand-in for mamba or micromamba; see its module."""
    program = ROOT / "tests" / "conda_stand_in.py"
    return script(folder / "bin" / name, f'#!/bin/sh\nexec {sys.executable} {program} {name} "$@"\n')


@pytest.fixture
def mamba(tmp_path: Path) -> Path:
    return stand_in(tmp_path, "mamba")


@pytest.fixture
def mac(conda_environment: MakeConda, server: ChannelServer) -> CondaEnvironment:
    """Return an environment of macOS, so that something must be solved."""
    return conda_environment("python 3.11.*", "toolz", channel=server.url, platform="osx-arm64")


def lock(cli: CommandLine, made: CondaEnvironment, *arguments: str) -> dict[str, str]:
    found = cli("lock", "--solver", "conda-lock", "--prefix", made.prefix, "--format", "json", *arguments)
    return {package["name"]: package["version"] for package in found.json()["conda"]}


def test_it_locks_what_our_own_solver_locks(
    image_cli: CommandLine, mac: CondaEnvironment, mamba: Path
) -> None:
    cli = image_cli.with_environ(PATH=f"{mamba.parent}:/usr/bin:/bin")
    done = cli("lock", "--solver", "conda-lock", "--prefix", mac.prefix, "--format", "json")
    theirs = {package["name"]: package["artifact"] for package in done.json()["conda"]}
    assert f"Solving with conda-lock and mamba 1.5.8 ({mamba})" in done.stderr
    ours = cli("lock", "--prefix", mac.prefix, "--format", "json").json()["conda"]
    assert {package["name"]: package["artifact"] for package in ours} == theirs
    assert "python" in theirs


def test_it_is_the_real_one_where_there_is_one(image_cli: CommandLine, mac: CondaEnvironment) -> None:
    if not any(shutil.which(name) for name in ("mamba", "conda", "micromamba")):
        pytest.skip("no conda, mamba or micromamba on this machine")
    assert "python" in lock(image_cli, mac)


def test_what_can_not_be_solved_is_told_from_what_went_wrong(
    server: ChannelServer, mamba: Path, tmp_path: Path, cache_dir: Path
) -> None:
    environ = {**clean_environ(), "PATH": f"{mamba.parent}:/usr/bin:/bin"}
    progress = SilentProgress()
    channels = Channels(
        [server.url],
        prefix=tmp_path,
        environ=environ,
        store=Store(cache_dir),
        progress=progress,
        platform=LINUX_AMD64,
    )
    solver = CondaLockSolver(channels, environ, progress)
    has = virtual_packages(Target(LINUX_AMD64, "3.11.7", (2, 36)))
    found = solver.solve(CondaRequest(("python 3.11.*",), has, constraints=("openssl >=3",)))
    assert [package.name for package in found] == sorted(package.name for package in found)
    assert all(package.artifact.digest for package in found)
    with pytest.raises(UnsolvableError, match=r"[Cc]ould not solve"):
        solver.solve(CondaRequest(("python 3.11.*", "toolz >=99"), has))
    with pytest.raises(UnsolvableError, match=r"chose openssl .* what is allowed"):
        solver.solve(CondaRequest(("python 3.11.*",), has, constraints=("openssl <1",)))
    mamba.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo mamba 1.5.8 || { echo disk full >&2; exit 7; }\n'
    )
    with pytest.raises(LockError, match="disk full") as caught:
        solver.solve(CondaRequest(("python 3.11.*",), has))
    assert not isinstance(caught.value, UnsolvableError)


def test_problems_that_micromamba_reports_are_told(
    server: ChannelServer, tmp_path: Path, cache_dir: Path
) -> None:
    micromamba = stand_in(tmp_path, "micromamba")
    environ = {**clean_environ(), "PATH": "/usr/bin:/bin"}
    progress = PlainProgress(said := io.StringIO())
    channels = Channels(
        [server.url],
        prefix=tmp_path,
        environ=environ,
        store=Store(cache_dir),
        progress=progress,
        platform=LINUX_AMD64,
    )
    solver = CondaLockSolver(channels, environ, progress, micromamba)
    has = virtual_packages(Target(LINUX_AMD64, "3.11.7", (2, 36)))
    assert [p.name for p in solver.solve(CondaRequest(("toolz",), has))][-1] == "tzdata"
    with pytest.raises(UnsolvableError, match="toolz") as caught:
        solver.solve(CondaRequest(("python 3.11.*", "toolz >=99"), has))
    assert "solver_problems" not in caught.value.message
    assert "micromamba 2.8.1" in said.getvalue()
    assert "warning" not in said.getvalue()


def test_without_any_it_is_said_what_to_install(image_cli: CommandLine, mac: CondaEnvironment) -> None:
    cli = image_cli.with_environ(PATH="/usr/bin:/bin", CONDA_EXE="", MAMBA_EXE="")
    refused = cli.run("lock", "--solver", "conda-lock", "--prefix", mac.prefix)
    assert refused.returncode == 1
    assert "needs conda, mamba or micromamba" in refused.stderr
    assert "--solver rattler" in refused.stderr


def test_credentials_reach_no_command_line(
    image_cli: CommandLine, conda_environment: MakeConda, channel: Path, mamba: Path
) -> None:
    with ChannelServer(channel, token="tk-secret") as private:
        made = conda_environment(
            "toolz", "python 3.11.*", channel=private.url_with_credentials, platform="osx-arm64"
        )
        cli = image_cli.with_environ(PATH=f"{mamba.parent}:/usr/bin:/bin")
        refused = cli.run(
            "lock",
            "--solver",
            "conda-lock",
            "--prefix",
            made.prefix,
            "--channel",
            private.url_with_credentials,
        )
    assert refused.returncode == 1
    assert "needs credentials" in refused.stderr
    assert "tk-secret" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "said", "version"),
    [
        ("mamba", "mamba 1.5.8\nconda 24.1.2", "1.5.8"),
        ("mamba", "2.6.0", "2.6.0"),
        ("micromamba", "2.5.1", "2.5.1"),
        ("micromamba", "2.10.0", "2.10.0"),
        ("conda", "conda 25.9.1", "25.9.1"),
        ("conda", "", ""),
    ],
)
def test_versions_are_read(tmp_path: Path, name: str, said: str, version: str) -> None:
    path = script(tmp_path / "bin" / name, f"#!/bin/sh\nprintf '{said}'\n")
    found = find_conda({"PATH": f"{path.parent}:/usr/bin:/bin"})
    assert found == CondaExecutable(name, path, version)


def test_one_that_answers_is_taken(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "mamba", "#!/bin/sh\nexit 3\n")
    conda = script(tmp_path / "bin" / "conda", "#!/bin/sh\necho conda 25.1.0\n")
    broken = script(tmp_path / "bin" / "micromamba", "#!/bin/sh\nexit 3\n")
    environ = {"PATH": f"{conda.parent}:/usr/bin:/bin"}
    assert find_conda(environ).path == conda
    with pytest.raises(LockError, match="can't be run"):
        find_conda(environ, micromamba=broken)
