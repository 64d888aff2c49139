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

from imagesync.standalone.cluster.scheduler import (
    keep_groups,
    open_dashboard,
    tell_of_tasks_without_worker,
    wait_for_silence,
)

PREFIX = "imagesync: "
READY = PREFIX + "ready"
SYNC = "imagesync-sync"  # the name of the plugins of a sync, of which nannies have their own
FAILED = PREFIX + "the worker "  # begins each line about a process that has ended
OUT_OF_MEMORY = "the container's memory was exhausted"
PORT = 8786
DASHBOARD_PORT = 8787
AGAIN = 75  # the exit code that asks for a new process; EX_TEMPFAIL of sysexits.h
ALONE = 69  # the exit code of a worker that finds no scheduler; EX_UNAVAILABLE
LOST = 70  # the exit code of a container whose worker was lost too often; EX_SOFTWARE
STOPPED = 143  # the exit code of a container that was asked to end: 128 and SIGTERM
LOSSES = 3  # losses of one worker within WINDOW after which it isn't started again
WINDOW = 60.0  # seconds
LINGER = 5.0  # seconds in which the client can read the log of a container that gives up
NAME_TIMEOUT = 15.0  # seconds for the scheduler's name to have an address, once it had one
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
        self.losses: list[float] = []

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
        """Start the worker again whenever it ends, and return the container's exit code."""
        pause = 0.05
        self.config |= {"losses": 0, "ended": "", "lost_at": 0.0, "supervisor": os.urandom(8).hex()}
        while True:
            start = time.monotonic()
            killed = _kills_for_memory()
            self._fork()
            code = self._wait()
            if self.stopping:
                return STOPPED
            if code == 0:
                return 0
            if code == ALONE:
                return self._final(code)
            if code != AGAIN:
                out_of_memory = code == -signal.SIGKILL and _kills_for_memory() > killed
                if self._lose(_describe(code, out_of_memory)):
                    return self._final(LOST)
            pause = 0.05 if time.monotonic() - start > WINDOW else min(30.0, 2 * pause)
            time.sleep(pause)
            self.config["death_timeout"] = self.config["reconnect_timeout"]
            self.config["name_timeout"] = NAME_TIMEOUT

    def _final(self, code: int) -> int:
        """Return the exit code of a container to be replaced by the client, not by the engine."""
        return int(self.config.get("final_code", code))

    def _lose(self, ended: str) -> bool:
        """Report a lost worker, and return True if it has been lost too often."""
        now = time.monotonic()
        self.losses = [lost for lost in self.losses if now - lost < WINDOW] + [now]
        # The next process reports them to the scheduler, so that the client hears of them.
        self.config["losses"] += 1
        self.config |= {"ended": ended, "lost_at": now}
        if len(self.losses) < LOSSES:
            _say(f"the worker {ended}, and is started again")
            return False
        _say(f"the worker {ended}: {LOSSES} losses within {WINDOW:.0f} s, so it isn't started again")
        end = now + LINGER
        while not self.stopping and time.monotonic() < end:
            time.sleep(0.1)
        return True

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
            os._exit(STOPPED)

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


def _describe(code: int, out_of_memory: bool) -> str:
    """Return how a process ended, from its exit code; negative codes are signals."""
    if out_of_memory:
        return f"was killed because {OUT_OF_MEMORY}"
    return f"was ended by signal {-code}" if code < 0 else f"ended with {code}"


