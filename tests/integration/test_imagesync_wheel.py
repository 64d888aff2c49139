"""The wheel of imagesync itself: what builds need is in it, and an index can show its description."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
CHECK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from imagesync.image.templates import build_files, build_programs
from imagesync.image.templates import dockerfile_base, shipped_templates
assert shipped_templates() == Path(sys.argv[1], "imagesync", "templates"), shipped_templates()
assert all(path.is_file() and path.is_relative_to(sys.argv[1]) for _, path in build_files())
assert build_programs(conda=True) and dockerfile_base()
assert {path.suffix for path in (shipped_templates() / "cluster").iterdir()} == {".j2"}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [find_uv_bin(), "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)], check=True
    )
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_has_templates_and_programs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    programs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "imagesync/standalone").rglob("*.py")}
    assert programs <= names
    templates = {name for name in names if name.startswith("imagesync/templates/")}
    assert not [name for name in templates if name.endswith(".py")]
    subprocess.run([sys.executable, "-I", "-c", CHECK, str(tmp_path / "installed")], check=True)


def test_description_on_an_index_refers_to_no_file_of_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert "## Limits" in description
    assert re.findall(r"\]\((?!https?:)[^)]*\)|<(?:img|picture|source)\b", description) == []
