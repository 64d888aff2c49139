"""Code that can be imported here, belongs to no package, and isn't in the image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment

MakeEnvironment = Callable[..., LocalEnvironment]


@pytest.fixture
def made(environment: MakeEnvironment) -> LocalEnvironment:
    return environment("toolz")


def module(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def loose(cli: CommandLine, *arguments: str | Path, **variables: str | Path) -> dict[str, dict[str, Any]]:
    planned = cli.with_environ(**variables)("plan", "--format", "json", *arguments).json()
    return {each["code"]: each for each in planned["findings"] if each["code"].startswith("loose-")}


def test_empty_folder_has_no_loose_code(cli: CommandLine, made: LocalEnvironment) -> None:
    module(
        cli.cwd, "setup.py", "conftest.py", "tests/__init__.py", "docs/conf.py", "test_it.py", "my-script.py"
    )
    assert loose(cli, VIRTUAL_ENV=made.prefix) == {}


def test_loose_code_is_found_in_every_place(cli: CommandLine, made: LocalEnvironment, tmp_path: Path) -> None:
    module(tmp_path / "on path", "onpath.py", "bundle/__init__.py", "notes.txt")
    module(tmp_path / "pth", "viapth.py")
    module(made.site_packages, "stray.py", "strays/__init__.py")
    module(cli.cwd, "helper.py", "script.py")
    (made.site_packages / "mine.pth").write_text(f"{tmp_path / 'pth'}\n")
    found = loose(cli, VIRTUAL_ENV=made.prefix, PYTHONPATH=tmp_path / "on path")
    assert {code: (each["severity"], each["path"]) for code, each in found.items()} == {
        "loose-pythonpath": ("warning", str(tmp_path / "on path")),
        "loose-pth": ("warning", str(tmp_path / "pth")),
        "loose-site-packages": ("warning", str(made.site_packages)),
        "loose-folder": ("info", str(cli.cwd)),
    }
    assert found["loose-pythonpath"]["message"].startswith("bundle, onpath in ")
    assert f"--code '{tmp_path / 'on path'}'" in found["loose-pythonpath"]["hint"]
    assert "stray, strays in " in found["loose-site-packages"]["message"]
    assert str(made.site_packages / "stray.py") in found["loose-site-packages"]["hint"]
    assert "helper, script in " in found["loose-folder"]["message"]
    assert 'code = ["."]' in found["loose-folder"]["hint"]


def test_collected_code_is_no_finding(cli: CommandLine, made: LocalEnvironment) -> None:
    module(cli.cwd, "helper.py", "lib/other.py")
    arguments = ("--code", "helper.py")
    lib = cli.cwd / "lib"
    found = loose(cli, *arguments, VIRTUAL_ENV=made.prefix, PYTHONPATH=lib)
    assert list(found) == ["loose-pythonpath"]
    assert loose(cli, *arguments, "--code", "lib", VIRTUAL_ENV=made.prefix, PYTHONPATH=lib) == {}


def test_module_of_a_package_is_not_loose(
    cli: CommandLine, environment: MakeEnvironment, tmp_path: Path
) -> None:
    project = module(tmp_path / "project", "src/orchard/__init__.py", "tools.py")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.8"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "orchard"\nversion = "1.0"\ndescription = "Trees"\n'
    )
    made = environment("toolz", "setuptools", "six", editable=[project])
    inside = CommandLine(cli.environ, project)
    path = os.pathsep.join(map(str, (project / "src", made.site_packages, "", tmp_path / "nowhere")))
    assert loose(inside, VIRTUAL_ENV=made.prefix, PYTHONPATH=path) == {}


def test_package_without_a_list_of_files_gives_no_finding(cli: CommandLine, made: LocalEnvironment) -> None:
    module(made.site_packages, "stray.py")
    (made.site_packages / "old-1.0.egg-info").write_text("Name: old\nVersion: 1.0\n")
    assert loose(cli, VIRTUAL_ENV=made.prefix) == {}


def test_plan_lists_collected_code(cli: CommandLine, made: LocalEnvironment) -> None:
    module(cli.cwd, "lib/helper.py", "lib/.env")
    (cli.cwd / "lib" / "data.csv").write_text("12345")
    (cli.cwd / "imagesync.toml").write_text('code = ["lib"]\n')
    here = cli.with_environ(VIRTUAL_ENV=made.prefix, COLUMNS="200")
    code = here("plan", "--format", "json").json()["code"]
    (path,) = code.pop("paths")
    assert code.pop("digest").startswith("sha256:")
    assert code == {"files": 2, "size": 5, "modules": ["helper"]}
    assert path == {
        "path": str(cli.cwd / "lib"),
        "modules": ["helper"],
        "files": [{"path": "data.csv", "size": 5}, {"path": "helper.py", "size": 0}],
        "left_out": [{"path": ".env", "reason": "it looks like a secret"}],
    }
    table = here("plan").stdout
    assert "loose code: 2 files" in table
    assert "code-secret-left-out" in table


def test_size_limit_stops_the_command(cli: CommandLine, made: LocalEnvironment) -> None:
    module(cli.cwd, "lib/helper.py")
    (cli.cwd / "lib" / "large.bin").write_bytes(bytes(5_000))
    here = cli.with_environ(VIRTUAL_ENV=made.prefix)
    refused = here.run("plan", "--code", "lib", "--code-max-size", "1 kB")
    assert refused.returncode == 1
    assert "large.bin" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert here.run("plan", "--code", "lib", "--code-max-size", "much").returncode == 2
    assert here.run("plan", "--code", "gone").returncode == 2
