"""Run a command in a container with this process's standard streams or terminal, as `imagesync run` does."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from imagesync.engine.client import connect, engine_errors, explanation
from imagesync.engine.liveness import gone, wait_for_exit, watched
from imagesync.engine.mounted_folder import check_mounted
from imagesync.engine.run_container import Attachment, Mount, removing
from imagesync.engine.run_options import WORKSPACE, ContainerRun, device_requests, mount_objects
from imagesync.errors import EngineError, UsageError

if TYPE_CHECKING:
    import docker

    from imagesync.engine.endpoint import Endpoint

_CHUNK = 64 * 1024  # bytes
_GRACE = 10  # seconds that a command gets after a signal, as with `docker stop`
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# Debian's Podman only recommends catatonit; docker-init is a package of its own in some distributions.
_NO_INIT = ("init binary", "container-init", "docker-init")
_NO_COMMAND = ("executable file not found", "no such file or directory", "not found in $path")


def run_container(endpoint: Endpoint, run: ContainerRun) -> int:
    """Run the command with this process's stdin, stdout and stderr, and return its exit code.

    SIGINT, SIGTERM and SIGHUP are forwarded; a command that goes on for ten seconds afterwards is killed. The
    container is always removed.

    Raises
    ------
    EngineError
        The container can't be created or started, for example because the command doesn't exist; the engine
        sees another folder than this machine; or it goes away.
    UsageError
        A terminal is asked for, and there is none.
    """
    terminal = uses_terminal(run)
    with contextlib.closing(connect(endpoint)) as api, _explained(endpoint):
        try:
            return _run(api, endpoint, run, terminal=terminal, init=True)
        except EngineError as error:
            if not _lacks_init(error):
                raise
        return _run(api, endpoint, run, terminal=terminal, init=False)


def _lacks_init(error: EngineError) -> bool:
    """Return True if the engine has no program for process 1: catatonit, docker-init."""
    import docker.errors

    cause = error.__cause__
    # Not in the whole message: that has the command, too.
    return isinstance(cause, docker.errors.APIError) and any(
        words in explanation(cause).lower() for words in _NO_INIT
    )


def uses_terminal(run: ContainerRun) -> bool:
    """Return True if the command gets this process's terminal.

    Raises
    ------
    UsageError
        A terminal is asked for, and there is none.
    """
    is_terminal = _is_terminal()
    if run.tty and not is_terminal:
        raise UsageError(
            "--tty needs a terminal, and stdin or stdout isn't one.", hint="Leave --tty (-t) away."
        )
    return is_terminal if run.tty is None else run.tty


@contextlib.contextmanager
def _explained(endpoint: Endpoint) -> Iterator[None]:
    """Give an engine's error the hint that fits: about a missing command, or an engine that went away."""
    import docker.errors
    import requests

    try:
        yield
    except EngineError as error:
        cause = error.__cause__
        if isinstance(cause, docker.errors.APIError):
            message = explanation(cause).lower()
            if any(words in message for words in _NO_COMMAND) and "mount" not in message:
                error.hint = "See which commands the image has: imagesync run ls /opt/env/bin"
            elif "device driver" in message and "gpu" in message:
                error.hint = (
                    "The engine's machine needs NVIDIA's driver and the NVIDIA Container Toolkit, set up for "
                    "the engine: nvidia-ctk runtime configure --runtime=docker"
                )
            raise
        if cause is None or isinstance(cause, requests.Timeout):
            raise
        raise EngineError(
            f"The container engine at {endpoint.url} went away while the command ran in it.",
            hint="Start it again, and see its log (`journalctl -u docker`). If it keeps containers alive, the"
            " command's may still run: docker ps --filter label=dev.imagesync.run",
        ) from cause


def _run(api: docker.APIClient, endpoint: Endpoint, run: ContainerRun, *, terminal: bool, init: bool) -> int:
    copy = _copy_terminal if terminal else _copy_streams
    # Its errors aren't caught around all of it: this process's own output may fail, too.
    action = f"run {' '.join(run.command) or 'the image'} in {run.reference}"
    with engine_errors(action):
        container = api.create_container(**_configuration(api, run, terminal=terminal, init=init))["Id"]
    with removing(api, container):
        with engine_errors(action):
            for folder, target in _mounted_folders(run):
                check_mounted(api, container, folder, target, reference=run.reference)
        with _forwarded_signals(endpoint, container) as was_signalled:
            copy(api, container, action, was_signalled)
            with engine_errors(action):
                code = wait_for_exit(api, container)
                assert code is not None  # noqa: S101  it waits without a limit
                return code


def _mounted_folders(run: ContainerRun) -> Iterator[tuple[Path, str]]:
    """Yield the folders of this machine that are mounted, with their paths in the container."""
    yield run.folder, WORKSPACE
    for mount in run.mounts:
        # Another path may be one of the engine's machine.
        if mount.kind == "bind" and os.path.isdir(mount.source):  # noqa: PTH112 - Path's may raise
            yield Path(mount.source), mount.target.rstrip("/") or "/"


def _configuration(api: docker.APIClient, run: ContainerRun, *, terminal: bool, init: bool) -> dict[str, Any]:
    environment = dict(run.environment)
    if terminal:
        environment.setdefault("TERM", os.environ.get("TERM", "xterm"))
    workspace = Mount(str(run.folder), WORKSPACE, read_only=False)
    user, options = _user(api, run, environment)
    host = api.create_host_config(
        mounts=mount_objects((workspace, *run.mounts)),
        port_bindings={inner: ("127.0.0.1", outer) for inner, outer in run.ports.items()},
        network_mode=run.network or None,
        device_requests=device_requests(run.gpus),
        shm_size=run.shm_size,
        init=init or None,
        **options,
    )
    return {
        "image": run.reference,
        "command": list(run.command) or None,
        "stdin_open": True,
        "tty": terminal,
        "stop_signal": "SIGINT",
        "working_dir": WORKSPACE,
        "environment": environment,
        "ports": list(run.ports),
        "host_config": host,
        "labels": {"dev.imagesync.run": str(os.getpid())},
        **user,
    }


