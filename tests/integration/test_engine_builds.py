"""The engine itself, Docker's and Podman's: images, containers, builds, and builds that are interrupted."""

from __future__ import annotations

import gc
import os
import pty
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from imagesync.core.platforms import PLATFORMS
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.client import connect
from imagesync.engine.emulation import emulates, exit_program
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.fragile_builds import is_fragile
from imagesync.engine.interactive import run_container
from imagesync.engine.lookup import look_up
from imagesync.engine.run_container import RunRequest
from imagesync.engine.run_options import ContainerRun
from imagesync.errors import BuildError, EngineError, RegistryError
from tests.engine_proxy import EngineProxy
from tests.integration.tiny_image import REFERENCE, context
from tests.processes import PATIENCE, sleeping, wait_until

QUIET = SilentProgress()
CANCELLED = """
import sys
from imagesync.engine.client import connect
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.engine import Engine
from imagesync.core.progress import SilentProgress
with Engine(Endpoint(sys.argv[1], "the test")) as engine:
    engine.build([sys.stdin.buffer.read()], BuildRequest("none", "linux/amd64"), progress=SilentProgress())
"""


@pytest.fixture(scope="module")
def real(endpoint: Endpoint) -> Iterator[Engine]:
    with Engine(endpoint) as engine:
        yield engine


def build(engine: Engine, dockerfile: str, **files: bytes) -> str:
    request = BuildRequest("none", "linux/amd64", labels={"test": "1"})
    return engine.build([context(dockerfile, **files)], request, progress=QUIET)


def test_run_gives_code_and_both_streams(real: Engine) -> None:
    command = ("sh", "-c", "echo out; echo err >&2; id -u; echo $A; exit 3")
    result = real.run(RunRequest(REFERENCE, command, user="1234", environment={"A": "b c"}))
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n1234\nb c\n", b"err\n")


def test_run_feeds_a_script(real: Engine) -> None:
    result = real.run(RunRequest(REFERENCE, ("sh",), stdin=b"echo from stdin\nexit 4\n"))
    assert (result.exit_code, result.stdout) == (4, b"from stdin\n")


def test_run_is_stopped_in_time(real: Engine) -> None:
    with pytest.raises(EngineError, match="was stopped after 1 s"):
        real.run(RunRequest(REFERENCE, ("sleep", "60"), timeout=1))


def test_run_whose_output_ends_early_is_stopped_in_time(real: Engine) -> None:
    with pytest.raises(EngineError, match="was stopped after 1 s"):
        real.run(RunRequest(REFERENCE, ("sh", "-c", "exec sleep 60 >/dev/null 2>&1 <&-"), timeout=1))


