"""The command as a process: standard streams that are full or closed, a working folder that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.errors import ImagesyncError
from tests.command_server import needs_own_start
from tests.commands import CommandLine, clean_environ

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="only POSIX has /dev/full and removes working folders"
)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run *command*, in which ``$imagesync`` is the command line, in a shell."""
    environ = {**os.environ, "imagesync": f"{sys.executable} -m imagesync"}
    done = subprocess.run(
        ["sh", "-c", command], env=environ, cwd=folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "command", ["scan", "scan --format json", "completion bash", "--help", "plan --help", "--version"]
)
def test_full_output_is_an_error(command: str, tmp_path: Path) -> None:
    done = shell(f"$imagesync {command} >/dev/full", tmp_path)
    assert done.returncode == ImagesyncError.exit_code
    assert "error: The output or a file can't be written: No space left on device.\n" in done.stderr


@pytest.mark.parametrize(
    ("command", "closed"), [("scan", ">&-"), ("scan --format json", "<&- >&- 2>&-"), ("--help", ">&-")]
)
def test_closed_output_is_an_error(command: str, closed: str, tmp_path: Path) -> None:
    done = shell(f"$imagesync {command} {closed}", tmp_path)
    assert done.returncode == ImagesyncError.exit_code
    if "2>&-" not in closed:
        assert done.stderr.splitlines()[-2:] == [
            "error: The output can't be written: stdout is closed.",
            "hint: Send it to a file, or to /dev/null.",
        ]


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_closed_input_and_messages_are_no_error(closed: str, tmp_path: Path) -> None:
    done = shell(f"$imagesync scan {closed}", tmp_path)
    assert done.returncode == 0
    assert "packages" in done.stdout


def test_what_a_program_prints_does_not_go_to_a_closed_stream(tmp_path: Path) -> None:
    # Without stdout, the next file to be opened would be number 1, which interpreters and git print to.
    shell("$imagesync scan --format json >&-; $imagesync init >&-", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"imagesync.toml"}
    assert (tmp_path / "imagesync.toml").read_text().startswith("#")


@pytest.mark.parametrize("command", ["scan", "plan", "init", "cache info", "diff local local"])
def test_removed_working_folder_is_an_error(command: str, tmp_path: Path) -> None:
    done = shell(f"mkdir gone && cd gone && rmdir ../gone && $imagesync {command}", tmp_path)
    assert done.returncode == ImagesyncError.exit_code
    assert done.stderr.splitlines()[-2:] == [
        "error: The working folder can't be used: No such file or directory.",
        "hint: Change to a folder that exists: cd",
    ]


def test_help_needs_no_working_folder(tmp_path: Path) -> None:
    assert shell("mkdir gone && cd gone && rmdir ../gone && $imagesync --help", tmp_path).returncode == 0


def test_interrupt_while_modules_are_imported_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    environ = {**clean_environ(), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "imagesync", "scan"], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("verbose", [False, True])
def test_error_of_the_system_is_a_sentence_and_a_traceback_if_asked_for(
    verbose: bool, tmp_path: Path
) -> None:
    program = (
        "import errno, sys; import imagesync.cli.scan as scan; from imagesync.cli.main import main\n"
        "def discover(**_): raise OSError(errno.ENXIO, 'No such device', '/dev/x')\n"
        f"scan.discover = discover; sys.argv = ['imagesync', *{['-vv'] * verbose}, 'scan']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == ImagesyncError.exit_code
    assert "error: /dev/x: No such device.\nhint: `imagesync -vv` shows" in done.stderr
    assert ("Traceback" in done.stderr) is verbose


@pytest.mark.parametrize("arguments", [["--version"], ["cache", "info"], ["scan", "--prefix", "/nowhere"]])
def test_fork_of_the_tests_is_as_the_console_script(cli: CommandLine, arguments: list[str]) -> None:
    # An engine that answers has other images from one moment to the next.
    cli = cli.with_environ(DOCKER_HOST="unix:///nowhere.sock")
    forked = cli.run(*arguments)
    with cli.start(*arguments) as process:
        stdout, stderr = process.communicate()
    assert (forked.returncode, forked.stdout, forked.stderr) == (process.returncode, stdout, stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")
def test_fork_of_the_tests_is_only_for_the_variables_of_this_interpreter() -> None:
    environ = clean_environ()
    assert not needs_own_start({**environ, "HOME": "/", "IMAGESYNC_PROFILE": "none"})
    for name in ("LC_ALL", "PYTHONHASHSEED", "TZ"):
        assert needs_own_start({**environ, name: "another"})