def _user(
    api: docker.APIClient, run: ContainerRun, environment: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the container's user, and options of its host, so that this user owns what it writes."""
    # Docker Desktop maps file owners by itself, and Windows has no ids.
    if run.user or sys.platform != "linux":
        return ({"user": run.user} if run.user else {}), {}
    environment.setdefault("HOME", "/tmp")  # noqa: S108  the image's own user owns the image's home
    features = " ".join(api.info().get("SecurityOptions") or ())
    if "name=rootless" in features:
        return {"user": "0:0"}, {}  # that is whoever started the engine
    options = {"userns_mode": "host"} if "name=userns" in features else {}
    return {"user": f"{os.getuid()}:{os.getgid()}"}, options


@contextlib.contextmanager
def _forwarded_signals(endpoint: Endpoint, container: str) -> Iterator[Callable[[], bool]]:
    """Send signals on to the container while the block runs; yield a function that tells if one came.

    A second signal, or ten seconds, kill the container.
    """
    received: list[str] = []
    ended = threading.Event()

    def forward(name: str) -> None:
        # A client of its own: the SDK's isn't thread-safe. An engine that is gone is noticed in the block.
        with (
            contextlib.suppress(EngineError),
            engine_errors("signal the command"),
            contextlib.closing(connect(endpoint)) as api,
        ):
            _send_signal(api, container, name, ended)
            if not ended.wait(_GRACE):
                api.kill(container)

    def handle(number: int, _frame: FrameType | None) -> None:
        name = "SIGKILL" if received else signal.Signals(number).name
        received.append(name)
        threading.Thread(target=forward, args=(name,), daemon=True).start()

    before = {}
    # Python delivers signals to the main thread alone.
    is_main = threading.current_thread() is threading.main_thread()
    for name in _SIGNALS if is_main else ():
        number = getattr(signal, name, None)
        # What is ignored stays ignored: nohup, and a shell's jobs in the background.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield lambda: bool(received)
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _send_signal(api: docker.APIClient, container: str, name: str, ended: threading.Event) -> None:
    """Send a signal, again and again until the container has started."""
    import docker.errors

    end = time.monotonic() + _GRACE
    while not ended.is_set() and time.monotonic() < end:
        with contextlib.suppress(docker.errors.APIError):
            api.kill(container, signal=name)
            return
        ended.wait(0.1)


def _is_terminal() -> bool:
    """Return True if both ends are a terminal that this system lets us control."""
    return os.name == "posix" and sys.stdin.isatty() and sys.stdout.isatty()


def _copy_streams(
    api: docker.APIClient, container: str, action: str, was_signalled: Callable[[], bool]
) -> None:
    """Start the container, and copy its streams until it closes its output."""
    # Two connections: over TLS, one whose sending side is closed can't be read any more.
    with contextlib.ExitStack() as connections:
        with engine_errors(action):
            attached = connections.enter_context(Attachment(api, container, "stdout", "stderr"))
            stdin = connections.enter_context(Attachment(api, container, "stdin"))
            api.start(container)
        threading.Thread(target=_send_stdin, args=(stdin,), daemon=True).start()
        connections.enter_context(_given_up(api, attached, action))
        for stream, data in attached.output():
            target = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
            try:
                target.write(data)
                target.flush()
            except OSError:
                # With the terminal gone (SIGHUP) the command still gets its time to end.
                if not was_signalled():
                    raise


@contextlib.contextmanager
def _given_up(api: docker.APIClient, attached: Attachment, action: str) -> Iterator[None]:
    """End the connection, and raise the error that says so, if the engine stops answering meanwhile."""
    with watched(api, attached.disconnect) as is_gone:
        try:
            yield
        except (EngineError, ValueError):
            if not is_gone.is_set():
                raise
        if is_gone.is_set():
            raise gone(action)


def _send_stdin(attached: Attachment) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            attached.send(data)
        attached.end_input()


def _copy_terminal(
    api: docker.APIClient, container: str, action: str, was_signalled: Callable[[], bool]
) -> None:
    """Start the container with this terminal as its own, window size included."""
    del was_signalled  # a terminal that is gone is noticed where it is read
    with contextlib.ExitStack() as connections:
        with engine_errors(action):
            attached = connections.enter_context(Attachment(api, container, "stdin", "stdout", "stderr"))
            api.start(container)
        with _given_up(api, attached, action), _raw_terminal(), _window_size(api, container):
            _copy_both_ways(attached.socket, action)


def _copy_both_ways(connection: socket.socket, action: str) -> None:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    sources: list[Any] = [connection, stdin]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            with engine_errors(action):
                data = connection.recv(_CHUNK)
            if not data:
                return
            with contextlib.suppress(OSError):  # the terminal is gone
                os.write(stdout, data)
        if stdin in ready:
            if data := _read_terminal(stdin):
                with engine_errors(action):
                    connection.sendall(data)
            else:
                sources.remove(stdin)


def _read_terminal(stdin: int) -> bytes:
    try:
        return os.read(stdin, _CHUNK)
    except OSError:
        return b""  # the terminal is gone


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _window_size(api: docker.APIClient, container: str) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return

    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        # The command may have ended already.
        with contextlib.suppress(EngineError), engine_errors("resize the terminal"):
            api.resize(container, height=size.lines, width=size.columns)

    before = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
