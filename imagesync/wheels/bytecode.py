"""Bytecode of wheels, compiled once on this machine for the paths of the image, and kept in the store.

The pycs are hash-based and unchecked (PEP 552): they are valid whatever the times of the sources, which
Python doesn't look at on import.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from imagesync.core.background import BackgroundCall
from imagesync.core.progress import Severity, SilentProgress, slow_task
from imagesync.core.scratch import scratch_folder
from imagesync.core.worker_pool import WorkerPool
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.scan.environment import Interpreter
from imagesync.standalone.programs import program_text
from imagesync.store.store import Store, StoredFile

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task, Unit

_FORMAT = 4  # raised when the same wheel would give another archive
_LABEL = "Compiling bytecode"
_SCRATCH = "pyc"
_MOST_WORKERS = 8

OnCompiled = Callable[[StoredFile, StoredFile], None]
"""Gets a wheel and the archive of its bytecode."""
_WORKER = "host.compile_worker"


def compile_bytecode(
    wheels: Iterable[StoredFile],
    *,
    python: Interpreter,
    target: Target,
    site_packages: PurePosixPath,
    store: Store,
    progress: Progress,
    converts: bool = False,
    on_compiled: OnCompiled = lambda *_: None,
    folder: Path | None = None,
) -> tuple[StoredFile, ...]:
    """Return an archive with the bytecode of the modules of each of *wheels*, in their order.

    Parameters
    ----------
    wheels
        An iterator is consumed as wheels arrive.
    python
        The scanned interpreter, which compiles if it is a CPython of the target's feature version.
    target
        The platform and interpreter of the image.
    site_packages
        The folder of the modules in the image, for tracebacks.
    store
        Keeps the archives.
    progress
        Shows the progress.
    converts
        Whether bytecode beside the modules is known to be theirs, and is only made independent of times.
    on_compiled
        Called with each wheel and its archive, in the thread that has compiled it.
    folder
        For archives that are being written; by default a scratch folder.

    Returns
    -------
    tuple
        ZIP archives, with names relative to *site_packages* (``pkg/__pycache__/mod.cpython-311.pyc``).
        Modules that don't compile are omitted. Empty if this machine has no interpreter of the target's
        feature version; the image's own compiles then.
    """
    executable = find_compiler(python, target.minor)
    if executable is None:
        return ()
    with ExitStack() as stack:
        workers = stack.enter_context(_workers(executable))
        if folder is None:
            folder = stack.enter_context(scratch_folder(_SCRATCH))
        task = stack.enter_context(
            slow_task(progress, _LABEL, total=len(wheels), unit="packages")
            if isinstance(wheels, Sequence)
            else progress.task(_LABEL, total=None, unit="packages")
        )
        compiler = _Compiler(
            workers,
            _magic(executable, workers),
            _version_of(executable, python),
            _program_version(target.minor),
            folder,
            site_packages,
            store,
            task,
            progress,
            converts,
        )
        waiting: queue.PriorityQueue[tuple[int, int, StoredFile]] = queue.PriorityQueue()

        def compile_largest() -> tuple[int, StoredFile | None]:
            _, index, wheel = waiting.get_nowait()
            archive = compiler.compile(wheel)
            if archive is not None:
                on_compiled(wheel, archive)
            return index, archive

        futures = []
        with WorkerPool(_worker_count(), thread_name_prefix="bytecode") as pool:
            for index, wheel in enumerate(wheels):
                # The largest first, so that no worker has a long task at the end.
                waiting.put((-wheel.size, index, wheel))
                futures.append(pool.submit(compile_largest))
            archives = dict(future.result() for future in futures)
    found = (archives[index] for index in range(len(archives)))
    return tuple(archive for archive in found if archive is not None)


@contextmanager
def compiled_ahead(
    *,
    python: Interpreter,
    target: Target,
    site_packages: PurePosixPath,
    store: Store,
    progress: Progress,
    on_compiled: OnCompiled = lambda *_: None,
) -> Iterator[Callable[[StoredFile], None]]:
    """Give a function that compiles wheels in the background, from one thread, while others arrive.

    At the end of the block all of them are compiled, and :func:`compile_bytecode` finds their archives. The
    parameters are the same.
    """
    if find_compiler(python, target.minor) is None:
        yield lambda _: None
        return
    arrived: queue.SimpleQueue[StoredFile | _Ended | None] = queue.SimpleQueue()
    opened: list[tuple[Task, BackgroundCall[tuple[StoredFile, ...]]]] = []
    is_ended = threading.Event()

    def wheels() -> Iterator[StoredFile]:
        while (wheel := arrived.get()) is not None:
            if isinstance(wheel, _Ended):
                # Calls that haven't begun are cancelled by an error.
                raise wheel
            yield wheel

    def compile_arrived(task: Task, folder: Path) -> tuple[StoredFile, ...]:
        return compile_bytecode(
            wheels(),
            python=python,
            target=target,
            site_packages=site_packages,
            store=store,
            progress=_OpenTaskProgress(progress, task, is_ended),
            on_compiled=on_compiled,
            folder=folder,
        )

    with ExitStack() as stack:

        def compile_wheel(wheel: StoredFile) -> None:
            if not opened:
                # Of this thread, because an interrupt doesn't wait for the other.
                folder = stack.enter_context(scratch_folder(_SCRATCH))
                task = stack.enter_context(progress.task(_LABEL, total=0, unit="packages"))
                opened.append((task, BackgroundCall(lambda: compile_arrived(task, folder))))
            opened[0][0].grow(1)
            arrived.put(wheel)

        try:
            yield compile_wheel
            arrived.put(None)
            for _, call in opened:
                # Errors come again where the archive is wanted.
                with suppress(Exception):
                    call.result()
        except BaseException:
            is_ended.set()
            arrived.put(_Ended())
            raise


class _OpenTaskProgress(SilentProgress):
    """Progress that shows lines until it has ended, and whose only task is open already."""

    def __init__(self, progress: Progress, task: Task, is_ended: threading.Event) -> None:
        self._progress = progress
        self._task = task
        self._is_ended = is_ended

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        """Give the open task."""
        del label, total, unit
        yield self._task

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Print a line as it would be printed without the task."""
        if not self._is_ended.is_set():
            self._progress.line(text, severity)


