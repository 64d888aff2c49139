"""Installing conda packages by micromamba, as the build step does; the layer's tests do it in an image."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from imagesync.standalone.image import install_conda, shared_conda_files
from imagesync.standalone.image.count_packages import counted
from tests.channels.archive import CondaPackage, File, write_package
from tests.channels.doubles import generic

STAND_IN = Path(__file__).parents[2] / "micromamba_stand_in.py"
PROCESSORS = {"emulated": "processor : 0\nBogoMIPS : 48.00\n", "native": "vendor_id\t: AuthenticAMD\n"}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(install_conda, "SCRATCH", scratch)
    monkeypatch.setattr(install_conda, "CACHE", tmp_path / "packages")
    return scratch


def script(name: str, text: str) -> CondaPackage:
    files = {f"bin/.{name}-post-link.sh": File(f"#!/bin/sh\n{text}\n".encode(), True)}
    return generic(name, "1.0.0", subdir="linux-64", files=files)


def install(folder: Path, packages: Sequence[CondaPackage]) -> Path:
    """Install packages in their order, and return the prefix."""
    program = folder / "micromamba"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    program.chmod(0o755)
    lines = [f"file://{write_package(package, folder / 'channel')}" for package in packages]
    (folder / "explicit.txt").write_text("\n".join(["@EXPLICIT", *lines]))
    install_conda.install_by_micromamba(str(program), folder / "env", folder / "explicit.txt")
    return folder / "env"


@pytest.mark.parametrize(("processor", "threads"), [("emulated", "1"), ("native", "")])
def test_archives_are_extracted_by_one_thread_under_emulation(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: str, threads: str
) -> None:
    monkeypatch.setattr(install_conda, "_cpuinfo", lambda: PROCESSORS[processor])
    prefix = install(tmp_path, [script("asker", 'echo "$MAMBA_EXTRACT_THREADS" >"$PREFIX/threads"')])
    assert (prefix / "threads").read_text().strip() == threads


def test_failing_scripts_are_recorded(scratch: Path, tmp_path: Path) -> None:
    careful = 'bash -c "exit 3" || true\ncommand -v bash >"$PREFIX/shell"'
    scripts = [script("broken", "exit 3"), script("careful", careful), script("absent", "/nowhere/program")]
    prefix = install(tmp_path, scripts)
    assert json.loads((scratch / "failed.json").read_text()) == ["absent", "broken"]
    assert str(scratch) not in (prefix / "shell").read_text(), "scripts get the shell of the image"


def test_messages_of_scripts_are_shown_and_removed(
    scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = install(tmp_path, [script("herald", 'echo "run setup once" >>"$PREFIX/.messages.txt"')])
    assert (prefix / ".messages.txt").exists()
    install_conda.show_messages(prefix)
    assert "run setup once" in capsys.readouterr().out
    assert not (prefix / ".messages.txt").exists()
    install_conda.show_messages(prefix)


def test_files_that_scripts_write_outside_of_the_environment_are_found(scratch: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in (
        "etc/old.conf",
        "tmp/log",
        "opt/env/bin/.herald-post-link.sh",
        "opt/env/bin/herald",
        "usr/lib/x",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("old")
    since = (root / "usr/lib/x").stat().st_ctime_ns
    while (root / "etc/old.conf").stat().st_ctime_ns <= since:
        (root / "etc/old.conf").chmod(0o600)
    for path in ("etc/new.conf", "tmp/other", "opt/env/share", "usr/lib/__pycache__"):
        (root / path).mkdir() if path.endswith("_") else (root / path).write_text("new")
    (root / "etc/link").symlink_to("new.conf")
    (root / "usr/lib/__pycache__/x.pyc").touch()
    found = install_conda.changed_outside(str(root / "opt/env"), since, str(root))
    assert sorted(found) == [str(root / "etc" / name) for name in ("link", "new.conf", "old.conf")]
    assert install_conda.scripts_of(root / "opt/env") == ["herald"]


def test_prefix_in_a_binary_file_keeps_its_length() -> None:
    placeholder, prefix = b"/placehold_placehold", b"/opt/env"
    data = b"\x7fELF\0" + placeholder + b"/lib:" + placeholder + b"/share\0\0rest" + placeholder + b"\0"
    found = shared_conda_files.replace_in_binary(data, placeholder, prefix)
    assert len(found) == len(data)
    assert found.startswith(b"\x7fELF\0/opt/env/lib:/opt/env/share\0")
    assert found.rstrip(b"\0").endswith(b"rest/opt/env")
    assert placeholder not in found


def test_each_installed_package_is_counted_by_its_prefix_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with counted(3, partial(install_conda.installed_records, tmp_path)):
        (tmp_path / "conda-meta").mkdir()
        (tmp_path / "conda-meta" / "scikit-learn-1.5.2-py311h57cc02b_1.json").touch()
        (tmp_path / "conda-meta" / "numpy-2.1.0-py311h71ddf71_0.json").touch()
        (tmp_path / "conda-meta" / "history").touch()
    assert capsys.readouterr().out.splitlines() == ["[1/3] numpy 2.1.0", "[2/3] scikit-learn 1.5.2"]


def test_each_package_that_micromamba_installs_is_counted(
    scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = [script("herald", "true"), script("post-office", "true")]
    with counted(2, partial(install_conda.installed_records, tmp_path / "env")):
        install(tmp_path, packages)
    assert capsys.readouterr().out.splitlines() == ["[1/2] herald 1.0.0", "[2/2] post-office 1.0.0"]
