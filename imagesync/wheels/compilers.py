"""Interpreters that compile bytecode: which one of this machine, and its processes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from imagesync.errors import WheelError
from imagesync.scan.environment import Interpreter
from imagesync.standalone.programs import program_text

_WORKER = "host.compile_worker"


def find_compiler(python: Interpreter, minor: str) -> str | None:
    """Return the path of a CPython whose bytecode an interpreter of version *minor* accepts, or ``None``.

    Released versions with the same feature version have the same magic number. Of those in ``PATH`` it is the
    first that starts: shims of pyenv don't for versions that aren't active.
    """
    if python.implementation == "cpython" and python.minor == minor and python.executable:
        return python.executable
    if sys.implementation.name == "cpython" and _running_minor() == minor:
        return sys.executable
    found = (shutil.which(f"python{minor}", path=folder) for folder in os.get_exec_path())
    return next((path for path in found if path and _cpython_version(path).startswith(f"{minor}.")), None)


def compiler_version(python: Interpreter, minor: str) -> str:
    """Return the full version of the interpreter that compiles; empty if there is none."""
    executable = find_compiler(python, minor)
    return "" if executable is None else version_of(executable, python)


def version_of(executable: str, python: Interpreter) -> str:
    """Return the full version of a compiler that :func:`find_compiler` has found for *python*."""
    if executable == python.executable:
        return python.version
    if executable == sys.executable:
        return platform.python_version()
    return _cpython_version(executable)


def _cpython_version(executable: str) -> str:
    """Return the full version of a CPython that can compile wheels; empty for anything else."""
    # What the compiler imports is imported here, too.
    script = (
        "import json, platform, zipfile, zlib\n"
        "print(platform.python_implementation(), platform.python_version())"
    )
    try:
        done = subprocess.run(
            [executable, "-I", "-S", "-c", script],
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=30,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    implementation, _, version = done.stdout.strip().partition(" ")
    return version if implementation == "CPython" else ""


def _running_minor() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def program_version(minor: str) -> str:
    """Return the digest of the worker's program where the bytecode depends on it; else nothing.

    Before Python 3.11, marshal marks the strings that the program has interned.
    """
    if tuple(map(int, minor.split("."))) >= (3, 11):
        return ""
    return hashlib.sha256(program_text(_WORKER).encode()).hexdigest()


class Worker:
    """A process that compiles wheels, one after the other."""

    def __init__(self, executable: str) -> None:
        script = program_text(_WORKER)
        self._process = subprocess.Popen(
            [executable, "-I", "-S", "-B", "-X", "utf8", "-W", "ignore", "-c", script, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        # A dying process closes its output before its exit code is available.
        self.alive = True
        if not self._answer().get("ready"):
            self.close()
            raise WheelError(
                f"The interpreter {executable} can't compile bytecode: it doesn't start.",
                hint=f"Try: {executable} -c 'import zipfile'",
            )

    def compile(
        self,
        wheel: Path,
        archive: Path,
        site_packages: PurePosixPath,
        *,
        converts: bool,
        earlier: tuple[Path, Path] | None = None,
        part: int = 0,
        parts: int = 1,
    ) -> dict[str, Any]:
        """Return the worker's answer; nothing of one that has ended.

        Of *parts* of the modules, which follow one another, only *part* is compiled.
        """
        request = {
            "wheel": str(wheel),
            "archive": str(archive),
            "site_packages": str(site_packages),
            "converts": converts,
            "earlier": None if earlier is None else [str(path) for path in earlier],
            "part": part,
            "parts": parts,
        }
        if self._process.stdin is None:
            return {}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            self.alive = False
            return {}
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        try:
            answer = json.loads(line)
        except ValueError:
            self.alive = False
            return {}
        return answer if isinstance(answer, dict) else {}


class Workers:
    """A pool of workers, which grows with demand and replaces dead workers."""

    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    @contextmanager
    def one(self) -> Iterator[Worker]:
        """Give a worker that nobody else uses meanwhile."""
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = Worker(self._executable)
        try:
            yield worker
        except BaseException:
            worker.close()
            raise
        if worker.alive:
            self._idle.put(worker)
        else:
            worker.close()

    def close(self) -> None:
        """End the workers that nobody uses."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


@contextmanager
def open_workers(executable: str) -> Iterator[Workers]:
    """Give a pool of processes of *executable*, which end with the block."""
    workers = Workers(executable)
    try:
        yield workers
    finally:
        workers.close()