def _kills_for_memory() -> int:
    """Return the number of processes that the kernel has killed at this container's memory limit."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path) as file:  # noqa: PTH123  process 1 imports very little
                fields = dict(line.split() for line in file)
            return int(fields["oom_kill"])
        except (OSError, ValueError, KeyError):  # noqa: PERF203  cgroups of version 2, then of version 1
            continue
    return 0


def _say(text: str) -> None:
    print(PREFIX + text, file=sys.stderr, flush=True)


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

    options = {
        "protocol": config["protocol"],
        "port": PORT,
        "security": security,
        "dashboard": False,
        "dashboard_address": f":{DASHBOARD_PORT}",
        "idle_timeout": config["idle_timeout"],
        **config["options"],
    }
    scheduler = Scheduler(**options)
    tell_of_tasks_without_worker(scheduler)
    keep_groups(scheduler, config["groups"])
    await scheduler
    _on_stop(scheduler.close)
    if config["lifeline"] == "heartbeat":
        heartbeat = asyncio.ensure_future(_end_without_client(scheduler))
    else:
        heartbeat = None
    print(READY, flush=True)
    dashboard = asyncio.ensure_future(open_dashboard(scheduler, config["workers"]))
    await scheduler.finished()
    for task in (dashboard, heartbeat):
        if task is not None:
            task.cancel()
    return 0


async def _end_without_client(scheduler: Any) -> None:  # noqa: ANN401
    await wait_for_silence(scheduler)
    _say("the client has gone")
    await scheduler.close()


async def _work(config: dict[str, Any], security: Any) -> int:  # noqa: ANN401
    import asyncio
    from functools import partial

    import distributed

    class Worker(distributed.Worker):
        """A worker that remembers why it was closed, and that process 1 starts again, as a nanny does."""

        reason = ""
        starts_again = True  # by process 1; a sync of code reads it

        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **options)
            # What the scheduler asks of nannies.
            self.handlers["kill"] = self._restart
            self.handlers["plugin_add"] = self.handlers["plugin_remove"] = self._ignore_plugin

        @property
        def nanny(self) -> Any:  # noqa: ANN401
            """Address of what restarts this worker: its own."""
            return self.address if self.listeners else None

        @nanny.setter
        def nanny(self, address: object) -> None:
            """Ignore the address of a nanny: there is none."""

        async def close(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            again = options.get("reason") == "worker-lifetime-reached" and self.lifetime_restart
            retired = self.status == distributed.Status.closing_gracefully and not again
            self.reason = self.reason or ("retired" if retired else options.get("reason") or "")
            # There is no nanny to be told.
            return await super().close(*arguments, **{**options, "nanny": False})

        async def _ignore_plugin(self, name: str = "", **_: Any) -> dict[str, str]:  # noqa: ANN401
            """Say that there is no nanny for a plugin; a sync has one for workers, too."""
            if name != SYNC:
                _say(f"the plugin {name} is for nannies, and needs a cluster with nanny=True")
            return {"status": "OK"}

        async def _restart(self, reason: str = "restart", **_: Any) -> None:  # noqa: ANN401
            """Leave the scheduler and end, so that process 1 starts a new worker."""
            await self.scheduler.unregister(address=self.address, stimulus_id=reason, close=False)
            # After the answer to this request.
            close = partial(self.close, executor_wait=False, reason=reason)
            asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(close()))

    options = {
        "name": config["name"],
        "nthreads": config["nthreads"],
        "memory_limit": config["memory_limit"],
        "resources": config["resources"],
        "security": security,
        "death_timeout": config["death_timeout"],
        **config["options"],
    }
    if not await _resolves(config["host"], config.get("name_timeout", config["death_timeout"])):
        _say(f"there is no scheduler {config['host']}")
        return ALONE
    nanny = config["nanny"]
    if not nanny:
        report = {key: config[key] for key in ("losses", "ended", "supervisor")}
        options["startup_information"] = {
            "imagesync": lambda _worker: {**report, "age": time.monotonic() - config["lost_at"]}
        }
    node: Any = (distributed.Nanny if nanny else Worker)(config["scheduler"], **options)
    _on_stop(lambda: node.close() if nanny else node.close(reason="signal"))
    try:
        await node
    except (asyncio.TimeoutError, TimeoutError):
        _say(f"no scheduler answers at {config['scheduler']}")
        return ALONE
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
