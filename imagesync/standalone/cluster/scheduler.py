"""Parts of a scheduler's process: its late dashboard, its client's heartbeat, waiting tasks, and groups.

Process 1 reads this, too, and imports very little: imports are in functions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

HEARTBEAT = 30.0  # seconds without a message from its client after which a scheduler of a swarm ends
FIRST_HEARTBEAT = 120.0  # seconds for the first one


async def wait_for_silence(scheduler: Any) -> None:  # noqa: ANN401
    """Return when the cluster's object has stopped reporting, which it does each second."""
    import asyncio

    report = scheduler.handlers["set_metadata"]
    last = time.monotonic() + FIRST_HEARTBEAT - HEARTBEAT

    def hear(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        nonlocal last
        last = time.monotonic()
        return report(*arguments, **options)

    scheduler.handlers["set_metadata"] = hear
    while (left := last + HEARTBEAT - time.monotonic()) > 0:
        # After the first report, which may take longer, the remaining time is shorter.
        await asyncio.sleep(min(left, 1.0))


async def open_dashboard(scheduler: Any, workers: int) -> None:  # noqa: ANN401
    """Add the dashboard once the workers have connected: importing Bokeh takes longer than all the rest."""
    import asyncio

    from tornado.web import ErrorHandler

    class Loading(ErrorHandler):
        """A page that reloads each second until the dashboard is ready."""

        def prepare(self) -> None:
            self.set_status(503)
            self.finish('<meta http-equiv="refresh" content="1">The dashboard is being loaded.')

    settings = scheduler.http_application.settings
    settings.update(default_handler_class=Loading, default_handler_args={"status_code": 503})
    for _ in range(50):
        if len(scheduler.workers) >= workers:
            break
        await asyncio.sleep(0.1)
    try:
        module = await asyncio.get_running_loop().run_in_executor(None, _import_dashboard)
        module.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="")
    except ImportError:
        from distributed.http.scheduler import missing_bokeh

        scheduler.http_application.add_handlers(
            ".*", [("/" + path.lstrip("/"), *rest) for path, *rest in missing_bokeh.routes]
        )
    finally:
        del settings["default_handler_class"], settings["default_handler_args"]


def _import_dashboard() -> Any:  # noqa: ANN401
    import distributed.dashboard.scheduler

    return distributed.dashboard.scheduler


def tell_of_tasks_without_worker(scheduler: Any) -> None:  # noqa: ANN401
    """Let the scheduler tell whether it has tasks that no worker may run, such as for want of a resource.

    Adaptive clusters ask each second; of a function that is sent the scheduler would log each call.
    """

    def has_tasks_without_worker() -> bool:
        return bool(scheduler.unrunnable)

    scheduler.handlers["has_tasks_without_worker"] = has_tasks_without_worker


def keep_groups(scheduler: Any, groups: Iterable[str]) -> None:  # noqa: ANN401
    """Keep the workers of *groups* when an adaptive cluster retires idle ones, and don't count their memory.

    Else the number of those to retire would depend on which one the scheduler looks at first: it stops before
    the one without which the others had too little memory for all results.
    """
    names = frozenset(groups)
    if not names:
        return
    from distributed import SchedulerPlugin

    class Groups(SchedulerPlugin):
        """What leaves the workers of groups out of the choice."""

        name = "imagesync-groups"

        def valid_workers_downscaling(self, scheduler: object, workers: list[Any]) -> list[Any]:
            return [worker for worker in workers if str(worker.name).rpartition("-")[0] not in names]

    scheduler.add_plugin(Groups())
