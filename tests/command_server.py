"""Commands as forks of a process that has imported imagesync: each a process of its own, without the start.

The tests run thousands of commands, and imports take most of the time of one that finds little to do. A fork
has the environment variables, working folder, streams, session, umask, exit code and end of the script.
What an interpreter reads when it starts is the server's, see :func:`needs_own_start`.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

# Programs for other interpreters, and what reads environment variables when it is imported (dask).
_NOT_IMPORTED: Final = ("__main__", "cluster", "rattler_install", "standalone", "_worker")
_THIRD_PARTY: Final = ("docker", "filelock", "jinja2", "requests", "tomli_w", "zstandard")
# Sets are in another order in each of them, as in processes that start.
_HASH_SEEDS: Final = ("1", "2")
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "OPENSSL_", "MALLOC_")
_CODE: Final = struct.Struct("=q")


def needs_own_start(environ: Mapping[str, str]) -> bool:
    """Return whether variables differ that an interpreter reads when it starts."""
    here = _without_python_path(os.environ)
    names = {name for name in (*environ, *here) if name.startswith(_READ_AT_START)}
    return sys.platform != "linux" or any(environ.get(name) != here.get(name) for name in names)


def _without_python_path(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


class CommandServer:
    """A process that forks for each command."""

    def __init__(self, hash_seed: str) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = {**_without_python_path(os.environ), "PYTHONHASHSEED": hash_seed}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__], env=environ, stdin=theirs, stdout=subprocess.DEVNULL
            )

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait()

    def run(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path, timeout: float
    ) -> tuple[int, bytes, bytes]:
        """Return the exit code of a command, and what it wrote to stdout and stderr.

        Parameters
        ----------
        timeout
            In seconds.

        Raises
        ------
        subprocess.TimeoutExpired
            It has been killed.
        """
        os.umask(umask := os.umask(0))
        request = {"command": command, "environ": dict(environ), "folder": str(folder), "umask": umask}
        with ExitStack() as stack:
            pipes = [os.pipe() for _ in range(3)]
            for reading, _ in pipes:
                stack.callback(os.close, reading)
            try:
                with self._lock:
                    ends = [writing for _, writing in pipes]
                    socket.send_fds(self._socket, [json.dumps(request).encode()], ends)
            finally:
                for _, writing in pipes:
                    os.close(writing)
            stdout, stderr, states = self._read([reading for reading, _ in pipes], command, timeout)
        return _CODE.unpack(states[_CODE.size :])[0], stdout, stderr

    def _read(self, pipes: Sequence[int], command: Sequence[str], timeout: float) -> list[bytes]:
        """Return what comes through pipes until they are closed; the last has the process's number first."""
        read = dict.fromkeys(pipes, b"")
        until = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for pipe in pipes:
                selector.register(pipe, selectors.EVENT_READ)
            try:
                while selector.get_map():
                    ready = selector.select(max(0.0, until - time.monotonic()))
                    if not ready:
                        raise subprocess.TimeoutExpired(command, timeout)
                    for key, _ in ready:
                        content = os.read(key.fd, 1 << 16)
                        read[key.fd] += content
                        if not content:
                            selector.unregister(key.fd)
            except BaseException:
                with suppress(ProcessLookupError, struct.error):
                    os.kill(_CODE.unpack_from(read[pipes[-1]])[0], signal.SIGKILL)
                raise
        return list(read.values())


@cache
def _servers() -> Iterator[CommandServer]:
    servers = [CommandServer(seed) for seed in _HASH_SEEDS]
    for server in servers:
        atexit.register(server.close)
    return itertools.cycle(servers)


def run_command(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, timeout: float
) -> tuple[int, bytes, bytes]:
    """Run ``imagesync``, by a server that this process starts once; see :meth:`CommandServer.run`."""
    return next(_servers()).run(command, environ, folder, timeout)


def _preload() -> None:
    """Import what commands import."""
    for name in _THIRD_PARTY:
        import_module(name)
    imagesync = import_module("imagesync")
    for module in pkgutil.walk_packages(imagesync.__path__, "imagesync."):
        if not any(word in module.name for word in _NOT_IMPORTED):
            import_module(module.name)
    # Forks share what no collection writes to.
    gc.collect()
    gc.freeze()


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request, and return its command in the fork; end when the tests do."""
    ended, wakeup = os.pipe()
    for pipe in (ended, wakeup):
        os.set_blocking(pipe, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, ended], [], [])
        if ended in ready:
            os.read(ended, 1 << 12)
            _report_ended(running)
        if requests not in ready:
            continue
        message, files, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not message:
            sys.exit()
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for file in (ended, wakeup, files[2], *running.values()):
                os.close(file)
            requests.close()
            return _become(json.loads(message), files[:2])
        os.write(files[2], _CODE.pack(process))
        running[process] = files[2]
        for file in files[:2]:
            os.close(file)


def _report_ended(running: dict[int, int]) -> None:
    """Tell the exit codes of processes that have ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            process, status = ended
            file = running.pop(process)
            with suppress(BrokenPipeError):  # who waited for it has given up
                os.write(file, _CODE.pack(os.waitstatus_to_exitcode(status)))
            os.close(file)


def _become(request: dict[str, Any], files: Sequence[int]) -> list[str]:
    """Take on what a command's process has of its own."""
    os.setsid()
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    tempfile.tempdir = None  # TMPDIR may be another one
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)
    return list(request["command"])


def _end(code: int) -> None:
    """End a fork as an interpreter ends, but for its objects.

    The system frees their memory at once; one by one it takes longer than most commands.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _requests = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as _nothing:  # noqa: PTH123
        os.dup2(_nothing.fileno(), 0)
    _preload()
    sys.argv = _serve(_requests)
    sys.path[0] = str(Path(sys.argv[0]).parent)
    main = import_module("imagesync.cli.main").main
    try:
        main()
    except SystemExit as _exit:
        if isinstance(_exit.code, int):
            _end(_exit.code)
        raise
