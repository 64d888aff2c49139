"""Whether a container engine runs programs of a platform that isn't its own.

No engine says it. A program of a few instructions, in an image of its own, is started instead. That takes a
second, so a yes is remembered for a day: the emulator of a machine may be gone after its next start.
"""

from __future__ import annotations

import io
import secrets
import struct
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64
from imagesync.engine.run_container import RunRequest
from imagesync.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.core.platforms import Platform
    from imagesync.engine.engine import Engine

_ADDRESS: Final = 0x400000
_HEADERS: Final = 64 + 56
_SECONDS: Final = 30.0
_FORMAT: Final = 1
_DAY: Final = 86400.0
_NO_EMULATOR: Final = "exec format error"
# exit(0), as system calls of Linux.
_EXIT: Final = {
    LINUX_AMD64: bytes.fromhex("31ff b83c000000 0f05"),
    LINUX_ARM64: bytes.fromhex("000080d2 a80b80d2 010000d4"),
}


def exit_program(platform: Platform) -> bytes:
    r"""Return a program for *platform* that ends at once with 0 (System V ABI, "ELF header").

    >>> exit_program(LINUX_ARM64)[:4], len(exit_program(LINUX_ARM64))
    (b'\x7fELF', 132)
    """
    code = _EXIT[platform]
    size = _HEADERS + len(code)
    identity = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, platform.elf_machine, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return identity + header + segment + code


def emulates(engine: Engine, platform: Platform, *, cache: Path) -> bool:
    """Return True if *engine* runs programs of *platform*, by its own processor or an emulator.

    Parameters
    ----------
    engine
        The engine.
    platform
        The platform of the programs.
    cache
        The folder that remembers for which platforms the answer was yes.

    Raises
    ------
    EngineError
        It doesn't answer, or can't start a container at all.
    """
    identifier = engine.identifier()
    entry = cache_path(cache, "emulation", identifier, platform.name) if identifier else None
    if entry is not None and read_cache(entry, key=_FORMAT, max_age=_DAY) is True:
        return True
    runs = _runs(engine, platform)
    if runs and entry is not None:
        write_cache(entry, runs, key=_FORMAT)
    return runs


def _runs(engine: Engine, platform: Platform) -> bool:
    # Another build may ask at the same time. Podman takes in archives under no other tag.
    reference = f"imagesync-emulation-{secrets.token_hex(8)}:latest"
    engine.import_archive([_archive(exit_program(platform))], reference, labels={}, platform=platform.name)
    try:
        result = engine.run(RunRequest(reference, ("/exit",), user="0:0", timeout=_SECONDS))
    except EngineError as error:
        # What the kernel says to a program that it has no emulator for (ENOEXEC).
        if _NO_EMULATOR in error.message.lower():
            return False
        raise
    finally:
        with suppress(EngineError):
            engine.remove(reference)
    return result.exit_code == 0


def _archive(program: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo("exit")
            entry.size, entry.mode = len(program), 0o755
            archive.addfile(entry, io.BytesIO(program))
        return file.getvalue()