def test_run_that_is_silent_for_longer_than_the_limits_ends_with_its_own_code(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagesync.engine.liveness.EVERY", 0.3)
    monkeypatch.setattr("imagesync.engine.liveness.PATIENCE", 20.0)
    with Engine(endpoint) as engine:
        for command in ("sleep 4; exit 7", "exec >/dev/null 2>&1 <&-; sleep 4; exit 7"):
            assert engine.run(RunRequest(REFERENCE, ("sh", "-c", command))).exit_code == 7


@pytest.mark.parametrize("path", ["/start", "/wait", "/kill"])
def test_limit_of_a_run_holds_for_an_engine_that_does_not_answer(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("imagesync.engine.client.REQUEST_TIMEOUT", 5)
    with (
        EngineProxy(stalled=[path], engine=endpoint.url) as proxy,
        Engine(Endpoint(proxy.url, "the test")) as engine,
        pytest.raises(EngineError, match=r"was stopped after 1 s|didn't answer in time"),
    ):
        engine.run(RunRequest(REFERENCE, ("sleep", "60"), timeout=1))


@pytest.mark.parametrize("tty", [False, True], ids=["streams", "terminal"])
def test_command_is_given_up_when_the_engine_hangs(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tty: bool
) -> None:
    monkeypatch.setattr("imagesync.engine.liveness.EVERY", 0.2)
    monkeypatch.setattr("imagesync.engine.liveness.PATIENCE", 1.0)
    leader, follower = pty.openpty()
    with (
        os.fdopen(leader, "rb"),
        os.fdopen(follower) as stdin,
        os.fdopen(os.dup(follower), "w") as stdout,
        EngineProxy(stalled=["/_ping"], engine=endpoint.url) as proxy,
    ):
        if tty:
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sys, "stdout", stdout)
        run = ContainerRun(REFERENCE, ("sleep", "60"), tmp_path, tty=tty)
        with pytest.raises(EngineError, match=r"failed to run sleep 60 in .*: it hasn't answered for 1 s"):
            run_container(Endpoint(proxy.url, "the test"), run)
    with closing(connect(endpoint)) as api:
        assert api.containers(all=True, filters={"label": f"dev.imagesync.run={os.getpid()}"}) == []


# The SDK doesn't close a socket that it can't connect.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_engine_that_is_gone_during_a_run_is_an_error(endpoint: Endpoint) -> None:
    request = RunRequest(REFERENCE, ("sh", "-c", "echo here; sleep 3"))
    with EngineProxy(engine=endpoint.url) as proxy, Engine(Endpoint(proxy.url, "the test")) as engine:
        with pytest.raises(EngineError, match=r"The container engine failed to .*: ") as caught:
            engine.run(request, output=lambda *_: proxy.stop())
        assert caught.value.hint == "If the engine was stopped or restarted, try again."
        del caught
        gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_engine_that_is_gone_during_a_build_is_said_to_be_gone(real: Engine, endpoint: Endpoint) -> None:
    name = f"imagesync-test/named:{secrets.token_hex(4)}"
    with EngineProxy(engine=endpoint.url) as proxy, Engine(Endpoint(proxy.url, "the test")) as engine:

        def cut() -> None:
            proxy.wait_for("POST /build")
            proxy.stop()

        threading.Thread(target=cut, daemon=True).start()
        # The name can't be removed any more, which isn't what has to be said.
        with (
            pytest.raises(EngineError, match="The container engine went away during the build") as caught,
            engine.named(REFERENCE, name),
        ):
            build(engine, f"FROM {name}\nRUN sleep 3\n")
        assert "Start it again" in str(caught.value.hint)
        del caught
        gc.collect()
    assert real.inspect(name) is not None
    real.remove(name)


_RUN = """
import sys
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
command = ("sh", "-c", "echo here; sleep 600")
Engine(Endpoint(sys.argv[1], "the test")).run(
    RunRequest(sys.argv[2], command), output=lambda *_: print("here", flush=True)
)
"""


def test_container_and_image_of_a_killed_process_go_with_the_next_build(endpoint: Endpoint) -> None:
    with Engine(endpoint) as engine:
        image = build(engine, f"FROM {REFERENCE}\nCMD abandoned\n")
        command = [sys.executable, "-c", _RUN, endpoint.url, image]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        assert image in engine.images_in_use()
        engine.remove_abandoned()
        assert image in engine.images_in_use()  # its process still runs
        process.kill()
        process.communicate()
        assert engine.remove_abandoned()
        assert image not in engine.images_in_use()
        assert engine.inspect(image) is None


def test_run_of_a_command_that_is_missing(real: Engine) -> None:
    with pytest.raises(EngineError, match="nonexistent"):
        real.run(RunRequest(REFERENCE, ("nonexistent",)))


def test_build_without_a_network_mounts_and_labels(real: Engine) -> None:
    image_id = build(
        real,
        f"FROM {REFERENCE}\nRUN --mount=type=bind,source=data,target=/mnt cat /mnt > /copy\n"
        f"RUN ip -o link | wc -l > /links\nENV RUN={secrets.token_hex(4)}\n",
        data=b"hello",
    )
    try:
        image = real.inspect(image_id)
        assert image is not None
        assert image.labels["test"] == "1"
        result = real.run(RunRequest(image_id, ("cat", "/copy")))
        assert result.stdout == b"hello"
    finally:
        real.discard(image_id)
    assert real.inspect(image_id) is None


def test_failing_step_is_named_and_its_log_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    with Engine(endpoint, logs=tmp_path / "logs") as engine, pytest.raises(BuildError) as caught:
        build(engine, f"FROM {REFERENCE}\nRUN echo why; echo https://me:pw@h/x >&2; exit 7\n")
    assert "(exit code 7)" in caught.value.message
    assert "    why" in caught.value.message.splitlines()
    (log,) = (tmp_path / "logs").iterdir()
    assert caught.value.hint == f"The whole log: {log}"
    assert "pw@" not in str(caught.value) + log.read_text()


def test_dockerfile_that_is_wrong(real: Engine) -> None:
    with pytest.raises(BuildError, match=r"(?i)unknown instruction"):
        build(real, f"FROM {REFERENCE}\nRUM echo\n")


def test_context_that_breaks_off(real: Engine) -> None:
    def broken() -> Iterator[bytes]:
        yield context(f"FROM {REFERENCE}\n", data=bytes(1 << 20))[: 1 << 19]
        raise RuntimeError("a file vanished")

    with pytest.raises(RuntimeError, match="a file vanished"):
        real.build(broken(), BuildRequest("none", "linux/amd64"), progress=QUIET)


def test_engine_is_asked_which_platforms_it_runs_by_a_program_and_a_yes_is_remembered(
    real: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (own,) = (platform for platform in PLATFORMS if platform.is_platform_of(real.info().platform))
    assert emulates(real, own, cache=tmp_path)
    program = exit_program(own)
    unknown = program[:18] + b"\xde\xad" + program[20:]
    monkeypatch.setattr("imagesync.engine.emulation.exit_program", lambda _: unknown)
    assert emulates(real, own, cache=tmp_path) == (real.identifier() != "")
    assert not emulates(real, own, cache=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_engine_that_starts_no_container_says_nothing_about_platforms(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    with (
        EngineProxy(refused=["POST /containers/create"], engine=endpoint.url) as proxy,
        Engine(Endpoint(proxy.url, "the test")) as engine,
        pytest.raises(EngineError, match="403"),
    ):
        emulates(engine, PLATFORMS[0], cache=tmp_path)


def test_builds_that_ask_for_a_platform_at_once_do_not_disturb_each_other(
    real: Engine, endpoint: Endpoint, tmp_path: Path
) -> None:
    (own,) = (platform for platform in PLATFORMS if platform.is_platform_of(real.info().platform))

    def ask(number: int) -> bool:
        with Engine(endpoint) as engine:
            return emulates(engine, own, cache=tmp_path / str(number))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))


def test_look_up_finds_names_labels_and_the_base(real: Engine, endpoint: Endpoint) -> None:
    repository = f"imagesync-test-{secrets.token_hex(4)}"
    image_id = build(real, f"FROM {REFERENCE}\nENV A={repository}\n")
    try:
        real.tag(image_id, f"{repository}:one")
        real.tag(image_id, f"{repository}:two")
        found = look_up(endpoint, base=REFERENCE, repository=repository)
        base = real.inspect(REFERENCE)
        assert base is not None
        assert found.base_digest in {base.image_id, *(d.partition("@")[2] for d in base.digests)}
        (image,) = found.images
        assert image.image_id == image_id
        assert sorted(image.tags) == ["one", "two"]
        assert image.labels["test"] == "1"
        assert found.tagged("one") == image
        assert found.tagged("three") is None
        by_id = look_up(endpoint, base=base.image_id, repository="imagesync-test/none")
        assert by_id.base_digest is not None
        assert by_id.images == ()
        assert look_up(endpoint, base="example.com:5000/tiny:1", repository="x").base_digest is None
    finally:
        real.remove(f"{repository}:one")
        real.remove(f"{repository}:two")
        real.discard(image_id)


def test_pull_that_is_refused(real: Engine) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1/nothing:1 can't be pulled"):
        real.pull("127.0.0.1:1/nothing:1", platform="linux/amd64", progress=QUIET)


@pytest.mark.alone
def test_interrupted_build_stops_the_running_step(endpoint: Endpoint) -> None:
    # Podman 4 goes on with the step that runs when its client leaves, and Docker before 23 is let finish it;
    # there it is a short one.
    is_podman = "podman" in endpoint.url
    with closing(connect(endpoint)) as api:
        is_finished = is_fragile(api)
    is_short, length = is_podman or is_finished, 4 if is_finished else 8
    number = secrets.randbelow(90)
    seconds = f"{length}".zfill(9 + number) if is_short else f"{10**6 + number}"
    never = f"{10**7 + number}"
    dockerfile = f"FROM {REFERENCE}\nRUN sleep {seconds}\nRUN sleep {never}\n"
    process = subprocess.Popen(
        [sys.executable, "-c", CANCELLED, endpoint.url],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(context(dockerfile))
    process.stdin.close()
    try:
        wait_until(lambda: sleeping(seconds) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        # Sooner than the step ends, unless that is waited for.
        assert process.wait(timeout=PATIENCE if is_finished else 6) == -signal.SIGINT
        assert not (is_finished and sleeping(seconds))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not sleeping(seconds) and not sleeping(never))
