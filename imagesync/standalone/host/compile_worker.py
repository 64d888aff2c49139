"""Compile the modules of wheels to bytecode; runs in the scanned interpreter.

Usage: python compile_worker.py PARENT

It writes one JSON line, ``{"ready": true}``, then answers each line of stdin, ``{"wheel": path, "archive":
path, "site_packages": path, "converts": bool, "earlier": [wheel, archive] or null, "part": number, "parts":
count}``, with one line: ``{"modules": count, "reused": count, "too_large": [path, ...]}``, or ``{"error":
text}``. It ends when stdin ends, when the process PARENT ends, or when a module takes too long.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import marshal
import sys
import warnings
import zipfile
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from imagesync.standalone.compilation import MOST_SOURCE, begin_module, bound_process, compiled
from imagesync.standalone.distributions import installed_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest time that ZIP can hold
_REGULAR = 0o100644 << 16
_UNCHECKED_HASH = (1).to_bytes(4, "little")


def main() -> None:
    """Answer requests until stdin ends."""
    warnings.simplefilter("ignore")
    bound_process(int(sys.argv[-1]))
    # Code has no reference cycles, and looking for them takes a tenth of the time.
    gc.disable()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = compile_wheel(
                request["wheel"],
                request["archive"],
                request["site_packages"],
                converts=request["converts"],
                earlier=request["earlier"],
                part=request["part"],
                parts=request["parts"],
            )
        except Exception as error:
            # Any error is an answer: the other side waits for one.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


class Earlier:
    """A wheel whose modules have been compiled for the same places, and their bytecode."""

    def __init__(self, paths: Sequence[str] | None, exits: ExitStack) -> None:
        self._zips: list[zipfile.ZipFile] = []
        with suppress(OSError, zipfile.BadZipFile):  # one may have just been removed
            self._zips = [exits.enter_context(zipfile.ZipFile(path)) for path in paths or ()]

    def bytecode(self, name: str, cached: str, source: zipfile.ZipInfo, text: bytes) -> bytes | None:
        """Return the bytecode of a module whose text is *text*, or None if the wheel has another one."""
        if not self._zips:
            return None
        wheel, archive = self._zips
        try:
            known, pyc = wheel.getinfo(name), archive.getinfo(cached)
        except KeyError:
            return None
        # The CRC spares most texts from being read, and decides nothing.
        if (known.CRC, known.file_size) != (source.CRC, source.file_size) or wheel.read(known) != text:
            return None
        found = archive.read(pyc)
        # A wheel may have two members for one place.
        return found if found[8:16] == importlib.util.source_hash(text) else None


def compile_wheel(
    wheel: str,
    archive: str,
    site_packages: str,
    *,
    converts: bool = False,
    earlier: Sequence[str] | None = None,
    part: int = 0,
    parts: int = 1,
) -> dict[str, Any]:
    """Write the bytecode of the modules of *wheel* to *archive*, and return the answer about them.

    Bytecode in the wheel counts only if *converts* says that it belongs to the modules there. *earlier* is a
    wheel and an archive that was made of it. Of *parts*, which follow one another, only *part* is compiled.
    """
    tag = sys.implementation.cache_tag
    count = reused = 0
    too_large = []
    with ExitStack() as exits:
        source = exits.enter_context(zipfile.ZipFile(wheel))
        target = exits.enter_context(zipfile.ZipFile(archive, "w"))
        known = Earlier(earlier, exits)
        present = frozenset(source.namelist()) if converts else frozenset()
        for path, name in modules_of(source, part, parts):
            folder, _, module = path.rpartition("/")
            if source.getinfo(name).file_size > MOST_SOURCE:
                too_large.append(path)
                continue
            begin_module()
            cached = f"{folder}{'/' if folder else ''}__pycache__/{module[:-3]}.{tag}.pyc"
            text = source.read(name)
            pyc = convert_to_hash(source.read(cached), text) if cached in present else None
            if pyc is None and (pyc := known.bytecode(name, cached, source.getinfo(name), text)) is not None:
                reused += 1
            try:
                pyc = pyc or compile_module(text, site_packages + "/" + path)
            except MemoryError:
                too_large.append(path)
                continue
            if pyc is None:
                continue
            member = zipfile.ZipInfo(cached, _DATE)
            member.create_system = 3
            member.external_attr = _REGULAR
            target.writestr(member, pyc)  # a layer compresses it
            count += 1
    return {"modules": count, "reused": reused, "too_large": too_large}


def modules_of(wheel: zipfile.ZipFile, part: int, parts: int) -> Iterator[tuple[str, str]]:
    """Yield installed path and name of each module in a part of a wheel; parts have about the same size."""
    modules = sorted((installed_path(name), name) for name in wheel.namelist() if name.endswith(".py"))
    total = sum(wheel.getinfo(name).file_size for _, name in modules)
    before = 0
    for path, name in modules:
        if path and min(before * parts // max(total, 1), parts - 1) == part:
            yield path, name
        before += wheel.getinfo(name).file_size


def convert_to_hash(pyc: bytes, source: bytes) -> bytes | None:
    """Return the bytecode of *source* with its unchecked hash, or None if *pyc* can't be it."""
    source_hash = importlib.util.source_hash(source)
    is_by_hash = int.from_bytes(pyc[4:8], "little") & 1
    if pyc[:4] != importlib.util.MAGIC_NUMBER or (is_by_hash and pyc[8:16] != source_hash):
        return None
    return pyc[:4] + _UNCHECKED_HASH + source_hash + pyc[16:]


def compile_module(source: bytes, path: str) -> bytes | None:
    """Return the bytecode of *source* (PEP 552, unchecked hash), or None if it doesn't compile."""
    # Before Python 3.13, bytecode tells which strings of one character the process has interned, and so what
    # it has imported and read before.
    for number in range(256):
        sys.intern(chr(number))
    code = compiled(source, path)
    if code is None:
        return None
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


if __name__ == "__main__":
    main()
