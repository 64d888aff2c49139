"""Apply a sync: lay packages over the read-only environment, restart workers; runs in schedulers and workers.

An overlay is a folder, named by the digest of its content, that comes first on ``sys.path``. It has the files
of wheels, and a description of its local code.
"""

# A worker is blocked while this runs: os.path is faster than pathlib.
# ruff: noqa: PTH103, PTH110, PTH111, PTH112, PTH118, PTH123, PTH208

from __future__ import annotations

import asyncio
import importlib
import io
import json
import os
import shutil
import socket
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from imagesync.standalone.distributions import extract, installed_path

if TYPE_CHECKING:
    from distributed import Nanny, Scheduler, Worker
    from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin


DESCRIPTION = "imagesync-synced.json"
NAME = "imagesync-sync"


def install(content: dict[str, Any]) -> None:
    """Write an overlay unless it exists, and put it first on the path, in place of an earlier one.

    *content* has its ``digest``, its ``wheels`` and ``code`` as ZIP archives, and its ``description``.
    """
    _put_first(content, _folder(content))


async def _install_beside_others(content: dict[str, Any]) -> None:
    """Install an overlay, and let the event loop send heartbeats while its files are written."""
    folder = await asyncio.get_running_loop().run_in_executor(None, _folder, content)
    _put_first(content, folder)


def _folder(content: dict[str, Any]) -> str:
    """Return the folder of an overlay; empty if the overlay has nothing."""
    if not (content["wheels"] or content["code"]):
        return ""
    # A worker may have imported modules from the folder of its nanny.
    inherited = [folder for folder in _on_path() if os.path.basename(folder) == content["digest"]]  # noqa: PTH119
    return inherited[0] if inherited else _written(content)


def _on_path() -> list[str]:
    return [folder for folder in sys.path if os.path.exists(os.path.join(folder, DESCRIPTION))]


def _put_first(content: dict[str, Any], folder: str) -> None:
    for earlier in _on_path():
        for path in (earlier, os.path.join(earlier, "code")):
            while path in sys.path:
                sys.path.remove(path)
    folders = []
    if folder:
        folders = [folder]
        sys.path.insert(0, folder)
        if content["code"]:
            # Packages come before code without a package, as in the image.
            folders.append(os.path.join(folder, "code"))
            sys.path.append(folders[-1])
            _before(folders[-1], os.path.join(sys.prefix, "code"))
    # For processes that tasks start.
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in inherited if path and os.sep + "synced" + os.sep not in path]
    os.environ["PYTHONPATH"] = os.pathsep.join(folders + kept)
    importlib.invalidate_caches()


def _before(path: str, other: str) -> None:
    if other in sys.path:
        sys.path.remove(path)
        sys.path.insert(sys.path.index(other), path)


def discard_unused() -> None:
    """Remove this process's earlier overlays, unless it has modules of them."""
    root = _root()
    folders = [os.path.join(root, name) for name in os.listdir(root)]
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    for folder in folders:
        if folder not in sys.path and not any(file.startswith(folder + os.sep) for file in files):
            shutil.rmtree(folder, ignore_errors=True)


def _root() -> str:
    """Return the folder of this process's overlays; that of a process that has ended is removed."""
    home = os.path.expanduser("~")
    if not (os.path.isdir(home) and os.access(home, os.W_OK)):
        home = tempfile.gettempdir()
    synced = os.path.join(home, ".cache", "imagesync", "synced")
    # Machines may share the home folder.
    prefix = f"{socket.gethostname()}-{os.getuid() if hasattr(os, 'getuid') else 0}-"
    root = os.path.join(synced, f"{prefix}{os.getpid()}")
    if not os.path.isdir(root):
        os.makedirs(root, mode=0o700)
        for name in os.listdir(synced):
            pid = name[len(prefix) :] if name.startswith(prefix) else ""
            if pid.isdigit() and not _runs(int(pid)):
                shutil.rmtree(os.path.join(synced, name), ignore_errors=True)
    return root


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _written(content: dict[str, Any]) -> str:
    """Return the overlay's folder."""
    root = _root()
    folder = os.path.join(root, content["digest"])
    if os.path.isdir(folder):
        return folder
    partial = tempfile.mkdtemp(dir=root)
    try:
        for wheel in content["wheels"]:
            extract(io.BytesIO(wheel), partial, installed_path)
        if content["code"]:
            extract(io.BytesIO(content["code"]), os.path.join(partial, "code"))
        with open(os.path.join(partial, DESCRIPTION), "w", encoding="utf-8") as file:
            json.dump(content["description"], file)
        os.chmod(partial, 0o755)  # noqa: PTH101, S103  as a folder of packages is
        os.rename(partial, folder)  # noqa: PTH104
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def worker_plugin(content: dict[str, Any]) -> WorkerPlugin:
    """Return the plugin that installs an overlay in running workers, and in others when they start."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class Overlay(WorkerPlugin):
        name = NAME

        async def setup(self, worker: Worker) -> None:
            await _install_beside_others(content)

    return Overlay()


def nanny_plugin(content: dict[str, Any]) -> NannyPlugin:
    """Return the plugin that installs an overlay in nannies: the workers that they start inherit the path.

    So workers have it before they import Dask.
    """
    from distributed.diagnostics.plugin import NannyPlugin

    class Overlay(NannyPlugin):
        name = NAME

        async def setup(self, nanny: Nanny) -> None:
            # The last one stays: workers may have modules of it.
            discard_unused()
            await _install_beside_others(content)

    return Overlay()


def scheduler_plugin(content: dict[str, Any]) -> SchedulerPlugin:
    """Return the plugin that installs an overlay in a scheduler."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Overlay(SchedulerPlugin):
        name = NAME

        async def start(self, scheduler: Scheduler) -> None:
            # The scheduler warns of a second plugin with the same name.
            scheduler.plugins.pop(NAME, None)
            await _install_beside_others(content)

    return Overlay()


def irreplaceable(workers: list[str], dask_scheduler: Scheduler) -> dict[str, int]:
    """Return what a restart of these workers would lose for good; empty if nothing.

    ``data`` is the number of results and actors that only they hold and that can't be recomputed, ``pinned``
    that of the tasks that may run on no other worker: a restarted one has another address.
    """
    states = {dask_scheduler.workers[address] for address in workers if address in dask_scheduler.workers}
    held = {task for state in states for task in state.has_what if (task.who_has or set()) <= states}
    data = sum(task.run_spec is None for task in held) + sum(len(state.actors) for state in states)
    addresses = set(workers)
    pinned = [
        task
        for task in dask_scheduler.tasks.values()
        if task.worker_restrictions
        and task.worker_restrictions <= addresses
        and not task.loose_restrictions
        and task.state not in {"forgotten", "erred"}
    ]
    return {"data": data, "pinned": len(pinned)} if data or pinned else {}


def restarted_by(dask_worker: Worker) -> str:
    """Return the name of what restarts this worker: ``nanny``, ``container``, or nothing."""
    if getattr(dask_worker, "starts_again", False):
        return "container"
    return "nanny" if dask_worker.nanny else ""


def leave(dask_worker: Worker) -> None:
    """End this worker, so that it is restarted."""
    close = dask_worker.close(nanny=False, executor_wait=False, reason="imagesync-sync")
    dask_worker.loop.add_callback(lambda: close)
