"""Real engines that answer wrongly, hang or are silent: two of the test's own, which it may stop."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine import client
from imagesync.engine.abandoned_containers import process_labels
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.interactive import run_container
from imagesync.engine.run_container import RunRequest
from imagesync.engine.run_options import ContainerRun
from imagesync.errors import EngineError, ImagesyncError
from imagesync.registry.repository import Repository
from tests.engine_proxy import EngineProxy
from tests.integration.local_registry import LocalRegistry
from tests.integration.tiny_image import REFERENCE, context, tiny_archive
from tests.integration.two_engines import Node, TwoEngines, two_engines
from tests.processes import wait_until

pytestmark = [
    pytest.mark.campaign,
    # The SDK doesn't close the socket of an answer that it can't read.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
QUIET = SilentProgress()
ROOT = Path(__file__).parents[2]
BUDGET = 30.0  # seconds for the faults of an operation
KILLS = 50
KILL_BUDGET = 400.0  # seconds for all of them, of which a busy machine takes most


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with two_engines(tmp_path_factory.mktemp("engines")) as engines:
        for node in (engines.manager, engines.worker):
            with Engine(endpoint(node)) as engine:
                engine.import_archive([tiny_archive()], REFERENCE, labels={}, platform="linux/amd64")
        yield engines


@pytest.fixture(scope="module")
def registry(engines: TwoEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry"), address=engines.host, auth={}) as registry:
        yield registry


def endpoint(node: Node) -> Endpoint:
    return Endpoint(f"unix://{node.socket}", "the test")


def run(engine: Engine, _: str) -> None:
    assert engine.run(RunRequest(REFERENCE, ("sh", "-c", "echo a; exit 7"), timeout=15)).exit_code == 7


def build(engine: Engine, _: str) -> None:
    dockerfile = f"FROM {REFERENCE}\nRUN echo {random.random()}"
    built = engine.build([context(dockerfile)], BuildRequest("none", "linux/amd64"), progress=QUIET)
    assert engine.inspect(built) is not None
    engine.remove(built)


def push(engine: Engine, name: str) -> None:
    assert engine.tag(REFERENCE, f"{name}/tiny:1") is None
    assert (engine.push(f"{name}/tiny:1", progress=QUIET) or "sha256:").startswith("sha256:")


def pull(engine: Engine, name: str) -> None:
    assert engine.pull(f"{name}/known:1", platform="linux/amd64", progress=QUIET).image_id


def make(engine: Engine, _: str) -> None:
    engine.import_archive([tiny_archive()], "imagesync-test/made:1", labels={}, platform="linux/amd64")
    assert engine.inspect("imagesync-test/made:1") is not None


OPERATIONS = {each.__name__: each for each in (run, build, push, pull, make)}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_fault_at_a_request_to_an_engine_is_made_good_or_named(
    engines: TwoEngines,
    registry: LocalRegistry,
    tried: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT", 20)
    act = OPERATIONS[operation]
    with EngineProxy(engine=f"unix://{engines.manager.socket}") as proxy:
        name = registry.host
        with Engine(endpoint(engines.manager)) as engine:
            engine.tag(REFERENCE, f"{name}/known:1")
            engine.push(f"{name}/known:1", progress=QUIET)
        with Engine(Endpoint(proxy.url, "the test")) as engine:
            proxy.forget()
            act(engine, name)
            many = len(proxy.requests)
        planned = [(number, fault) for number in range(many) for fault in EngineProxy.FAULTS]
        random.shuffle(planned)
        end = time.monotonic() + BUDGET
        for number, fault in planned:
            if time.monotonic() > end:
                break
            began = time.monotonic()
            with Engine(Endpoint(proxy.url, "the test")) as engine:
                proxy.fail(number, fault)
                try:
                    act(engine, name)
                except ImagesyncError as error:
                    print(operation, number, fault, error)  # for whoever reads of a failure
                except Exception as error:
                    raise AssertionError(f"{operation}, request {number}, {fault}: {error!r}") from error
                assert time.monotonic() - began < 60, (number, fault)
                proxy.fail(-1, fault)
                act(engine, name)
                engine.remove_abandoned()
            tried(f"engine, {operation}: {fault}")
        # Where the removal itself has failed, the next run removes the container once this process is gone.
        for left in engines.manager.client.containers.list(all=True):
            assert left.labels.keys() == process_labels().keys()
            left.remove(force=True)


# What a build does with an engine and a registry, again and again, in a process of its own for each line that
# is read. It prints the ID of each, and an empty line when that has ended.
WORK = """
import os, sys
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from tests.integration.tiny_image import REFERENCE, context
url, name = sys.argv[1:]
def work(first):
    with Engine(Endpoint(url, "the test")) as engine:
        for number in range(100):
            dockerfile = f"FROM {REFERENCE}\\nRUN echo {first} {number} > /which"
            request = BuildRequest("none", "linux/amd64")
            built = engine.build([context(dockerfile)], request, progress=SilentProgress())
            if number == 0:
                print(os.getpid(), flush=True)
            engine.run(RunRequest(built, ("sh", "-c", "sleep 0.1")))
            engine.tag(built, name)
            engine.push(name, progress=SilentProgress())
