"""Install loose code into an environment; runs in the build, in the environment's interpreter.

Usage: python install_code.py ARCHIVE FOLDER [BYTECODE]

ARCHIVE and BYTECODE are ZIP archives with members relative to FOLDER, which a .pth file puts last on
sys.path. Modules without bytecode are compiled.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

from imagesync.standalone.distributions import extract
from imagesync.standalone.image.compile_modules import compile_module, extract_bytecode


def main(archive: str, folder: str, *bytecode: str) -> None:
    """Extract the code and its bytecode, and make it importable."""
    Path(folder).mkdir(parents=True)
    try:
        files = extract(archive, folder)
    except ValueError as error:
        sys.exit(str(error))
    for compiled in bytecode:
        extract_bytecode(compiled, site_packages=folder)
    for path in files:
        if path.endswith(".py") and not Path(importlib.util.cache_from_source(path)).exists():
            compile_module(path)
    site_packages = Path(sysconfig.get_path("purelib"))
    (site_packages / "imagesync-code.pth").write_text(f"{folder}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
