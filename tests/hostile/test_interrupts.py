"""A signal to the process alone ends it within two seconds, with all processes that it has started."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment
from tests.processes import sleeping, wait_until

# Nobody else's command has this argument, so its process can be told from all others.
SLEEP = f"43{os.getpid()}.75"
BACKEND = f"""
import subprocess
def build_wheel(folder, config_settings=None, metadata_directory=None):
    subprocess.run(["sleep", "{SLEEP}"])
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "slow"
version = "1.0"
"""
INFO = "Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n"
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    """Return an environment with two editable packages whose build never ends."""
    folder = tmp_path_factory.mktemp("slow")
    prefix = folder / "env"
    site_packages = prefix / "lib" / f"python{MINOR}" / "site-packages"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    home = Path(sys.base_prefix) / "bin"
    (prefix / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {MINOR}\n"
    )
    for name in ("slow", "slower"):
        project = folder / name
        info = site_packages / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        project.mkdir()
        (project / "backend.py").write_text(BACKEND)
        (project / "pyproject.toml").write_text(PYPROJECT.replace("slow", name))
        (info / "METADATA").write_text(INFO.replace("slow", name))
        (info / "direct_url.json").write_text(
            f'{{"url": "{project.as_uri()}", "dir_info": {{"editable": true}}}}'
        )
        (info / "RECORD").write_text(f"{name}-1.0.dist-info/METADATA,,\n")
    return LocalEnvironment(prefix)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_ends_a_build_back_end_and_its_children(
    cli: CommandLine, slow: LocalEnvironment, number: int, code: int
) -> None:
    target = ("--target-python", f"{MINOR}.0", "--target-glibc", "2.36", "--base", "debian:bookworm-slim")
    here = cli.with_environ(DOCKER_HOST="tcp://127.0.0.1:1", IMAGESYNC_PROFILE="none")
    process = here.start("lock", "--python", str(slow.python), "-o", "pylock.toml", *target)
    try:
        wait_until(lambda: len(sleeping(SLEEP)) == 2 or process.poll() is not None, 60)
        assert process.poll() is None, process.communicate()
        began = time.monotonic()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        assert time.monotonic() - began < 2
        assert (process.returncode, stdout) == (code, ""), stderr
        assert stderr.splitlines()[-1] == "interrupted"
        assert "Traceback" not in stderr
        wait_until(lambda: not sleeping(SLEEP), 1)
    finally:
        process.kill()
        for pid in sleeping(SLEEP):
            os.kill(int(pid), signal.SIGKILL)
