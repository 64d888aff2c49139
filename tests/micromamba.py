"""micromamba for tests: the real one if there is one, else a program of one file that behaves like it."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import zstandard

# A zip archive is read from its end, so that the program is one file: this, and what Python runs of it.
_LAUNCHER = """\
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **arguments) {
    char path[4096];
    char *command[count + 3];
    long length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) return 1;
    path[length] = 0;
    command[0] = "python3", command[1] = "-IB", command[2] = path;
    for (int i = 1; i <= count; i++) command[i + 2] = arguments[i];
    execvp(command[0], command);
    perror("python3");
    return 1;
}
"""
# A compiled module can't be imported from a zip archive.
_MAIN = """\
import sys, tempfile, zipfile
with tempfile.TemporaryDirectory() as folder:
    with zipfile.ZipFile(sys.argv[0]) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("zstandard/")])
    sys.path.insert(0, folder)
    import micromamba_stand_in
    micromamba_stand_in.main(sys.argv[1:])
"""


def real_micromamba() -> Path | None:
    """Return the micromamba of this machine, if there is one."""
    found = os.environ.get("IMAGESYNC_MICROMAMBA") or shutil.which("micromamba")
    return Path(found) if found else None


def make_stand_in(folder: Path) -> Path:
    """Return a program in *folder* that behaves like micromamba; see ``micromamba_stand_in.py``."""
    source, program = folder / "launcher.c", folder / "micromamba"
    source.write_text(_LAUNCHER)
    subprocess.run(["gcc", "-O1", "-o", program, source], check=True)
    library = Path(zstandard.__file__).parent
    with zipfile.ZipFile(program, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.write(Path(__file__).with_name("micromamba_stand_in.py"), "micromamba_stand_in.py")
        archive.write(library / "__init__.py", "zstandard/__init__.py")
        for path in library.glob("backend_c.*.so"):
            stripped = folder / path.name
            subprocess.run(["strip", "-o", stripped, path], check=True)
            archive.write(stripped, f"zstandard/{path.name}")
    return program