class _Ended(Exception):
    """No more wheels arrive."""


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
    return "" if executable is None else _version_of(executable, python)


def _version_of(executable: str, python: Interpreter) -> str:
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


def _worker_count() -> int:
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def _magic(executable: str, workers: _Workers) -> str:
    """Return the magic number of *executable*'s bytecode, in hexadecimal."""
    if executable == sys.executable:
        return importlib.util.MAGIC_NUMBER.hex()
    with workers.one() as worker:
        return worker.magic


def _program_version(minor: str) -> str:
    """Return what of the worker's program the bytecode depends on, in hexadecimal; empty if nothing.

    Before Python 3.11, marshal marks the strings that the program has interned.
    """
    if tuple(map(int, minor.split("."))) >= (3, 11):
        return ""
    return hashlib.sha256(program_text(_WORKER).encode()).hexdigest()


@dataclass(frozen=True)
class _Compiler:
    workers: _Workers
    magic: str
    version: str
    program: str
    folder: Path
    site_packages: PurePosixPath
    store: Store
    task: Task
    progress: Progress
    converts: bool

    def compile(self, wheel: StoredFile) -> StoredFile | None:
        """Return the archive of *wheel*, from the store or compiled; ``None`` if the interpreter fails."""
        # Compilers of one feature version differ in details: an image's bytes mustn't tell which came first.
        parts = [str(_FORMAT), wheel.digest, self.magic, self.version, str(self.site_packages)]
        parts += ["converts"] if self.converts else []
        parts += [self.program] if self.program else []
        key = "bytecode-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()
        archive = self.store.recall(key)
        if archive is None:
            archive = self._compile(wheel, key)
        self.task.advance(1)
        return archive

    def _compile(self, wheel: StoredFile, key: str) -> StoredFile | None:
        archive = self.folder / key
        with self.workers.one() as worker:
            answer = worker.compile(wheel.path, archive, self.site_packages, converts=self.converts)
        self._report(wheel, answer)
        if "modules" not in answer:
            return None
        filename = wheel.filename.removesuffix(".whl") + ".pyc.zip"
        stored = self.store.add_file(archive, filename=filename)
        self.store.remember(key, stored)
        archive.unlink(missing_ok=True)
        return stored

    def _report(self, wheel: StoredFile, answer: Mapping[str, Any]) -> None:
        """Report modules without bytecode, other than templates and code for another Python."""
        if large := answer.get("too_large"):
            what = f"{large[0]}{f' and {len(large) - 1} more are' if len(large) > 1 else ' is'} too large"
        elif "modules" in answer:
            return
        else:
            reason = answer.get("error", "a module took too long, or crashed the compiler")
            what = f"compiling it failed here ({reason})"
        self.progress.line(f"{wheel.filename}: {what}; modules without bytecode are compiled at each start")


class _Worker:
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
        self.magic: str = self._answer().get("magic", "")
        if not self.magic:
            self.close()
            raise WheelError(
                f"The interpreter {executable} can't compile bytecode: it doesn't start.",
                hint=f"Try: {executable} -c 'import zipfile'",
            )

    def compile(
        self, wheel: Path, archive: Path, site_packages: PurePosixPath, *, converts: bool
    ) -> dict[str, Any]:
        """Return the worker's answer; nothing of one that has ended."""
        request = {
            "wheel": str(wheel),
            "archive": str(archive),
            "site_packages": str(site_packages),
            "converts": converts,
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


class _Workers:
    """A pool of workers, which grows with demand and replaces dead workers."""

    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    @contextmanager
    def one(self) -> Iterator[_Worker]:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = _Worker(self._executable)
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
        while not self._idle.empty():
            self._idle.get_nowait().close()


@contextmanager
def _workers(executable: str) -> Iterator[_Workers]:
    workers = _Workers(executable)
    try:
        yield workers
    finally:
        workers.close()
