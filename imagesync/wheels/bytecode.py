"""Bytecode of wheels, compiled once on this machine for the paths of the image, and kept in the store.

The pycs are hash-based and unchecked (PEP 552): they are valid whatever the times of the sources, which
Python doesn't look at on import.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from imagesync.core.background import BackgroundCall
from imagesync.core.progress import Severity, SilentProgress, slow_task
from imagesync.core.scratch import scratch_folder
from imagesync.core.worker_pool import WorkerPool
from imagesync.lock.lock import Target
from imagesync.scan.environment import Interpreter
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.compilers import (
    find_compiler,
    open_workers,
    program_version,
    version_of,
)
from imagesync.wheels.wheel_compilation import CompilerSettings, WheelCompilation

if TYPE_CHECKING:
    from imagesync.core.progress import Progress, Task, Unit

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
        settings = CompilerSettings(
            workers,
            version_of(executable, python),
            program_version(target.minor),
            folder,
            site_packages,
            store,
            progress,
            converts,
        )
        waiting: queue.PriorityQueue[tuple[int, int, int]] = queue.PriorityQueue()
        compilations: list[WheelCompilation] = []
        archives: dict[int, StoredFile | None] = {}

        def compile_largest() -> None:
            _, index, part = waiting.get_nowait()
            compilation = compilations[index]
            if not compilation.run(part):
                return
            archives[index] = archive = compilation.archive()
            task.advance(1)
            if archive is not None:
                on_compiled(compilation.wheel, archive)

        futures = []
        with WorkerPool(_worker_count(), thread_name_prefix="bytecode") as pool:
            for index, wheel in enumerate(wheels):
                compilations.append(WheelCompilation(wheel, settings, index))
                for part in range(compilations[index].parts):
                    # The largest first, so that no worker has a long task at the end.
                    waiting.put((-wheel.size, index, part))
                    futures.append(pool.submit(compile_largest))
            for future in futures:
                future.result()
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
                # Errors are raised again where the archive is needed.
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
