"""Print what an environment's image holds and what is wrong with it, as JSON.

Usage: python image_facts.py PREFIX SECONDS [MODULE ...]; the modules are imported, within that many seconds.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

# Thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH118, PTH123

IMPORT_EACH = """
import importlib, json, sys, traceback
for name in sys.argv[1:]:
    print(json.dumps([name, None]), flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(json.dumps([name, traceback.format_exception_only(type(error), error)[-1].strip()]), flush=True)
"""


def failed_imports(names: list[str], timeout: float) -> dict[str, str]:
    """Return why modules can't be imported; in a process of their own, since a bad library may end it."""
    command = [sys.executable, "-c", IMPORT_EACH, *names]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        output, ending = done.stdout, done.stderr.decode(errors="replace").strip()[-500:]
        crash = f"the interpreter ended with {done.returncode}: {ending}" if done.returncode else None
    except subprocess.TimeoutExpired as error:
        output, crash = error.stdout or b"", f"not imported within {timeout:g} s"
    # What modules print themselves stands between the lines.
    lines = [json.loads(line) for line in output.splitlines() if line.startswith(b'["')]
    failed = {name: reason for name, reason in lines if reason is not None}
    if crash is not None:
        failed[lines[-1][0] if lines else "python"] = crash
    return failed


def records() -> Iterator[tuple[str, int | None]]:
    """Yield path and size of each file that the distributions say they have."""
    for distribution in importlib.metadata.distributions():
        for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            if row:
                size = int(row[2]) if len(row) > 2 and row[2] else None
                yield os.path.normpath(str(distribution.locate_file(row[0]))), size


def damaged(files: list[tuple[str, int | None]]) -> Iterator[str]:
    """Yield the files that aren't there, or have another length than RECORD says."""
    for path, size in files:
        try:
            actual = os.stat(path).st_size  # noqa: PTH116
        except OSError:
            yield f"{path} is missing"
            continue
        if size is not None and size != actual:
            yield f"{path} has {actual} bytes instead of {size}"


def without_valid_bytecode(files: list[tuple[str, int | None]]) -> Iterator[str]:
    """Yield the modules that Python would compile again at each start."""
    for path, _ in files:
        if not path.endswith(".py") or os.sep + "site-packages" + os.sep not in path:
            continue
        try:
            with open(importlib.util.cache_from_source(path), "rb") as file:
                header = file.read(8)
        except OSError:
            header = b""
        # PEP 552: the magic number, then flags, of which the lowest says "by hash" and the next "checked".
        valid = header[:4] == importlib.util.MAGIC_NUMBER and header[4:5] == b"\x01"
        if not valid and compiles(path):
            yield path


def compiles(path: str) -> bool:
    """Return whether a file is a module at all; code templates and samples of other versions aren't."""
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec")
    except (SyntaxError, ValueError, OSError, RecursionError):
        return False
    return True


def writable(prefix: str) -> Iterator[str]:
    """Yield what this process could change in the environment."""
    for folder, _, names in os.walk(prefix):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            if not os.path.islink(path) and os.access(path, os.W_OK):  # noqa: PTH114
                yield path


def main(prefix: str, seconds: str, *modules: str) -> None:
    """Print the facts."""
    files = list(records())
    facts = {
        "version": platform.python_version(),
        "prefix": sys.prefix,
        "user": os.getuid(),
        "distributions": sorted(
            (distribution.metadata["Name"], distribution.version)
            for distribution in importlib.metadata.distributions()
        ),
        "damaged": list(damaged(files)),
        "without_bytecode": list(without_valid_bytecode(files)),
        "writable": list(writable(prefix)),
        "failed_imports": failed_imports(list(modules), float(seconds)) if modules else {},
    }
    print("\n" + json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
