"""Files that a wheel has, and that aren't among the listed sources of its project."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from imagesync.wheels.sources.build_copy import copy_for_build
from imagesync.wheels.sources.source_digests import record_untracked_inputs, untracked_inputs
from imagesync.wheels.sources.source_tree import build_digest
from tests.commands import git

SOURCES = {"pyproject.toml": "[project]\n", "src/heron/__init__.py": "", "src/heron/core.py": "VALUE = 1\n"}


def make_project(folder: Path) -> Path:
    for name, text in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def digest_after_build(project: Path, scratch: Path, **generated: str) -> tuple[str, tuple[str, ...]]:
    """Return the digest that a build records, and the untracked inputs that it has found."""
    scratch.mkdir(exist_ok=True)
    wheel, cache = scratch / "heron-1.0-py3-none-any.whl", scratch / "cache"
    digest, copy = build_digest(project), copy_for_build(project, scratch / "copy")
    members = {name.removeprefix("src/"): text for name, text in SOURCES.items() if "src" in name}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**members, **generated}.items():
            archive.writestr(name, text)
    sizes = copy.untracked.sizes
    recorded = record_untracked_inputs(project, wheel, sizes, digest=digest, listed=copy.files, cache=cache)
    return recorded, untracked_inputs(project, cache=cache)


def test_copies_beside_a_project_in_an_ignored_folder_are_no_inputs(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    alone = make_project(tmp_path_factory.mktemp("alone") / "project")
    repository = make_project(tmp_path_factory.mktemp("repository"))
    (repository / ".gitignore").write_text(".work/\n")
    ignored = make_project(repository / ".work" / "project")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    expected = digest_after_build(alone, tmp_path_factory.mktemp("one"))
    assert digest_after_build(ignored, tmp_path_factory.mktemp("other")) == expected


def test_file_beside_a_project_that_the_project_lacks_is_an_input(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    project = make_project(repository / "project")
    (repository / "shared.py").write_text("SHARED = 1\n")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    _, inputs = digest_after_build(project, tmp_path / "scratch", **{"heron/shared.py": "SHARED = 1\n"})
    assert inputs == ("../shared.py",)
