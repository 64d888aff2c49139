"""How fast a program receives bytes that imagesync doesn't read itself: uv and pip ask indexes themselves.

Their timeout begins anew with each byte, as that of every socket does. Linux tells what a connection has
received (sock_diag(7); include/uapi/linux/inet_diag.h and tcp.h); elsewhere nothing is watched.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from imagesync.core import limits

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_TCP_INFO = 2  # INET_DIAG_INFO
_ANY_STATE = 0xFFFFFFFF
_MESSAGE: Final = struct.Struct("=IHHII")  # nlmsghdr: size, type, flags, sequence, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr: size, type
_ATTRIBUTES = 72  # after inet_diag_msg, whose last field is the inode
_INODE = 68
_RECEIVED = 128  # tcpi_bytes_received
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_BUSY: Final = 0.1
"""Share of a window that a program computes if it does more than to wait for bytes."""


class TransferWatch:
    """What a program receives, for as long as it does nothing else.

    A connection that nobody waits for may be silent, so only a program counts that receives some bytes,
    computes nothing, and has no child process.

    Parameters
    ----------
    pid
        The program's process ID.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before: dict[int, int] = {}
        self._slow = 0
        self._restart()

    def check(self) -> None:
        """Note what has come since the last call; call it every few seconds.

        Raises
        ------
        imagesync.core.limits.TooSlow
            In two windows one after the other it was too little.
        """
        if sys.platform != "linux":
            return
        with suppress(OSError, ValueError, IndexError, struct.error):  # it has ended, or Linux doesn't tell
            received = dict(_received(_sockets(self._pid)))
            self._arrived += sum(max(0, n - self._before.get(key, 0)) for key, n in received.items())
            self._before = received
            self._is_busy |= _has_children(self._pid)
            if time.monotonic() - self._began < limits.WINDOW:
                return
            computed = _processor_seconds(self._pid) - self._computed
            is_busy = self._is_busy or computed > _BUSY * limits.WINDOW
            is_slow = not is_busy and 0 < self._arrived < limits.SLOWEST * limits.WINDOW
            self._slow = self._slow + 1 if is_slow else 0
            if self._slow < limits.SILENCES:
                self._restart()
                return
        if self._slow == limits.SILENCES:
            raise limits.TooSlow(f"the indexes sent only {self._arrived} bytes in {limits.WINDOW:.0f} s")

    def _restart(self) -> None:
        self._began = time.monotonic()
        self._arrived = 0
        self._is_busy = False
        self._computed = 0.0
        with suppress(OSError, ValueError, IndexError):
            self._computed = _processor_seconds(self._pid)


def _sockets(pid: int) -> frozenset[int]:
    """Return the inodes of a process's sockets."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if found := _SOCKET.fullmatch(str(path.readlink())):
                inodes.add(int(found[1]))
    return frozenset(inodes)


def _received(inodes: frozenset[int]) -> Iterator[tuple[int, int]]:
    """Yield each TCP connection among *inodes* with the number of bytes that it has received."""
    if sys.platform != "linux":
        return
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 1 << (_TCP_INFO - 1), _ANY_STATE)
            netlink.send(_MESSAGE.pack(_MESSAGE.size + len(asked), _BY_FAMILY, _DUMP, 0, 0) + asked)
            for message in _messages(netlink):
                (inode,) = struct.unpack_from("=I", message, _INODE)
                if inode in inodes and (info := dict(_attributes(message[_ATTRIBUTES:])).get(_TCP_INFO)):
                    yield inode, struct.unpack_from("=Q", info, _RECEIVED)[0]


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    """Yield the messages of an answer, without their headers."""
    while True:
        data = netlink.recv(1 << 20)
        while data:
            size, kind, *_ = _MESSAGE.unpack_from(data)
            if kind != _BY_FAMILY:  # the end of the answer, or an error
                return
            yield data[_MESSAGE.size : size]
            data = data[-(-size // 4) * 4 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each attribute."""
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : size]
        data = data[-(-size // 4) * 4 :]


def _has_children(pid: int) -> bool:
    return any(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))


def _processor_seconds(pid: int) -> float:
    if sys.platform != "linux":
        return 0.0
    # proc(5): the name is in parentheses, and may have some itself. The times are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
