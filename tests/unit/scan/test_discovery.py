"""Which environment a command looks at: the order, what is refused, and what a user is told."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.errors import ScanError, UsageError
from imagesync.scan.discovery import FoundEnvironment, discover, locate
from imagesync.scan.environment_files import is_conda_base, tool_of
from tests.commands import BIN, CommandLine, clean_environ
from tests.environments import LocalEnvironment

MakeEnvironment = Callable[..., LocalEnvironment]
ROOT = Path(__file__).parents[3]
RECEIPTS = {
    "uv tool": ("uv-receipt.toml", '[tool]\nrequirements = [{ name = "imagesync" }]\n'),
    "pipx": (
        "pipx_metadata.json",
        '{"main_package": {"package": "imagesync"}, "pipx_metadata_version": "0.5"}',
    ),
}


def found(cwd: Path, **variables: str | Path) -> FoundEnvironment:
    environ = {**clean_environ(), "HOME": "/nowhere", **{key: str(value) for key, value in variables.items()}}
    return discover(environ=environ, cwd=cwd)


def refused(cwd: Path, **variables: str | Path) -> str:
    with pytest.raises(ScanError) as caught:
        found(cwd, **variables)
    assert caught.value.hint
    return caught.value.message


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project, a repository, in a folder that is none."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "demo"\nversion = "1"\n')
    return folder


def test_running_interpreter_is_used_where_nothing_is_active(tmp_path: Path) -> None:
    assert found(tmp_path) == locate(environ={})
    assert found(tmp_path) == FoundEnvironment(Path(sys.executable), "the running interpreter")


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_active_environment_is_found_by_its_variable(
    variable: str, environment: MakeEnvironment, tmp_path: Path
) -> None:
    made = environment()
    assert found(tmp_path, **{variable: made.prefix}) == FoundEnvironment(made.python, variable)


def test_virtual_environment_precedes_conda_environment(environment: MakeEnvironment, tmp_path: Path) -> None:
    made = environment()
    assert found(tmp_path, VIRTUAL_ENV=made.prefix, CONDA_PREFIX="/nowhere").path == made.python


def test_named_environment_precedes_active_one(environment: MakeEnvironment, tmp_path: Path) -> None:
    made = environment()
    environ = {**clean_environ(), "VIRTUAL_ENV": "/nowhere"}
    python = discover(python=made.prefix, environ=environ, cwd=tmp_path)
    assert python == FoundEnvironment(made.python, "--python")
    prefix = discover(prefix=made.prefix, environ=environ, cwd=tmp_path)
    assert prefix == FoundEnvironment(made.prefix, "--prefix", files_only=True)
    with pytest.raises(UsageError):
        discover(python=made.python, prefix=made.prefix, environ=environ, cwd=tmp_path)


def test_variable_that_names_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, VIRTUAL_ENV=tmp_path / "gone") == (
        f"VIRTUAL_ENV names {tmp_path / 'gone'}, which isn't a folder (any more)"
    )
    assert "holds no Python interpreter" in refused(tmp_path, CONDA_PREFIX=tmp_path)


def test_active_environment_without_its_python_is_refused(
    environment: MakeEnvironment, tmp_path: Path
) -> None:
    made = environment()
    made.python.unlink()
    made.python.symlink_to("/nowhere/bin/python3.11")
    assert "the Python that it was made from is gone" in refused(tmp_path, VIRTUAL_ENV=made.prefix)


def test_project_environment_is_found_from_any_subfolder(environment: MakeEnvironment, project: Path) -> None:
    made = environment(name="project/.venv")
    member = project / "packages" / "member"
    member.mkdir(parents=True)
    (member / "pyproject.toml").write_text('[project]\nname = "member"\nversion = "1"\n')
    for folder in (project, member, member / "src"):
        folder.mkdir(exist_ok=True)
        assert found(folder) == FoundEnvironment(made.python, "the project's .venv")
    nearer = environment(name="project/packages/member/.venv")
    assert found(member / "src").path == nearer.python


def test_search_for_the_project_ends_at_its_root(environment: MakeEnvironment, project: Path) -> None:
    environment(name=".venv")  # beside the project
    assert found(project).path == Path(sys.executable)
    (project / ".git").rmdir()
    assert found(project).path == Path(sys.executable)
    (project / "pyproject.toml").unlink()
    (project / "docs").mkdir()
    assert found(project / "docs").path == Path(sys.executable)


def test_home_folder_is_no_project_of_its_subfolders(environment: MakeEnvironment, project: Path) -> None:
    made = environment(name="project/.venv")
    (project / "docs").mkdir()
    assert found(project / "docs", HOME=project, USERPROFILE=project).path == Path(sys.executable)
    assert found(project, HOME=project).path == made.python


def test_uv_project_environment_is_the_projects_environment(
    environment: MakeEnvironment, project: Path
) -> None:
    environment(name="project/.venv")
    (project / "src").mkdir()
    relative = environment(name="project/build/env")
    named = found(project / "src", UV_PROJECT_ENVIRONMENT="build/env")
    assert named == FoundEnvironment(relative.python, "UV_PROJECT_ENVIRONMENT")
    absolute = environment()
    assert found(project / "src", UV_PROJECT_ENVIRONMENT=absolute.prefix).path == absolute.python
    (project / "pyproject.toml").unlink()  # no project of uv
    assert found(project, UV_PROJECT_ENVIRONMENT="build/env").origin == "the project's .venv"


def test_missing_uv_project_environment_is_refused_where_it_would_be_used(
    environment: MakeEnvironment, project: Path
) -> None:
    message = f"UV_PROJECT_ENVIRONMENT names {project / 'gone'}, which is no environment (any more)"
    assert message in refused(project, UV_PROJECT_ENVIRONMENT="gone")
    stale = environment(name="project/.venv")
    (project / "src").mkdir()
    assert message in refused(project / "src", UV_PROJECT_ENVIRONMENT="gone")
    active = found(project, UV_PROJECT_ENVIRONMENT="gone", VIRTUAL_ENV=stale.prefix)
    assert active.path == stale.python
    (project / "pyproject.toml").unlink()  # no project of uv
    assert found(project, UV_PROJECT_ENVIRONMENT="gone").path == stale.python


def test_folder_without_an_environment_is_passed_over(project: Path) -> None:
    (project / ".venv" / "bin").mkdir(parents=True)
    assert found(project).path == Path(sys.executable)


def test_broken_project_environment_is_refused(environment: MakeEnvironment, project: Path) -> None:
    made = environment(name="project/.venv")
    made.python.unlink()
    made.python.symlink_to("/nowhere/bin/python3.11")
    assert "the Python that it was made from is gone" in refused(project)


def test_active_environment_outside_the_project_is_used_with_a_warning(
    environment: MakeEnvironment, project: Path, cli: CommandLine
) -> None:
    own = environment(name="project/.venv")
    elsewhere = environment()
    assert found(project, VIRTUAL_ENV=own.prefix).warnings == ()
    result = found(project, VIRTUAL_ENV=elsewhere.prefix)
    assert result.path == elsewhere.python
    assert result.warnings == (
        f"VIRTUAL_ENV names {elsewhere.prefix}, which is used; the project's own environment is "
        f"{own.prefix}: to use that one, --python {own.prefix}",
    )
    command = CommandLine({**cli.environ, "VIRTUAL_ENV": str(elsewhere.prefix)}, project)
    said = command("scan").stderr.splitlines()
    assert said[0] == f"warning: {result.warnings[0]}"
    assert said[1].endswith(f" in {elsewhere.prefix} (VIRTUAL_ENV)")


@pytest.mark.parametrize(
    ("variables", "is_base"),
    [
        ({"CONDA_DEFAULT_ENV": "base"}, True),
        ({"CONDA_DEFAULT_ENV": "root"}, True),
        ({"CONDA_DEFAULT_ENV": "analysis"}, False),
        ({"_CONDA_ROOT": "{prefix}"}, True),
        ({"CONDA_EXE": "{prefix}/bin/conda", "CONDA_DEFAULT_ENV": "mine"}, True),
        ({"CONDA_EXE": "/opt/conda/bin/conda", "CONDA_DEFAULT_ENV": "mine"}, False),
        ({"MAMBA_ROOT_PREFIX": "{prefix}"}, True),
        ({}, False),
    ],
)
def test_conda_base_is_recognised_by_activation_variables(
    variables: dict[str, str], is_base: bool, tmp_path: Path
) -> None:
    environ = {key: value.format(prefix=tmp_path) for key, value in variables.items()}
    environ["CONDA_PREFIX"] = str(tmp_path)
    assert is_conda_base(str(tmp_path), environ) is is_base


def test_conda_base_is_recognised_by_its_files(tmp_path: Path) -> None:
    base, child = tmp_path / "conda", tmp_path / "conda" / "envs" / "with-conda"
    for prefix in (base, child):
        (prefix / "condabin").mkdir(parents=True)
        (prefix / "conda-meta").mkdir()
    assert is_conda_base(str(base), {})
    assert not is_conda_base(str(child), {})
    (base / "conda-meta" / "pixi").touch()
    assert not is_conda_base(str(base), {"CONDA_DEFAULT_ENV": "base", "CONDA_PREFIX": str(base)})


def test_conda_base_comes_after_the_project(environment: MakeEnvironment, project: Path) -> None:
    base = environment()
    active = {"CONDA_PREFIX": str(base.prefix), "CONDA_DEFAULT_ENV": "base"}
    assert found(project, **active) == FoundEnvironment(base.python, "CONDA_PREFIX, conda's base")
    own = environment(name="project/.venv")
    assert found(project, **active) == FoundEnvironment(own.python, "the project's .venv")
    other = found(project, CONDA_PREFIX=base.prefix, CONDA_DEFAULT_ENV="analysis")
    assert other.path == base.python
    assert str(own.prefix) in other.warnings[0]


def test_conda_environment_without_python_gives_way_to_the_project(
    environment: MakeEnvironment, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "compilers").mkdir()
    assert "holds no Python interpreter" in refused(project, CONDA_PREFIX=tmp_path / "compilers")
    own = environment(name="project/.venv")
    assert found(project, CONDA_PREFIX=tmp_path / "compilers").path == own.python


def test_conda_base_without_python_is_passed_over(project: Path, tmp_path: Path) -> None:
    (tmp_path / "micromamba").mkdir()
    active = {"CONDA_PREFIX": tmp_path / "micromamba", "CONDA_DEFAULT_ENV": "base"}
    assert found(project, **active).path == Path(sys.executable)


class OwnEnvironment(LocalEnvironment):
    """An environment that imagesync runs in: it imports it, and all it needs, from where the tests do."""

    @classmethod
    def of(cls, made: LocalEnvironment) -> OwnEnvironment:
        folders = (ROOT, sysconfig.get_paths()["purelib"])
        (made.site_packages / "imagesync.pth").write_text("".join(f"{folder}\n" for folder in folders))
        script = made.prefix / "bin" / "imagesync"
        program = (BIN / "imagesync").read_text().partition("\n")[2]
        script.write_text(f"#!{made.python}\n{program}")
        script.chmod(0o755)
        return cls(made.prefix)

    def by_script(self, cli: CommandLine, cwd: Path) -> CommandLine:
        """Return its console script, run in *cwd*."""
        return CommandLine(cli.environ, cwd, (self.prefix / "bin" / "imagesync",))

    def by_module(self, cli: CommandLine, cwd: Path) -> CommandLine:
        """Return ``python -m imagesync``, run in *cwd*."""
        return CommandLine(cli.environ, cwd, (self.python, "-m", "imagesync"))


@pytest.fixture
def own(environment: MakeEnvironment) -> OwnEnvironment:
    return OwnEnvironment.of(environment(name="own"))


def prefix_of(command: CommandLine) -> str:
    return str(command("scan", "--format", "json").json()["python"]["prefix"])


def test_environment_with_imagesync_installed_is_used_where_path_has_it_first(
    own: OwnEnvironment, environment: MakeEnvironment, cli: CommandLine, project: Path, tmp_path: Path
) -> None:
    assert prefix_of(own.by_script(cli, tmp_path)) == str(own.prefix)
    assert prefix_of(own.by_module(cli, tmp_path)) == str(own.prefix)
    other = environment(name="project/.venv")
    base = {"CONDA_PREFIX": other.prefix, "CONDA_DEFAULT_ENV": "base"}
    kernel = f"{own.prefix}/bin:{other.prefix}/bin:{cli.environ['PATH']}"
    for variables in (base, {"VIRTUAL_ENV": other.prefix}):
        # A kernel's environment, started from a notebook server's.
        assert prefix_of(own.by_module(cli, project).with_environ(**variables)) == str(own.prefix)
        assert prefix_of(own.by_script(cli, project).with_environ(**variables, PATH=kernel)) == str(
            own.prefix
        )
        assert prefix_of(own.by_script(cli, project).with_environ(**variables)) == str(other.prefix)


def test_activated_environment_of_imagesync_is_used(
    own: OwnEnvironment, environment: MakeEnvironment, cli: CommandLine, project: Path
) -> None:
    environment(name="project/.venv")
    path = f"{own.prefix}/bin:{cli.environ['PATH']}"
    activated = own.by_script(cli, project).with_environ(VIRTUAL_ENV=own.prefix, PATH=path)
    warning, line = activated("scan").stderr.splitlines()
    assert warning.startswith(f"warning: VIRTUAL_ENV names {own.prefix}, which is used; ")
    assert line.endswith(f" in {own.prefix} (VIRTUAL_ENV)")
    assert activated("-q", "scan").stderr.splitlines() == [warning]
    on_path = own.by_script(cli, project).with_environ(PATH=path)
    assert on_path("scan").stderr.endswith(" (imagesync is installed in it, and it is on PATH)\n")


@pytest.mark.parametrize("tool", RECEIPTS)
def test_environment_of_a_tool_is_refused(
    tool: str, own: OwnEnvironment, environment: MakeEnvironment, cli: CommandLine, project: Path
) -> None:
    name, receipt = RECEIPTS[tool]
    (own.prefix / name).write_text(receipt)
    for command in (own.by_script(cli, project), own.by_module(cli, project)):
        done = command.run("build")
        assert (done.returncode, done.stdout) == (1, "")
        for text in (f"{own.prefix}, which {tool} made", "VIRTUAL_ENV: not set", ".venv", "--python PATH"):
            assert text in done.stderr
    environment(name="project/venv")
    assert "--python venv" in own.by_script(cli, project).run("scan").stderr
    made = environment(name="project/.venv")
    done = own.by_script(cli, project)("scan", "--format", "json")
    assert done.json()["python"]["prefix"] == str(made.prefix)
    assert done.stderr == (
        f"Using CPython {done.json()['python']['version']} in {made.prefix} (the project's .venv)\n"
    )


def test_commands_that_look_at_no_environment_need_none(
    own: OwnEnvironment, cli: CommandLine, tmp_path: Path
) -> None:
    (own.prefix / "uv-receipt.toml").write_text(RECEIPTS["uv tool"][1])
    assert own.by_script(cli, tmp_path)("cache", "info").stderr == ""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"uv.lock": ""}, "uv sync"),
        ({"pixi.toml": ""}, "pixi install"),
        ({"poetry.lock": ""}, '--python "$(poetry env info --executable)"'),
        ({"pyproject.toml": "[tool.poetry]\n"}, '--python "$(poetry env info --executable)"'),
        ({"pdm.lock": ""}, '--python "$(pdm info --python)"'),
        ({"pyproject.toml": "[tool.hatch.envs.default]\n"}, '--python "$(hatch env find)"'),
        ({"Pipfile": ""}, '--python "$(pipenv --py)"'),
        ({"pyproject.toml": "[tool.hatch.build]\n", "uv.lock": ""}, "uv sync"),
        ({"pyproject.toml": "broken"}, "--python PATH"),
    ],
)
def test_project_tool_is_named_with_the_command_that_prints_its_environment(
    files: dict[str, str], expected: str, own: OwnEnvironment, cli: CommandLine, project: Path
) -> None:
    (own.prefix / "uv-receipt.toml").write_text(RECEIPTS["uv tool"][1])
    for name, content in files.items():
        (project / name).write_text(content)
    (project / "src").mkdir()
    done = own.by_script(cli, project / "src").run("scan")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "hatch env" not in done.stderr or "hatch" in expected


def test_uvx_environment_is_a_tools(tmp_path: Path) -> None:
    prefix = tmp_path / "uv" / "archive-v0" / "S1yUaVIDWRw06Hmm"
    prefix.mkdir(parents=True)
    assert tool_of(str(prefix)) == ""
    (tmp_path / "uv" / "CACHEDIR.TAG").touch()
    assert tool_of(str(prefix)) == "uvx"
    assert tool_of(str(tmp_path)) == ""


def test_quiet_command_does_not_report_the_environment(
    environment: MakeEnvironment, cli: CommandLine
) -> None:
    command = cli.with_environ(VIRTUAL_ENV=environment().prefix)
    assert command("--quiet", "scan").stderr == ""
    assert command("--quiet", "plan", "--profile", "none").stderr == ""


@pytest.mark.parametrize("command", ["scan", "plan", "diff"])
def test_command_reports_the_environment_once(
    command: str, environment: MakeEnvironment, cli: CommandLine
) -> None:
    made = environment()
    arguments = {
        "scan": ("scan",),
        "plan": ("plan", "--profile", "none"),
        "diff": ("diff", "--profile", "none", "local", "local"),
    }[command]
    done = cli.with_environ(VIRTUAL_ENV=made.prefix)(*arguments)
    version = ".".join(map(str, sys.version_info[:3]))
    assert done.stderr.splitlines() == [f"Using CPython {version} in {made.prefix} (VIRTUAL_ENV)"]
