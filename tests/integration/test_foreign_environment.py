"""An environment of somebody else's, where everything that can be run leaves a file behind."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.unit.test_vcs_source import git, hostile_repository


class Foreign:
    """The environment, and the folder where whatever runs leaves a file of its name."""

    def __init__(self, environment: LocalEnvironment, folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.traces = folder / "traces"
        self.links = folder / "links"
        self.traces.mkdir()
        self.links.mkdir()

    @property
    def ran(self) -> set[str]:
        """Return what has run."""
        return {path.name for path in self.traces.iterdir()}

    def python(self, name: str) -> str:
        """Return a line of Python that leaves a file behind."""
        return f"import pathlib; pathlib.Path({str(self.traces / name)!r}).touch()\n"

    def install(
        self, name: str, *, direct_url: object = None, requires: str = "", record: bool = True
    ) -> None:
        info = self.environment.site_packages / f"{name}-1.0.dist-info"
        info.mkdir()
        required = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{required}")
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (info / "INSTALLER").write_text("pip\n")
        (self.environment.site_packages / f"{name}.py").write_text("value = 1\n")
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        if record:
            listed = [f"{name}.py", *(f"{info.name}/{path.name}" for path in info.iterdir())]
            (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*listed, f"{info.name}/RECORD"]))

    def make_sdist(self, name: str) -> Path:
        """Put an sdist into the folder of the only index; its setup.py leaves a file behind."""
        source = self.folder / f"{name}-1.0"
        source.mkdir()
        (source / "setup.py").write_text(
            self.python(f"setup.py of {name}")
            + f"from setuptools import setup; setup(name={name!r}, version='1.0', py_modules=[{name!r}])\n"
        )
        (source / f"{name}.py").write_text("value = 1\n")
        (source / "PKG-INFO").write_text(f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n")
        path = self.links / f"{name}-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(source, arcname=source.name)
        return path


@pytest.fixture
def foreign(base_python: Path, tmp_path: Path) -> Foreign:
    foreign = Foreign(make_environment(tmp_path / "env", python=base_python), tmp_path)
    site = foreign.environment.site_packages
    (site / "evil.pth").write_text(foreign.python("pth"))
    (site / "sitecustomize.py").write_text(foreign.python("sitecustomize"))
    upload_pack = foreign.traces / "upload-pack"
    commit = {"vcs": "git", "commit_id": "a" * 40}
    foreign.install(
        "optioned",
        direct_url={"url": f"--upload-pack=touch {upload_pack};", "vcs_info": commit},
        record=False,
    )
    foreign.install("sdisted")
    foreign.make_sdist("sdisted")
    dependency = foreign.make_sdist("dependency")
    project = hostile_repository(tmp_path / "project", foreign.traces / "git")
    (project / "pyproject.toml").unlink()
    (project / "setup.py").write_text(
        foreign.python("setup.py of mine")
        + "from setuptools import setup; setup(name='mine', version='1.0')\n"
    )
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process"):
        git(project, "config", "--unset", key)
    git(project, "config", "core.fsmonitor", f"sh -c 'touch {foreign.traces / 'git'}'")
    foreign.install(
        "mine",
        direct_url={"url": project.as_uri(), "dir_info": {"editable": True}},
        requires=f"dependency @ {dependency.as_uri()}",
    )
    for trace in foreign.traces.iterdir():
        trace.unlink()
    return foreign


@pytest.fixture
def foreign_cli(image_cli: CommandLine, foreign: Foreign, tmp_path: Path) -> CommandLine:
    return image_cli.with_environ(
        IMAGESYNC_PROFILE="none",
        IMAGESYNC_CACHE_DIR=tmp_path / "cache",
        IMAGESYNC_ALLOW_INCONSISTENT="1",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=foreign.links,
        UV_CACHE_DIR=tmp_path / "uv",
    )


def hide_interpreter(foreign: Foreign) -> None:
    """Make the interpreter one that leaves a file behind, and its version the name of a program."""
    prefix = foreign.environment.prefix
    program = prefix / "python3.1"
    for path in (foreign.environment.python, program):
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\ntouch '{foreign.traces / 'interpreter'}'\nexit 1\n")
        path.chmod(0o755)
    configuration = prefix / "pyvenv.cfg"
    kept = [line for line in configuration.read_text().splitlines() if not line.startswith("version")]
    configuration.write_text("\n".join([*kept, f"version = {program}"]) + "\n")


def test_a_prefix_is_read_and_nothing_of_it_runs(foreign: Foreign, foreign_cli: CommandLine) -> None:
    hide_interpreter(foreign)
    prefix = foreign.environment.prefix
    scanned = foreign_cli("scan", "--prefix", prefix, "--format", "json").json()
    assert {package["name"] for package in scanned["packages"]} >= {"optioned", "sdisted", "mine"}
    assert [f["package"] for f in scanned["findings"] if f["code"] == "source-refused"] == ["optioned"]
    planned = foreign_cli("plan", "--prefix", prefix, "--format", "json").json()
    assert "optioned" in {package["name"] for package in planned["left_out"]}
    locked = foreign_cli("lock", "--prefix", prefix, "--format", "json")
    assert "optioned 1.0 isn't fetched" in locked.stderr
    assert foreign.ran == set()
    for command in (("lock", "-o", "conda-lock.yml"), ("render", "context"), ("build",)):
        refused = foreign_cli.run(*command, "--prefix", prefix, "--no-build")
        assert (refused.returncode, foreign.ran) == (1, set())
        assert "mine 1.0: there is no wheel, and with --no-build no build back-end is run" in refused.stderr
        assert "--ignore mine" in refused.stderr
    for command in (("lock", "-o", "conda-lock.yml"), ("render", "context")):
        foreign_cli(*command, "--prefix", prefix, "--no-build", "--ignore", "mine")
    assert foreign.ran == set()
    assert list(foreign_cli.cwd.rglob("sdisted-1.0-*.whl"))


def test_an_interpreter_runs_what_its_environment_makes_it_run_and_nothing_else_does(
    foreign: Foreign, foreign_cli: CommandLine
) -> None:
    for command in (("scan",), ("plan",), ("lock",), ("lock", "-o", "conda-lock.yml"), ("render", "context")):
        build = ("--no-build", "--ignore", "mine") if command[-1] in ("conda-lock.yml", "context") else ()
        foreign_cli(*command, "--python", foreign.environment.python, *build)
    assert foreign.ran <= {"pth", "sitecustomize"}


def test_a_build_runs_build_back_ends(foreign: Foreign, foreign_cli: CommandLine) -> None:
    foreign_cli.run("lock", "-o", "conda-lock.yml", "--prefix", foreign.environment.prefix)
    assert "upload-pack" not in foreign.ran
    assert "git" not in foreign.ran
