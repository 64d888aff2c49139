"""Bytecode of wheels, compiled once on this machine for the paths of the image, and kept in the store.

The pycs are hash-based and unchecked (PEP 552): they are valid whatever the times of the sources, which
Python doesn't look at on import.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from imagesync.core.background import BackgroundCall
from imagesync.core.names import canonical_name
from imagesync.core.progress import Severity, SilentProgress, slow_task
from imagesync.core.scratch import scratch_folder
from imagesync.core.worker_pool import WorkerPool
from imagesync.lock.lock import Target
from imagesync.scan.environment import Interpreter
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.compilers import (
    Workers,
    find_compiler,
    magic_number,
    open_workers,
    program_version,
    version_of,
)

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task, Unit

_FORMAT = 4  # raised when the same wheel would give another archive
_LABEL = "Compiling bytecode"
_SCRATCH = "pyc"
_MOST_WORKERS = 8

OnCompiled = Callable[[StoredFile, StoredFile], None]
"""Gets a wheel and the archive of its bytecode."""


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
        workers = stack.enter_context(open_workers(executable))
        if folder is None:
            folder = stack.enter_context(scratch_folder(_SCRATCH))
        task = stack.enter_context(
            slow_task(progress, _LABEL, total=len(wheels), unit="packages")
            if isinstance(wheels, Sequence)
            else progress.task(_LABEL, total=None, unit="packages")
        )
        compiler = _Compiler(
            workers,
            magic_number(executable, workers),
            version_of(executable, python),
            program_version(target.minor),
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


def _worker_count() -> int:
    return min(os.cpu_count() or 1, _MOST_WORKERS)


@dataclass(frozen=True)
class _Compiler:
    workers: Workers
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
        key = self._key(wheel.digest)
        archive = self.store.recall(key)
        if archive is None:
            archive = self._compile(wheel, key)
        self.task.advance(1)
        return archive

    def _key(self, content: str) -> str:
        # Compilers of one feature version differ in details: an image's bytes mustn't tell which came first.
        parts = [str(_FORMAT), content, self.magic, self.version, str(self.site_packages)]
        parts += ["converts"] if self.converts else []
        parts += [self.program] if self.program else []
        return "bytecode-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _compile(self, wheel: StoredFile, key: str) -> StoredFile | None:
        archive = self.folder / key
        project = self._key(canonical_name(wheel.filename.partition("-")[0]))
        with self.workers.one() as worker:
            answer = worker.compile(
                wheel.path,
                archive,
                self.site_packages,
                converts=self.converts,
                earlier=None if self.converts else self._earlier(project),
            )
        self._report(wheel, answer)
        if "modules" not in answer:
            return None
        filename = wheel.filename.removesuffix(".whl") + ".pyc.zip"
        stored = self.store.add_file(archive, filename=filename)
        self.store.remember(key, stored)
        if not self.converts:
            self.store.remember(project, wheel)
        archive.unlink(missing_ok=True)
        return stored

    def _earlier(self, project: str) -> tuple[Path, Path] | None:
        """Return the last wheel of a project that was compiled, and the archive of its bytecode.

        Most modules of another version, or for another platform, are the same.
        """
        wheel = self.store.recall(project)
        archive = None if wheel is None else self.store.recall(self._key(wheel.digest))
        return None if wheel is None or archive is None else (wheel.path, archive.path)

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
