"""The wheel of imagesync itself: what builds need is in it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

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


def test_wheel_has_templates_and_programs(tmp_path: Path) -> None:
    subprocess.run(
        [find_uv_bin(), "build", "--wheel", "--quiet", "--out-dir", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    programs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "imagesync/standalone").rglob("*.py")}
    assert programs <= names
    templates = {name for name in names if name.startswith("imagesync/templates/")}
    assert not [name for name in templates if name.endswith(".py")]
    subprocess.run([sys.executable, "-I", "-c", CHECK, str(tmp_path / "installed")], check=True)
