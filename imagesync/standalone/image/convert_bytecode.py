"""Make the bytecode of conda packages independent of times; runs in the build, in the environment's Python.

Usage: python convert_bytecode.py LIBRARY

LIBRARY is the folder of the standard library. Packages for one platform bring bytecode that the time of its
source validates (PEP 552), but times of a layer's files may change. If it was made from the present source,
its header is rewritten to an unchecked hash. Other modules are compiled.
"""

# There are tens of thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH116, PTH118, PTH123

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from imagesync.standalone.image.compile_modules import compile_module

UNCHECKED = (1).to_bytes(4, "little")
CHUNK = 64


def convert_to_hash(path: str) -> bool:
    """Rewrite the header of a module's bytecode to its source hash; return False if it has no valid one."""
    try:
        with open(importlib.util.cache_from_source(path), "r+b", buffering=0) as file:
            header = file.read(16)
            flags = int.from_bytes(header[4:8], "little")
            if header[:4] != importlib.util.MAGIC_NUMBER:
                return False
            if flags == 0 and header[8:] != time_and_size(path):
                return False
            with open(path, "rb") as source:
                source_hash = importlib.util.source_hash(source.read())
            if flags & 1 and header[8:] != source_hash:
                return False
            if flags != 1:
                file.seek(4)
                file.write(UNCHECKED + source_hash)
    except FileNotFoundError:
        return False
    return True


def time_and_size(path: str) -> bytes:
    """Return the time and the size of a source file as in a header of bytecode."""
    state = os.stat(path)
    return b"".join(
        (value & 0xFFFFFFFF).to_bytes(4, "little") for value in (int(state.st_mtime), state.st_size)
    )


def convert_or_compile(paths: list[str]) -> None:
    """Convert the bytecode of modules, and compile those that have none."""
    for path in paths:
        if not convert_to_hash(path):
            compile_module(path)


def modules(library: str) -> Iterator[str]:
    """Yield all modules of the standard library and of the packages."""
    for folder, _, files in os.walk(library):
        yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))


def main(library: str) -> None:
    """Convert the bytecode of all packages and compile the rest, on all cores."""
    found = sorted(modules(library))
    chunks = [found[start : start + CHUNK] for start in range(0, len(found), CHUNK)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(convert_or_compile, chunks))


if __name__ == "__main__":
    main(*sys.argv[1:])
