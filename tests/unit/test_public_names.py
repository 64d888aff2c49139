"""The public names of the package, pinned: a change of them is a decision and no accident."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import imagesync


def test_the_public_names() -> None:
    assert imagesync.__all__ == [
        "DockerCluster",
        "ImagesyncError",
        "MismatchWarning",
        "Session",
        "Settings",
        "SwarmCluster",
        "build",
        "check",
        "connect",
        "lock",
        "open_session",
        "scan",
        "sync",
    ]
    for name in imagesync.__all__:
        assert getattr(imagesync, name).__name__ == name


def test_version_is_that_of_the_distribution() -> None:
    assert imagesync.__version__ == version("imagesync")


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sessions'"):
        imagesync.sessions  # noqa: B018


def test_errors_are_there_without_an_import_of_their_module() -> None:
    statement = "import imagesync; assert imagesync.errors.ImagesyncError is imagesync.ImagesyncError"
    subprocess.run([sys.executable, "-c", statement], check=True)


@pytest.mark.parametrize(
    "statement",
    [
        "import imagesync, imagesync.scan.scan, imagesync.lock.make_lock",
        "import imagesync.lock.make_lock, imagesync.scan.scan",
        "from imagesync.scan import scan as module; assert module.scan.__module__ == 'imagesync.scan.scan'",
        "from imagesync.lock.make_lock import make_lock; from imagesync.scan.scan import scan",
        "import importlib; importlib.import_module('imagesync.scan.scan')",
        "import imagesync; imagesync.scan; import imagesync.scan, imagesync.lock, imagesync.session",
    ],
)
def test_functions_keep_their_names_after_imports_of_subpackages(statement: str) -> None:
    check = "import imagesync; from imagesync import build, lock, scan"
    check += "; assert (scan, lock, build) == (imagesync.scan, imagesync.lock, imagesync.build)"
    check += "; print(*(function.__module__ for function in (scan, lock, build)))"
    command = [sys.executable, "-c", f"{statement}; {check}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "imagesync imagesync imagesync\n"


def test_one_line_forms_take_what_a_session_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(imagesync.ImagesyncError, match="isn't a folder"):
        imagesync.scan(prefix=tmp_path / "gone", quiet=True)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    for function in (imagesync.lock, imagesync.build):
        with pytest.raises(imagesync.ImagesyncError, match="bases"):
            function(bases="x", quiet=True)
        with pytest.raises(imagesync.ImagesyncError, match="isn't a folder"):
            function(prefix=tmp_path / "gone", quiet=True, profile="none")