for line in sys.stdin:
    if not (pid := os.fork()):
        work(line.strip())
    os.waitpid(pid, 0)
    print(flush=True)
"""


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Call a function in a thread, and return where its result or error will be."""
    result: list[object] = []

    def call() -> None:
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread, result


def check_after_kill(node: Node, engine: Engine, name: str) -> None:
    """Check that an engine has nothing of a killed process, and works, and what it pushed is whole."""
    # The engine may still be at the last request of that process.
    wait_until(lambda: engine.remove_abandoned() == () and not node.client.api.containers(all=True), 20)
    run(engine, "")
    build(engine, "")
    # The first kills may come before the first push.
    with Repository(name, insecure=True) as repository:
        if (found := repository.resolve("linux/amd64")) is not None:
            for layer in found[1].manifest.layers:
                content = b"".join(repository.read(layer))
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest


def test_engine_and_registry_are_sound_after_a_kill(
    engines: TwoEngines, registry: LocalRegistry, tried: Callable[[str], None]
) -> None:
    """On both engines at once, as most of a trial is waiting."""
    end = time.monotonic() + KILL_BUDGET
    kills = iter(range(KILLS))

    def kill(node: Node) -> None:
        where = endpoint(node)
        name = f"{registry.host}/killed-{node.pid}:1"
        command = [sys.executable, "-c", WORK, where.url, name]
        with (
            Engine(where) as engine,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
            ) as parent,
        ):
            assert parent.stdin is not None
            assert parent.stdout is not None
            for number in kills:
                if time.monotonic() > end:
                    break
                parent.stdin.write(b"%d\n" % number)
                parent.stdin.flush()
                pid = int(parent.stdout.readline())
                time.sleep(random.uniform(0, 1))  # any moment will do
                os.kill(pid, signal.SIGKILL)
                assert parent.stdout.readline() == b"\n"
                check_after_kill(node, engine, name)
                tried("kill -9 of a build, a run or a push: engine and registry afterwards")
            assert parent.communicate() == (b"", b"")

    killing = [in_thread(partial(kill, node)) for node in (engines.manager, engines.worker)]
    for thread, result in killing:
        thread.join(KILL_BUDGET + 120)
        assert result == [None]


def test_silent_container_has_its_time_and_a_stopped_engine_90_seconds(
    engines: TwoEngines, tried: Callable[[str], None], tmp_path: Path
) -> None:
    """Both at once, as each takes minutes."""
    silent, stopped = endpoint(engines.worker), endpoint(engines.manager)
    command = ("sh", "-c", "sleep 180; exit 7")

    def run_in(where: Endpoint, command: tuple[str, ...]) -> int:
        with Engine(where) as engine:
            return engine.run(RunRequest(REFERENCE, command)).exit_code

    def build_in(where: Endpoint) -> str:
        with Engine(where) as engine:
            dockerfile = f"FROM {REFERENCE}\nRUN sleep 600"
            return engine.build([context(dockerfile)], BuildRequest("none", "linux/amd64"), progress=QUIET)

    patient = [
        in_thread(lambda: run_in(silent, command)),
        in_thread(lambda: run_container(silent, ContainerRun(REFERENCE, command, tmp_path, tty=False))),
    ]
    given_up = [
        in_thread(lambda: run_in(stopped, ("sleep", "600"))),
        in_thread(
            lambda: run_container(stopped, ContainerRun(REFERENCE, ("sleep", "600"), tmp_path, tty=False))
        ),
        in_thread(lambda: build_in(stopped)),
    ]
    time.sleep(10)  # a build says nothing when its step begins
    assert not [result for _, result in (*patient, *given_up) if result]
    os.kill(engines.manager.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        for thread, result in given_up:
            thread.join(120)
            assert isinstance(result[0], EngineError), result
            assert "hasn't answered" in result[0].message or "didn't answer" in result[0].message, result
            assert time.monotonic() - began < 90
            tried("engine that is stopped: given up within 90 s")
    finally:
        os.kill(engines.manager.pid, signal.SIGCONT)
    for thread, result in patient:
        thread.join(240)
        assert result == [7]
        tried("container that is silent for three minutes")


def test_tag_that_two_engines_push_at_once_names_one_whole_image(
    engines: TwoEngines, registry: LocalRegistry, tried: Callable[[str], None]
) -> None:
    name = f"{registry.host}/shared:1"
    digests = []
    for number, node in enumerate((engines.manager, engines.worker)):
        with Engine(endpoint(node)) as engine:
            dockerfile = f"FROM {REFERENCE}\nENV MACHINE={number}\nRUN echo {number} > /which"
            engine.tag(
                engine.build([context(dockerfile)], BuildRequest("none", "linux/amd64"), progress=QUIET), name
            )

    def push_from(node: Node) -> str | None:
        with Engine(endpoint(node)) as engine:
            return engine.push(name, progress=QUIET)

    for _ in range(5):
        pushing = [in_thread(lambda node=node: push_from(node)) for node in (engines.manager, engines.worker)]  # type: ignore[misc]
        for thread, result in pushing:
            thread.join(60)
            assert isinstance(result[0], str), result
        digests = [result[0] for _, result in pushing]
        assert digests[0] != digests[1]
        assert registry.digest("shared:1") in digests
        tried("one tag, pushed from two engines")
