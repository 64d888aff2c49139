"""Which environment is looked at, where real tools made it: uv tool, uv run, pixi's folders, conda."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesync.scan.environment_files import tool_of
from tests.commands import BIN, CommandLine, Finished
from tests.conftest import MakeCondaEnvironment
from tests.environments import LocalEnvironment, make_environment, run
from tests.indexes.wheels import make_wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of this checkout, installed by ``uv tool install``."""
    folder = tmp_path_factory.mktemp("tool")
    variables = {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    run([BIN / "uv", "--quiet", "tool", "install", "--editable", ROOT], environ=variables)
    return folder / "bin" / "imagesync"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder in a project, which is a repository."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    (root / "src").mkdir()
    return root / "src"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    filename, content = make_wheel("orchard", "1.0", files={"orchard.py": b""})
    (tmp_path / filename).write_bytes(content)
    return tmp_path / filename


def by_tool(tool: Path, cli: CommandLine, cwd: Path, **variables: str | Path) -> CommandLine:
    return CommandLine(cli.environ, cwd, (tool,)).with_environ(**variables)


def said(finished: Finished) -> tuple[str, str]:
    """Return which prefix was scanned, and what stderr says of how it was found."""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("Using CPython 3.")
    found = finished.json()["python"]["prefix"]
    assert f" in {found} (" in line
    return found, line.partition("(")[2].rstrip(")")


def test_a_tool_of_uv_looks_at_the_project_and_never_at_itself(
    tool: Path, cli: CommandLine, project: Path
) -> None:
    command = by_tool(tool, cli, project)
    commands = ("scan", "plan", "lock", "build", "build --watch", "doctor", "run true")
    for arguments in map(str.split, commands):
        refused = command.run(*arguments)
        assert refused.returncode == 1
        assert "VIRTUAL_ENV: not set" in refused.stdout + refused.stderr
        assert "which uv tool made for it alone" in refused.stdout + refused.stderr
    made = make_environment(project.parent / ".venv", python=tool.parents[1] / "tools/imagesync/bin/python")
    assert said(command("scan", "--format", "json")) == (str(made.prefix), "the project's .venv")
    assert said(command("scan", "--format", "json", "--python", tool.resolve().parents[1]))[1] == "--python"


def test_an_environment_of_pixi_and_one_of_conda(
    tool: Path, cli: CommandLine, project: Path, conda_environment: MakeCondaEnvironment
) -> None:
    pixi = conda_environment("python", name="project/.pixi/envs/default")
    other = conda_environment("python", name="project/.pixi/envs/other")
    for made in (pixi, other):
        (made.records / "pixi").write_text('{"manifest_path": "pixi.toml"}')
    miniconda = conda_environment("python", name="miniconda3")
    command = by_tool(tool, cli, project)
    assert said(command("scan", "--format", "json")) == (str(pixi.prefix), "the project's .pixi/envs/default")
    base = {"CONDA_PREFIX": miniconda.prefix, "CONDA_DEFAULT_ENV": "base"}
    assert said(command.with_environ(**base)("scan", "--format", "json"))[0] == str(pixi.prefix)
    outside = by_tool(tool, cli, cli.cwd, **base)
    assert said(outside("scan", "--format", "json")) == (str(miniconda.prefix), "CONDA_PREFIX, conda's base")
    # As `pixi shell` activates them.
    for made, name in ((pixi, "demo"), (other, "demo:other")):
        shell = command.with_environ(CONDA_PREFIX=made.prefix, CONDA_DEFAULT_ENV=name)
        assert said(shell("scan", "--format", "json")) == (str(made.prefix), "CONDA_PREFIX")
    named = command.with_environ(**miniconda.activated)("scan", "--format", "json")
    assert named.json()["python"]["prefix"] == str(miniconda.prefix)
    assert named.stderr.startswith(f"warning: CONDA_PREFIX names {miniconda.prefix}, which is used; ")
    assert str(pixi.prefix) in named.stderr


def test_uv_run_with_a_package_more(cli: CommandLine, project: Path, wheel: Path) -> None:
    (project.parent / "pyproject.toml").write_text('[project]\nname = "demo"\nversion = "1"\n')
    made = make_environment(project.parent / ".venv", python=BIN / "python")
    uv = (BIN / "uv", "run", "--quiet", "--offline", "--no-sync", "--with", wheel, BIN / "imagesync")
    finished = CommandLine(cli.environ, project, uv)("scan", "--format", "json")
    assert said(finished) == (str(made.prefix), "VIRTUAL_ENV")


def test_what_uvx_makes_is_a_tools_environment(wheel: Path, tmp_path: Path) -> None:
    uvx = [BIN / "uv", "tool", "run", "--quiet", "--offline", "--python", BIN / "python", "--from", wheel]
    prefix = run([*uvx, "python", "-c", "import sys; print(sys.prefix)"], cwd=tmp_path).strip()
    assert tool_of(prefix) == "uvx"


def test_a_notebooks_kernel_looks_at_its_own_environment(cli: CommandLine, tmp_path: Path) -> None:
    """The API takes the interpreter that runs it, whatever is active."""
    server = make_environment(tmp_path / "server", python=BIN / "python")
    code = (
        "import imagesync, json;"
        "one = imagesync.scan().python.prefix;"
        "two = imagesync.open_session(quiet=True).scan().python.prefix;"
        f"three = imagesync.scan(python={str(server.python)!r}, quiet=True).python.prefix;"
        "print(json.dumps([one, two, three]))"
    )
    variables = {"VIRTUAL_ENV": str(server.prefix), "CONDA_PREFIX": str(server.prefix)}
    own = LocalEnvironment(BIN.parent)
    answer = own.run("-c", code, environ={**cli.environ, **variables})
    assert json.loads(answer) == [str(own.prefix), str(own.prefix), str(server.prefix)]
