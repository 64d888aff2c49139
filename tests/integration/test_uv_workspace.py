"""Members of a uv workspace whose installed metadata is stale."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesync.plan.checks.consistency import inconsistencies
from imagesync.scan.scan import scan

MEMBER = """
[project]
name = "{name}"
version = "{version}"
requires-python = ">=3.8"
dependencies = [{dependencies}]
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
"""
ROOT = """
[tool.uv.sources]
lib = {{ workspace = true }}
[tool.uv.workspace]
members = ["lib"]
"""


def uv_sync(folder: Path, *options: str) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    subprocess.run([find_uv_bin(), "sync", "--quiet", *options], cwd=folder, env=environ, check=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a workspace with the members app and lib, installed by ``uv sync``."""
    for folder, name in ((tmp_path, "app"), (tmp_path / "lib", "lib")):
        (folder / "src" / name).mkdir(parents=True)
        (folder / "src" / name / "__init__.py").touch()
    write(tmp_path, lib="1.0", requirement="lib>=1.0")
    uv_sync(tmp_path)
    return tmp_path


def write(workspace: Path, *, lib: str, requirement: str) -> None:
    app = MEMBER.format(name="app", version="1.0", dependencies=f'"{requirement}"')
    (workspace / "pyproject.toml").write_text(app + ROOT.format())
    (workspace / "lib" / "pyproject.toml").write_text(MEMBER.format(name="lib", version=lib, dependencies=""))


def remedies(workspace: Path) -> list[str]:
    environment = scan(python=workspace / ".venv" / "bin" / "python", environ={})
    return [conflict.remedy for conflict in inconsistencies(environment)]


def make_stale(workspace: Path, name: str, old: str, new: str) -> None:
    """Change the installed metadata of a member, as if it had been installed before an edit."""
    (metadata,) = workspace.glob(f".venv/lib/python*/site-packages/{name}-*.dist-info/METADATA")
    text = metadata.read_text()
    assert old in text
    metadata.unlink()  # it may be a hard link into uv's cache
    metadata.write_text(text.replace(old, new))


def test_member_with_an_old_version_is_named_with_the_command_of_uv(workspace: Path) -> None:
    assert remedies(workspace) == []
    write(workspace, lib="2.0", requirement="lib>=2.0")
    uv_sync(workspace, "--reinstall-package", "app", "--no-install-package", "lib", "--inexact")
    assert remedies(workspace) == [
        "The metadata of lib 1.0 is stale: its pyproject.toml has version 2.0, and 1.0 is installed.\n"
        "uv sync --reinstall-package lib"
    ]
    uv_sync(workspace, "--reinstall-package", "lib")
    assert remedies(workspace) == []


def test_member_with_an_old_requirement_is_named(workspace: Path) -> None:
    make_stale(workspace, "app", "Requires-Dist: lib>=1.0", "Requires-Dist: lib==1.0.dev3")
    assert remedies(workspace) == [
        "The metadata of app 1.0 is stale: its pyproject.toml now requires lib>=1.0.\n"
        "uv sync --reinstall-package app"
    ]


def test_dynamic_versions_of_members_name_both(workspace: Path) -> None:
    make_stale(workspace, "app", "Requires-Dist: lib>=1.0", "Requires-Dist: lib==1.0.dev3+gabc")
    for folder in (workspace, workspace / "lib"):
        path = folder / "pyproject.toml"
        dynamic = 'dynamic = ["version", "dependencies"]'
        lines = path.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("version", "dependencies"))]
        path.write_text("\n".join(kept).replace("[build-system]", f"{dynamic}\n[build-system]"))
    assert remedies(workspace) == [
        "The metadata of app 1.0 is stale or doesn't fit its neighbour's; "
        "the metadata of lib 1.0 is stale or doesn't fit its neighbour's.\n"
        "uv sync --reinstall-package app --reinstall-package lib"
    ]
