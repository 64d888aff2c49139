"""Lock files by the real command line: others' tools read them, and images are built from them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml
from rattler import MatchSpec

from tests.channels.channel import index_channel, make_channel
from tests.channels.doubles import pure
from tests.channels.environments import CondaEnvironment, make_conda_environment
from tests.channels.server import ChannelServer
from tests.commands import BIN, CommandLine
from tests.environments import run
from tests.micromamba import make_stand_in, real_micromamba

TOKEN = "tk-in-no-file"
_PROJECT = """\
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[project]
name = "mine"
version = "0.1.0"
description = "A test"
dependencies = ["toolz"]
"""


@pytest.fixture(scope="module")
def server(channel: Path) -> Iterator[ChannelServer]:
    with ChannelServer(channel, token=TOKEN) as served:
        yield served


@pytest.fixture(scope="module")
def mixed(server: ChannelServer, tmp_path_factory: pytest.TempPathFactory) -> CondaEnvironment:
    """Return an environment of conda packages, one of pip's, and one of the user's own; nobody changes it."""
    folder = tmp_path_factory.mktemp("mixed")
    project = folder / "mine"
    (project / "src" / "mine").mkdir(parents=True)
    (project / "pyproject.toml").write_text(_PROJECT)
    (project / "src" / "mine" / "__init__.py").write_text("answer = 42\n")
    made = make_conda_environment(
        server.url_with_credentials,
        ["python 3.11.*", "toolz", "pip"],
        folder / "env",
        pip=["cachetools==6.2.0"],
    )
    made.pip_install("--no-deps", "--editable", project)
    return made


@pytest.fixture
def conda_cli(image_cli: CommandLine, server: ChannelServer, tmp_path: Path) -> CommandLine:
    """Return the console script of a user whose conda knows the channel's token."""
    (tmp_path / "condarc").write_text(f"channels: [{server.url_with_credentials}]\n")
    return image_cli.with_environ(CONDARC=tmp_path / "condarc")


@pytest.fixture
def locked(conda_cli: CommandLine, mixed: CondaEnvironment, work_dir: Path) -> Path:
    """Return the lock file of the mixed environment, in the working folder."""
    conda_cli("lock", "--python", mixed.python, "-o", "conda-lock.yml")
    return work_dir / "conda-lock.yml"


def contents(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())  # type: ignore[no-any-return]


def in_image(reference: str, code: str) -> str:
    return run(["docker", "run", "--rm", "--network", "none", reference, "python", "-c", code])


def test_conda_lock_itself_renders_what_is_written(locked: Path, work_dir: Path) -> None:
    run(
        [BIN / "conda-lock", "render", "--kind", "explicit", "--platform", "linux-64", "conda-lock.yml"],
        cwd=work_dir,
    )
    lines = (work_dir / "conda-linux-64.lock").read_text().splitlines()
    entries = contents(locked)["package"]
    conda = {f"{entry['url']}#{entry['hash']['md5']}" for entry in entries if entry["manager"] == "conda"}
    assert conda
    assert conda == {line for line in lines if line.startswith("http")}
    assert any(line.startswith("# pip mine @ file:wheels/mine-0.1.0-") for line in lines)
    run(
        [BIN / "conda-lock", "render", "--kind", "env", "--platform", "linux-64", "conda-lock.yml"],
        cwd=work_dir,
    )
    environment = contents(work_dir / "conda-linux-64.lock.yml")
    assert any(str(line).startswith("toolz=") for line in environment["dependencies"])


def test_no_secret_and_no_path_of_this_machine_is_written(
    conda_cli: CommandLine, mixed: CondaEnvironment, locked: Path, work_dir: Path
) -> None:
    for form in ("explicit", "pylock", "requirements"):
        conda_cli("lock", "--python", mixed.python, "--export", form, "-o", f"{form}.out")
    written = [path for path in work_dir.iterdir() if path.is_file()]
    assert len(written) == 4
    for path in written:
        text = path.read_text()
        assert TOKEN not in text, path
        assert str(mixed.prefix.parent) not in text, path
        assert str(work_dir) not in text, path


