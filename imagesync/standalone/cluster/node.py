"""Start a scheduler or a worker, and restart a worker that fails; process 1 of a cluster's containers.

The program is sent to the container's standard input with its configuration. Process 1 imports very little:
it reaps orphans, passes signals on, and forks the process that imports Dask. For a worker it does the job of
Dask's nanny in a bare interpreter. The image needs ``distributed``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

READY = "imagesync: ready"
PORT = 8786
DASHBOARD_PORT = 8787
AGAIN = 75  # the exit code that asks for a new process; EX_TEMPFAIL of sysexits.h
ATTEMPTS = 10  # failures in a row after which the container ends
STEADY = 60.0  # seconds after which a process counts as successful
HEARTBEAT = 30.0  # seconds without a message from its client after which a scheduler of a swarm ends
FIRST_HEARTBEAT = 120.0  # seconds for the first one
GRACE = 3.0  # seconds that a scheduler has to close when its client has gone

# Reasons after which a worker isn't restarted.
_DISMISSED = ("scheduler-close", "scheduler-close-worker", "retired", "signal")


def main(config: dict[str, Any]) -> None:
    """Run the process that *config* describes until it ends, and exit with its code."""
    sys.exit(_Supervisor(config).run())


class _Supervisor:
    """Process 1 of the container."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.child = 0
        self.stopping = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if self.config["role"] == "scheduler":
            self._fork()
            if self.config["lifeline"] == "stdin":
                self._watch_stdin()
            return self._wait()
        return self._keep_alive()

    def _keep_alive(self) -> int:
        failures = 0
        while True:
            start = time.monotonic()
            self._fork()
            code = self._wait()
            if code == 0 or self.stopping:
                return 0
            failures = failures + 1 if time.monotonic() - start < STEADY else 1
            if failures > ATTEMPTS:
                _say(f"the worker failed {ATTEMPTS} times in a row, and isn't started again")
                return 1
            if code != AGAIN:
                ended = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
                _say(f"the worker {ended}, and is started again")
            time.sleep(min(30.0, 0.05 * 2**failures))
            self.config["death_timeout"] = self.config["reconnect_timeout"]

    def _fork(self) -> None:
        # Until the child has its own handlers, a signal would reach those of process 1.
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        sys.stdout.flush()
        sys.stderr.flush()
        self.child = os.fork()
        if self.child == 0:
            _run_child(self.config, signals)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _wait(self) -> int:
        """Wait for the child's end, and reap orphans, whose parent is process 1."""
        while True:
            pid, status = os.wait()
            if pid == self.child:
                self.child = 0
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def _stop(self, number: int, _frame: object) -> None:
        self.stopping = True
        if self.child:
            os.kill(self.child, signal.SIGTERM)
        else:
            os._exit(0)

    def _watch_stdin(self) -> None:
        """End the scheduler when its client closes the standard input, as it is for a client that dies."""
        import threading

        def watch() -> None:
            while os.read(0, 65536):
                pass
            _say("the client has gone")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE)
            os.kill(self.child, signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()


def _say(text: str) -> None:
    print("imagesync: " + text, file=sys.stderr, flush=True)


def _run_child(config: dict[str, Any], signals: Any) -> None:  # noqa: ANN401
    code = 1
    try:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        code = _serve(config)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # Not sys.exit: the frames below belong to process 1.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(config: dict[str, Any]) -> int:
    import asyncio
    import gc

    # The objects of imports stay: collections during imports take a tenth of their time.
    gc.disable()
    import dask

    dask.config.set(config["config"])
    from distributed import Security

    serve = _schedule if config["role"] == "scheduler" else _work
    gc.freeze()
    gc.enable()
    # As the `dask` command has it (distributed #1653).
    gc.set_threshold(*(3 * number for number in gc.get_threshold()))
    security = Security(**config["security"])
    return asyncio.run(serve(config, security))


def _on_stop(stop: Callable[[], Any]) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: asyncio.ensure_future(stop()))


async def _schedule(config: dict[str, Any], security: Any) -> int:  # noqa: ANN401
    import asyncio

    from distributed import Scheduler

    scheduler = Scheduler(
        protocol=config["protocol"],
        port=PORT,
        security=security,
        dashboard=False,
        dashboard_address=f":{DASHBOARD_PORT}",
        idle_timeout=config["idle_timeout"],
    )
    await scheduler
    _on_stop(scheduler.close)
    if config["lifeline"] == "heartbeat":
        heartbeat = asyncio.ensure_future(_end_without_heartbeat(scheduler))
    else:
        heartbeat = None
    print(READY, flush=True)
    dashboard = asyncio.ensure_future(_open_dashboard(scheduler, config["workers"]))
    await scheduler.finished()
    for task in (dashboard, heartbeat):
        if task is not None:
            task.cancel()
    return 0


async def _end_without_heartbeat(scheduler: Any) -> None:  # noqa: ANN401
    """Close the scheduler when the cluster's object stops reporting, which it does each second."""
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
    _say("the client has gone")
    await scheduler.close()


async def _open_dashboard(scheduler: Any, workers: int) -> None:  # noqa: ANN401
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


async def _work(config: dict[str, Any], security: Any) -> int:  # noqa: ANN401
    import asyncio

    import distributed

    class Worker(distributed.Worker):
        """A worker that remembers why it was closed."""

        reason = ""
        starts_again = True  # by process 1; a sync of code reads it

        async def close(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            retired = self.status == distributed.Status.closing_gracefully
            self.reason = self.reason or ("retired" if retired else options.get("reason") or "")
            return await super().close(*arguments, **options)

    options = {
        "name": config["name"],
        "nthreads": config["nthreads"],
        "memory_limit": config["memory_limit"],
        "resources": config["resources"],
        "security": security,
        "death_timeout": config["death_timeout"],
    }
    if not await _resolves(config["host"], config["death_timeout"]):
        _say(f"there is no scheduler {config['host']}")
        return 0
    nanny = config["nanny"]
    node: Any = (distributed.Nanny if nanny else Worker)(config["scheduler"], **options)
    _on_stop(lambda: node.close() if nanny else node.close(reason="signal"))
    try:
        await node
    except (asyncio.TimeoutError, TimeoutError):
        _say(f"no scheduler answers at {config['scheduler']}")
        return 0
    print(READY, flush=True)
    await node.finished()
    return 0 if nanny or node.reason in _DISMISSED else AGAIN


async def _resolves(host: str, timeout: float) -> bool:
    """Wait until *host* has an address, since containers start in any order; return False after a timeout.

    Parameters
    ----------
    host
        A host name.
    timeout
        In seconds.
    """
    import asyncio

    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            await asyncio.get_running_loop().getaddrinfo(host, None)
        except OSError:  # noqa: PERF203  each try waits
            await asyncio.sleep(0.05)
        else:
            return True
    return False
