"""The program by which an engine is asked for a platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.core.platforms import PLATFORMS, this_machine_runs_on
from imagesync.engine.emulation import exit_program


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")
def test_program_of_this_machine_ends_at_once_and_that_of_no_processor_does_not_start(tmp_path: Path) -> None:
    program = tmp_path / "exit"
    (here,) = (exit_program(platform) for platform in PLATFORMS if this_machine_runs_on(platform))
    program.write_bytes(here)
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 0
    program.write_bytes(here[:18] + b"\xde\xad" + here[20:])
    with pytest.raises(OSError, match="format"):
        subprocess.run([program], check=False)