def test_a_lock_of_conda_and_pip_is_built_without_an_environment(
    conda_cli: CommandLine,
    mixed: CondaEnvironment,
    locked: Path,
    engine: docker.DockerClient,
    server: ChannelServer,
) -> None:
    elsewhere = conda_cli.with_environ(
        VIRTUAL_ENV="/nowhere", CONDA_PREFIX="/nowhere", PATH=f"{BIN}:/usr/bin:/bin"
    )
    server.forget_requests()
    built = elsewhere("build", "--locked")
    # What is locked is fetched, and no channel is asked what there is.
    assert server.count("repodata.json") == server.count(".zst") == 0
    code = "import mine, toolz, cachetools, sys; print(mine.answer, toolz.__version__, sys.version_info[:3])"
    version = json.loads(contents(locked)["metadata"]["custom_metadata"]["imagesync"])["python"]
    assert in_image(built.reference, code).split(" ", 2)[0] == "42"
    assert str(tuple(map(int, version.split(".")))) in in_image(built.reference, code)
    history = json.dumps(engine.api.history(built.reference)) + json.dumps(
        engine.images.get(built.reference).attrs
    )
    assert TOKEN not in history
    server.forget_requests()
    again = elsewhere("build", "--locked", "conda-lock.yml")
    assert again.reference == built.reference
    assert server.requests == []
    assert "Building" not in again.stderr
    locked.write_text(locked.read_text().replace("\n", "\r\n"))
    assert elsewhere("build", "--locked").reference == built.reference


def test_what_another_tool_locked_is_built(
    conda_cli: CommandLine, locked: Path, work_dir: Path, server: ChannelServer
) -> None:
    # Written by conda-lock's own code, for several platforms, with a placeholder for the token.
    script = f"""
import pathlib
from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file
lockfile = parse_conda_lock_file(pathlib.Path("conda-lock.yml"))
lockfile.metadata.custom_metadata = None
lockfile.package = [entry for entry in lockfile.package if entry.name != "mine"]
for entry in list(lockfile.package):
    entry.url = entry.url.replace("{server.url}", "http://{server.host}/t/${{TEAM_TOKEN}}/channel")
    entry.categories = {{"docs"}} if entry.name == "cachetools" else {{"main"}}
    if entry.name == "toolz":
        entry.hash.sha256 = None
    other = entry.model_copy(update={{"platform": "osx-arm64", "version": "0"}})
    lockfile.package.append(other)
lockfile.metadata.platforms = ["linux-64", "osx-arm64"]
write_conda_lock_file(lockfile, pathlib.Path("theirs.yml"), None)
"""
    run([BIN / "python", "-W", "ignore", "-c", script], cwd=work_dir)
    refused = conda_cli.run("build", "--locked", "theirs.yml")
    assert refused.returncode == 1
    assert "needs the variable TEAM_TOKEN" in refused.stderr
    built = conda_cli.with_environ(TEAM_TOKEN=TOKEN, CONDARC="/dev/null")("build", "--locked", "theirs.yml")
    assert TOKEN not in built.stderr
    assert "cachetools" in built.stderr
    assert in_image(built.reference, "import toolz; print(toolz.__version__)").strip() == "1.1.0"
    modules = (
        "import importlib.util as u; print([u.find_spec(n) is not None for n in ('cachetools', 'mine')])"
    )
    assert in_image(built.reference, modules).strip() == "[False, False]"


def test_a_changed_wheel_is_refused(conda_cli: CommandLine, locked: Path, work_dir: Path) -> None:
    (wheel,) = (work_dir / "wheels").iterdir()
    # Another store, because this one has the wheel that is meant.
    fresh = conda_cli.with_environ(IMAGESYNC_CACHE_DIR=work_dir / "store")
    wheel.write_bytes(wheel.read_bytes() + b"\n")
    refused = fresh.run("build", "--locked")
    assert refused.returncode == 1
    assert wheel.name in refused.stderr
    assert "Traceback" not in refused.stderr
    wheel.unlink()
    gone = fresh.run("build", "--locked")
    assert gone.returncode == 1
    assert wheel.name in gone.stderr
    assert "Traceback" not in gone.stderr


