"""The recipes of examples/ci, run: each step in the shell, with a registry of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagesync.core.files import write_text
from imagesync.registry.oci_layout import ImageLayout
from tests.commands import BIN, clean_environ, git
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry
from tests.integration.oci_environment import python_base

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "ci"
MINOR = f"3.{sys.version_info.minor}"
PROJECT = f"""\
[project]
name = "weather"
version = "1.0"
description = "A test"
requires-python = "=={MINOR}.*"
dependencies = ["toolz==1.0.0"]
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[tool.imagesync]
profile = "none"
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the variables of a CI machine with uv and an empty home."""
    folder = tmp_path_factory.mktemp("machine")
    python_base(ImageLayout(folder / "base"))
    tools = folder / "bin"
    tools.mkdir()
    (tools / "uv").symlink_to(BIN / "uv")
    kept = {"LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
    outside = {
        key: value for key, value in clean_environ().items() if key in kept or key.startswith(("PIP_", "UV_"))
    }
    return {
        **outside,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "UV_CACHE_DIR": uv_cache(),
        "UV_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(tools),
        "IMAGESYNC": f"file://{ROOT}",
        "IMAGESYNC_BASE": f"oci:{folder / 'base'}",
    }


@pytest.fixture
def project(tmp_path: Path, environ: Mapping[str, str]) -> Path:
    folder = tmp_path / "weather"
    (folder / "src" / "weather").mkdir(parents=True)
    write_text(folder / "pyproject.toml", PROJECT)
    write_text(folder / "src" / "weather" / "__init__.py", "")
    subprocess.run([BIN / "uv", "lock", "--quiet"], cwd=folder, check=True, env=environ)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Weather")
    return folder


def uv_cache() -> str:
    return subprocess.run(
        [BIN / "uv", "cache", "dir"], check=True, capture_output=True, text=True
    ).stdout.strip()


def read(name: str) -> Any:
    return yaml.safe_load((RECIPES / name).read_text())


def shell(script: str, folder: Path, environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def check_pushed(folder: Path, registry: LocalRegistry) -> None:
    """Check that the image is in the registry under the digest that the recipe hands on."""
    metadata = json.loads((folder / "image.json").read_text())
    name = metadata["reference"].removeprefix(f"{registry.host}/")
    assert metadata["digest"].endswith(f"@{registry.digest(name)}")


def test_gitlab_recipe_pushes_the_image_of_the_lock_file(
    project: Path, registry: LocalRegistry, environ: Mapping[str, str]
) -> None:
    job = read("gitlab-ci.yml")["image"]
    given = {
        "CI_PROJECT_DIR": str(project),
        "CI_REGISTRY": registry.host,
        "CI_REGISTRY_IMAGE": f"{registry.host}/team/gitlab",
        "CI_REGISTRY_USER": USER,
        "CI_REGISTRY_PASSWORD": PASSWORD,
    }
    # GitLab puts variables into variables.
    variables = {
        key: re.sub(r"\$(\w+)", lambda found: given[found[1]], value)
        for key, value in job["variables"].items()
    }
    variables["UV_TOOL_BIN_DIR"] = environ["UV_TOOL_BIN_DIR"]
    shell("\n".join(job["script"]), project, {**environ, **given, **variables})
    check_pushed(project, registry)
    assert job["artifacts"]["paths"] == ["image.json"]


@pytest.mark.engine  # of which docker login asks whether the password is right
def test_github_recipe_pushes_the_image_of_the_lock_file(
    project: Path, registry: LocalRegistry, environ: Mapping[str, str]
) -> None:
    workflow = read("github-actions.yml")
    job = workflow["jobs"]["image"]
    given = {
        "vars.IMAGESYNC": environ["IMAGESYNC"],
        "github.repository": "team/github",
        "github.actor": USER,
        "secrets.GITHUB_TOKEN": PASSWORD,
    }
    files = {name: str(project.parent / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    environ = {
        **environ,
        **files,
        **expanded(job["env"], given),
        "REGISTRY": registry.host,
        "IMAGESYNC_REPOSITORY": f"{registry.host}/team/github",
    }
    scripts = [step for step in job["steps"] if "run" in step]
    assert len(scripts) == 5
    for step in scripts:
        assert "${{" not in step["run"], "an expression in a script is an injection"
        shell(step["run"], project, {**environ, **expanded(step.get("env", {}), given)})
    check_pushed(project, registry)
    metadata = json.loads((project / "image.json").read_text())
    assert Path(files["GITHUB_OUTPUT"]).read_text() == f"digest={metadata['digest']}\n"
    assert "toolz" in Path(files["GITHUB_STEP_SUMMARY"]).read_text()


def expanded(variables: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return variables with GitHub's expressions put in."""
    return {
        key: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: given[found[1]], value)
        for key, value in variables.items()
    }
