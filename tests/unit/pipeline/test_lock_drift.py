"""Drift of an environment from the lock file that the settings name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.session import Session, open_session
from tests.progress import RecordedLines


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Return the session of an environment without packages, and of a lock file that has none for it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    path = tmp_path / "requirements.txt"
    path.write_text(f"lamp==1.0 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n{_pin('bulb')}")
    made = open_session(
        python=tmp_path / "env" / "bin" / "python", quiet=True, cache_dir=tmp_path / "cache", locked=path
    )
    return replace(made, context=replace(made.context, progress=RecordedLines()))


def _pin(name: str) -> str:
    return f"{name}==1.0 --hash=sha256:{'0' * 64}\n"


def said(session: Session) -> list[str]:
    assert isinstance(session.context.progress, RecordedLines)
    session.warn_of_drift()
    return [line for line in session.context.progress.lines if line.startswith("warning: ")]


def test_drift_is_a_warning_with_the_packages_and_the_command_that_mends_it(session: Session) -> None:
    path = session.context.settings.locked
    assert path is not None
    (line,) = said(session)
    assert line == (
        f"warning: This environment, which the image is made of, differs from {path}: bulb is missing. "
        f"Bring the environment to it: uv pip sync {path}; or compile it again."
    )
    path.write_text("".join(map(_pin, "abcdefg")))
    assert "e is missing and 2 more. Bring" in said(session)[-1]


def test_without_drift_or_a_lock_file_nothing_is_said(session: Session) -> None:
    path = session.context.settings.locked
    assert path is not None
    path.write_text(path.read_text().partition("\n")[0])
    settings = replace(session.context.settings, locked=None)
    assert said(replace(session, context=replace(session.context, settings=settings))) == []


def test_lock_file_that_cannot_be_read_is_a_warning(session: Session) -> None:
    path = session.context.settings.locked
    assert path is not None
    path.unlink()
    (line,) = said(session)
    assert "can't be read" in line