def test_nothing_takes_the_place_of_what_has_gone(
    conda_cli: CommandLine, channel: Path, tmp_path: Path, work_dir: Path
) -> None:
    extra = make_channel(tmp_path / "extra", [pure("fern", "1.0.0"), pure("fern", "1.0.0", build="other_9")])
    with ChannelServer(extra) as server:
        made = make_conda_environment(
            [server.url, channel], ["python", "fern ==1.0.0 pyhd8ed1ab_0"], tmp_path / "env"
        )
        conda_cli("lock", "--python", made.python, "-o", "conda-lock.yml")
        (archive,) = extra.glob("noarch/fern-1.0.0-pyhd8ed1ab_0.conda")
        archive.unlink()
        index_channel(extra)
        # Another build would do, but it isn't what was locked.
        refused = conda_cli.with_environ(CONDA_PKGS_DIRS=work_dir / "none").run("build", "--locked")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert f"- {archive.name}: {server.url}/noarch/{archive.name} answers 404" in refused.stderr
    assert "imagesync lock -o conda-lock.yml" in refused.stderr


def test_check_says_what_has_moved(
    conda_cli: CommandLine, mixed: CondaEnvironment, locked: Path, tmp_path: Path
) -> None:
    fits = conda_cli("lock", "--check", "--python", mixed.python)
    assert "conda-lock.yml fits the environment" in fits.stdout
    project = mixed.prefix.parent / "mine" / "src" / "mine" / "__init__.py"
    before = project.read_text()
    try:
        project.write_text("answer = 43\n")
        found = conda_cli.run(
            "lock", "--check", "conda-lock.yml", "--python", mixed.python, "--format", "json"
        )
    finally:
        project.write_text(before)
    assert found.returncode == 1
    assert [(each["name"], each["manager"]) for each in found.json()] == [("mine", "pip")]
    changed = contents(locked)
    for entry in changed["package"]:
        if entry["name"] in ("toolz", "cachetools"):
            entry["version"] = "0.9"
    locked.write_text(yaml.safe_dump(changed))
    moved = conda_cli.run("lock", "--check", "--python", mixed.python)
    assert moved.returncode == 1
    assert "2 packages moved" in moved.stdout
    assert "toolz" in moved.stdout
    assert "imagesync lock -o conda-lock.yml" in moved.stderr


def test_pip_and_uv_install_from_the_exports(
    conda_cli: CommandLine, mixed: CondaEnvironment, work_dir: Path, tmp_path: Path
) -> None:
    conda_cli("lock", "--python", mixed.python, "-o", "pylock.toml")
    conda_cli("lock", "--python", mixed.python, "-o", "requirements.txt")
    uv = [str(BIN / "uv"), "pip", "install", "--quiet", "--no-deps", "--python"]
    for name, expected in (("pylock.toml", {"cachetools", "mine"}), ("requirements.txt", {"cachetools"})):
        prefix = tmp_path / name
        run([BIN / "uv", "venv", "--quiet", "--python", mixed.python, prefix])
        run([*uv, str(prefix / "bin" / "python"), "-r", name], cwd=work_dir)
        listed = run(
            [BIN / "uv", "pip", "list", "--quiet", "--format", "json", "--python", prefix / "bin" / "python"]
        )
        assert {package["name"] for package in json.loads(listed)} == expected
    printed = conda_cli("lock", "--python", mixed.python, "--export", "requirements")
    assert printed.stdout == (work_dir / "requirements.txt").read_text()
    assert "no place for" in printed.stderr
    printed = conda_cli("lock", "--python", mixed.python, "--export", "conda-lock")
    assert "file:wheels/mine-0.1.0" in printed.stdout
    assert "-o FILE writes beside it" in printed.stderr


def test_the_explicit_file_is_one_that_conda_tools_read(
    conda_cli: CommandLine, mixed: CondaEnvironment, work_dir: Path
) -> None:
    conda_cli("lock", "--python", mixed.python, "--export", "explicit", "-o", "explicit.txt")
    lines = (work_dir / "explicit.txt").read_text().partition("@EXPLICIT\n")[2].splitlines()
    urls = [line for line in lines if line.startswith("http")]
    specs = [MatchSpec.from_url(url) for url in urls]
    assert all(spec.sha256 for spec in specs)
    names = [str(getattr(spec.name, "normalized", spec.name)) for spec in specs if spec.name is not None]
    assert names.index("openssl") < names.index("python") < names.index("toolz")


