"""Scripts of benchmarks whose engine, base or programs aren't there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docker.errors import DockerException

import benchmarks
from benchmarks.scripts import run_script
from imagesync.errors import BaseImageError
from tests.commands import clean_environ

FOLDER = Path(benchmarks.__file__).parent
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8"))


def test_every_script_is_run_by_the_same_function() -> None:
    ends = {path.name: path.read_text("utf-8").partition('__name__ == "__main__":\n')[2] for path in SCRIPTS}
    assert ends == {path.name: "    run_script(main)\n" for path in SCRIPTS}
    assert "__main__.py" in ends


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BaseImageError("No base.", hint="Name another one."), "error: No base.\nhint: Name another one.\n"),
        (DockerException("No engine."), "error: No engine.\n"),
        (FileNotFoundError(2, "No such file or directory", "skopeo"), "'skopeo'\n"),
        (subprocess.CalledProcessError(2, "skopeo", stderr=b"no such image\n"), "status 2.\nno such image\n"),
        (subprocess.CalledProcessError(2, "skopeo"), "status 2.\n"),
    ],
)
def test_what_is_not_there_is_a_message(
    error: Exception, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    shown = capsys.readouterr().err
    assert (ended.value.code, shown[:7], shown[-len(message) :]) == (1, "error: ", message)


def test_code_of_a_script_is_its_exit_code_and_an_unexpected_error_is_raised() -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: 3)
    assert ended.value.code == 3
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.builders"])
def test_script_without_an_engine_ends_with_a_message(module: str, tmp_path: Path) -> None:
    environ = {**clean_environ(), "DOCKER_HOST": f"unix://{tmp_path}/nobody"}
    environ["PYTHONPATH"] = os.fspath(FOLDER.parent)
    ended = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr
