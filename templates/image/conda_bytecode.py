"""Give the modules of conda packages bytecode that holds; runs in the build, in the environment's Python.

Usage: python conda_bytecode.py LIBRARY

LIBRARY is the folder of the standard library. Packages for one platform come with bytecode that is valid by
the time of its source (PEP 552); times of a layer's files may change. Where it is of the source that is
there, its header is rewritten, and it holds by hash, unchecked. What is left is compiled.
"""

# There are tens of thousands of files, and pathlib takes its time for each.
# ruff: noqa: PTH116, PTH118, PTH123

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import bytecode

UNCHECKED = (1).to_bytes(4, "little")
CHUNK = 64


def adopt(path: str) -> bool:
    """Let the bytecode of a module hold by hash, and return whether there is any that was made from it."""
    try:
        with open(importlib.util.cache_from_source(path), "r+b", buffering=0) as file:
            header = file.read(16)
            flags = int.from_bytes(header[4:8], "little")
            if header[:4] != importlib.util.MAGIC_NUMBER:
                return False
            if flags == 0 and header[8:] != times(path):
                return False
            with open(path, "rb") as source:
                made_from = importlib.util.source_hash(source.read())
            if flags & 1 and header[8:] != made_from:
                return False
            if flags != 1:
                file.seek(4)
                file.write(UNCHECKED + made_from)
    except FileNotFoundError:
        return False
    return True


def times(path: str) -> bytes:
    """Return time and size of a source file as a header of bytecode has them."""
    state = os.stat(path)
    return b"".join(
        (value & 0xFFFFFFFF).to_bytes(4, "little") for value in (int(state.st_mtime), state.st_size)
    )


def finish(paths: list[str]) -> None:
    """Give some modules their bytecode."""
    for path in paths:
        if not adopt(path):
            bytecode.compile_module(path)


def modules(library: str) -> Iterator[str]:
    """Yield all modules of the standard library and of the packages."""
    for folder, _, files in os.walk(library):
        yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))


def main(library: str) -> None:
    """Adopt the bytecode that is there, and compile the rest, on all cores."""
    found = sorted(modules(library))
    chunks = [found[start : start + CHUNK] for start in range(0, len(found), CHUNK)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(finish, chunks))


if __name__ == "__main__":
    main(*sys.argv[1:])