def test_micromamba_and_pip_install_what_the_explicit_file_says(
    conda_cli: CommandLine, channel: Path, tmp_path: Path, work_dir: Path
) -> None:
    local = make_conda_environment(
        channel, ["python", "toolz", "pip"], tmp_path / "local", pip=["cachetools==6.2.0"]
    )
    record = json.loads(local.record("pip").read_text())
    # Nobody asked for pip: the image doesn't get it.
    local.record("pip").write_text(json.dumps({**record, "requested_spec": ""}, indent=2))
    cli = conda_cli.with_environ(**local.activated)
    cli("lock", "--export", "explicit", "-o", "explicit.txt")
    locked = cli("lock", "-o", "conda-lock.yml", "--format", "json").json()
    assert "pip" not in [package["name"] for package in locked["conda"]]
    assert "pip" in [entry["name"] for entry in contents(work_dir / "conda-lock.yml")["package"]]
    assert "fits the environment" in cli("lock", "--check").stdout
    micromamba = real_micromamba() or make_stand_in(tmp_path)
    made = tmp_path / "made"
    environ = {**os.environ, "CONDA_PKGS_DIRS": str(tmp_path / "packages")}
    command = [micromamba, "create", "--yes", "--prefix", made, "--file", "explicit.txt"]
    subprocess.run(command, cwd=work_dir, env=environ, check=True, capture_output=True)
    first_line = (work_dir / "explicit.txt").read_text().splitlines()[0]
    says = first_line.removeprefix("# pip's packages, in the environment: ")
    environ["PATH"] = f"{made}/bin:{environ['PATH']}"
    subprocess.run(["sh", "-ec", says], cwd=work_dir, env=environ, check=True, capture_output=True)
    code = "import cachetools, toolz; print(cachetools.__version__)"
    assert run([made / "bin" / "python", "-c", code]).strip() == "6.2.0"


def test_a_pip_environment_is_locked_and_built_on_the_bases_python(
    image_cli: CommandLine, environment: Any, base_python: Path, work_dir: Path
) -> None:
    made = environment("toolz==1.0.0", python=base_python)
    image_cli("lock", "--python", made.python, "-o", "conda-lock.yml")
    ours = work_dir / "conda-lock.yml"
    shutil.rmtree(made.prefix)
    built = image_cli("build", "--locked")
    assert in_image(built.reference, "import toolz; print(toolz.__version__)").strip() == "1.0.0"
    ours.write_text(re.sub(r'"python":"3\.(\d+)\.', '"python":"3.8.', ours.read_text()))
    refused = image_cli.run("build", "--locked")
    assert refused.returncode == 1
    assert "Python 3.8" in refused.stderr
    ours.write_text(ours.read_text().replace("linux-64", "osx-arm64"))
    refused = image_cli.run("build", "--locked")
    assert refused.returncode == 1
    assert "is locked for osx-arm64, and the image is for linux-64" in refused.stderr
    assert image_cli.run("build", "--locked", "missing.yml").returncode == 2


def test_without_conda_lock_it_is_said_before_anything_is_done(
    image_cli: CommandLine, environment: Any, work_dir: Path
) -> None:
    made = environment("toolz==1.0.0")
    # An installation without the extra: the module is there, and can't be imported.
    (work_dir / "hidden" / "conda_lock").mkdir(parents=True)
    (work_dir / "hidden" / "conda_lock" / "__init__.py").write_text("raise ImportError('hidden by a test')\n")
    bare = image_cli.with_environ(PYTHONPATH=work_dir / "hidden")
    (work_dir / "x.yml").write_text("version: 1\n")
    refused = bare.run("lock", "--python", made.python, "--check", "x.yml")
    assert refused.returncode == 1
    assert f"{sys.executable} -m pip install --editable" in refused.stderr
    assert "[conda-lock]'" in refused.stderr
