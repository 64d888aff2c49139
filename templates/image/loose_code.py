"""Put loose code into an environment, with its bytecode; runs in the build, in the environment's interpreter.

Usage: python loose_code.py ARCHIVE FOLDER [BYTECODE]

ARCHIVE and BYTECODE are ZIP archives with members relative to FOLDER, which comes last on sys.path by a .pth
file. Modules without bytecode are compiled here, unchecked like all others: files of a layer don't change.
"""

from __future__ import annotations

import compileall
import importlib.util
import py_compile
import stat
import sys
import sysconfig
import zipfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Write the members of an archive, and return the files."""
    root = folder.resolve()
    files = []
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            target = folder / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            # A link of the archive may be on the way.
            if not target.parent.resolve().is_relative_to(root):
                sys.exit(f"{member.filename} leads out of {folder}")
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                target.symlink_to(content.read(member).decode())
                continue
            target.write_bytes(content.read(member))
            target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
            files.append(target)
    return files


def add_bytecode(archive: Path, folder: Path) -> None:
    """Write the members of an archive of bytecode that this interpreter can load."""
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            data = content.read(name)
            if data.startswith(importlib.util.MAGIC_NUMBER):
                target = folder / name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(data)


def main(archive: str, folder: str, *bytecode: str) -> None:
    """Unpack the code, give it its bytecode, and make it importable."""
    root = Path(folder)
    root.mkdir(parents=True)
    files = unpack(Path(archive), root)
    for compiled in bytecode:
        add_bytecode(Path(compiled), root)
    for path in files:
        if path.suffix == ".py" and not Path(importlib.util.cache_from_source(str(path))).exists():
            compileall.compile_file(
                path, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
    site_packages = Path(sysconfig.get_path("purelib"))
    (site_packages / "imagesync-code.pth").write_text(f"{root}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
