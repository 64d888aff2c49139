"""Whether a container engine runs programs of a platform that isn't its own.

No engine says it. A program of a few instructions, in an image of its own, is started instead.
"""

from __future__ import annotations

import io
import secrets
import struct
import tarfile
from typing import TYPE_CHECKING, Final

from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64
from imagesync.engine.run_container import RunRequest
from imagesync.errors import EngineError

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.engine.engine import Engine

_ADDRESS: Final = 0x400000
_HEADERS: Final = 64 + 56
_SECONDS: Final = 30.0
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


def emulates(engine: Engine, platform: Platform) -> bool:
    """Return True if *engine* runs programs of *platform*, by its own processor or an emulator.

    Raises
    ------
    EngineError
        It doesn't answer.
    """
    # Another build may ask at the same time. Podman takes in archives under no other tag.
    reference = f"imagesync-emulation-{secrets.token_hex(8)}:latest"
    engine.import_archive([_archive(exit_program(platform))], reference, labels={}, platform=platform.name)
    try:
        result = engine.run(RunRequest(reference, ("/exit",), user="0:0", timeout=_SECONDS))
    except EngineError:
        # Without an emulator the kernel doesn't start it: "exec format error".
        return False
    finally:
        engine.remove(reference)
    return result.exit_code == 0


def _archive(program: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo("exit")
            entry.size, entry.mode = len(program), 0o755
            archive.addfile(entry, io.BytesIO(program))
        return file.getvalue()
