"""Run an installation by uv, and print each package once it is unpacked; runs in the build.

Usage: python run_uv.py WHEELS CACHE COMMAND...

The folder WHEELS holds the wheels, and CACHE is uv's. The exit code is that of COMMAND.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from imagesync.standalone.image.count_packages import counted


def main(wheels: str, cache: str, *command: str) -> int:
    """Run the command, and return its exit code."""

    def unpacked() -> set[str]:
        return {path.stem for path in Path(cache).glob("archive-v*/*/*.dist-info")}

    with counted(sum(1 for _ in Path(wheels).glob("*.whl")), unpacked):
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
