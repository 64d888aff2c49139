from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagesync.cli.init import write_settings
from imagesync.core.files import parse_toml
from imagesync.errors import UsageError
from imagesync.settings.keys import KEYS
from imagesync.settings.load import load_settings


def test_settings_become_a_new_file_without_a_pyproject(tmp_path: Path) -> None:
    assert write_settings(tmp_path) == tmp_path / "imagesync.toml"
    text = (tmp_path / "imagesync.toml").read_text("utf-8")
    parse_toml(text)
    assert "tool.imagesync" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["imagesync.toml"]


@pytest.mark.parametrize(
    "before",
    [
        b'[project]\nname = "mine"\nversion = "1"\n',
        b'[project]\nname = "mine"',
        b'[project]\r\nname = "w\xc3\xa4hlt"\r\n# last\r\n',
        b"",
    ],
)
def test_settings_are_appended_to_pyproject_and_the_rest_is_kept(tmp_path: Path, before: bytes) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_bytes(before)
    project.chmod(0o640)
    assert write_settings(tmp_path) == project
    after = project.read_bytes()
    assert after.startswith(before)
    assert len(after) > len(before) + 100
    assert "imagesync" in parse_toml(after.decode())["tool"]
    assert project.stat().st_mode & 0o777 == 0o640
    if b"\r\n" in before:
        assert after.count(b"\n") == after.count(b"\r\n")


def test_symlinked_pyproject_stays_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "pyproject.toml"
    real.write_text("[project]\n")
    (tmp_path / "pyproject.toml").symlink_to(real)
    write_settings(tmp_path)
    assert (tmp_path / "pyproject.toml").is_symlink()
    assert "[tool.imagesync]" in real.read_text()


@pytest.mark.parametrize(
    "before",
    [
        "[tool.imagesync]\nstrict = true\n",
        "[tool.imagesync.levels]\n",
        "not toml",
        'tool = {other = "x"}\n',
        "\udcff",
    ],
)
def test_pyproject_that_cannot_take_settings_is_left_unchanged(tmp_path: Path, before: str) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_bytes(before.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        write_settings(tmp_path)
    assert project.read_bytes() == before.encode("utf-8", "surrogateescape")
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_existing_settings_are_left_unchanged(tmp_path: Path) -> None:
    write_settings(tmp_path)
    (tmp_path / "imagesync.toml").write_text("strict = true\n")
    with pytest.raises(UsageError, match="already"):
        write_settings(tmp_path)
    assert (tmp_path / "imagesync.toml").read_text() == "strict = true\n"


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_settings(tmp_path / "missing")


@pytest.mark.parametrize("project", [False, True])
def test_settings_are_valid_once_all_lines_are_uncommented(tmp_path: Path, project: bool) -> None:
    # As an editor does it, which removes one comment character and one space from each line.
    if project:
        (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "imagesync-templates").mkdir()
    written = write_settings(tmp_path)
    text = written.read_text("utf-8")
    written.write_text(re.sub(r"^# ?", "", text, flags=re.MULTILINE))
    settings = load_settings(cwd=tmp_path, environ={}, flags={})
    assert settings.profile == "auto"
    assert set(settings.origins) == {key.field for key in KEYS}
    assert set(settings.apt) == {"git", "libgomp1"}
    assert settings.add_pip == ("gunicorn>=23",)
    assert settings.levels == {"xarray": "exact"}
    assert dict(settings.env) == {"OMP_NUM_THREADS": "1"}
    assert dict(settings.labels) == {"com.example.team": "weather"}
    assert settings.templates == tmp_path / "imagesync-templates"
