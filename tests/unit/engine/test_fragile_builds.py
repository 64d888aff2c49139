"""Builds on Docker before 23: one at a time, and an interrupt waits for the end of a step."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.build_steps import Steps
from imagesync.engine.fragile_builds import deferred_interrupts, one_at_a_time
from tests.progress import RecordedLines


def steps() -> Steps:
    made = Steps(progress=SilentProgress(), log=None)
    for key in ("one", "two"):
        made.known(key, f"[{key}] RUN true", numbered=True)
    made.started("one")
    return made


def test_second_build_waits_for_the_first_and_says_so() -> None:
    engine, waiting = f"unix:///{secrets.token_hex(8)}", RecordedLines()
    entered, order = threading.Event(), []

    def second() -> None:
        with one_at_a_time(engine, progress=waiting):
            order.append("second")

    with one_at_a_time(engine, progress=SilentProgress()):
        thread = threading.Thread(target=second)
        thread.start()
        while not waiting.lines:
            entered.wait(0.01)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert waiting.lines[0].startswith("Waiting for another build")
    with one_at_a_time(engine, progress=waiting):
        assert len(waiting.lines) == 1


TAKING_TURNS = """
import sys
from pathlib import Path
from imagesync.core.progress import SilentProgress
from imagesync.engine.fragile_builds import one_at_a_time
for _ in range(5):
    with one_at_a_time("unix:///engine", progress=SilentProgress()):
        Path(sys.argv[1]).mkdir()
        Path(sys.argv[1]).rmdir()
"""


def test_builds_that_take_turns_leave_no_file_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", TAKING_TURNS, str(tmp_path / "building")]
    builds = [subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)}) for _ in range(4)]
    # A folder that is there already would end its process with an error.
    assert [build.wait(60) for build in builds] == [0, 0, 0, 0]
    assert list(temporary.iterdir()) == []


def test_interrupt_waits_for_the_end_of_the_step_that_runs() -> None:
    building, progress = steps(), RecordedLines()
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(building, progress=progress) as check:  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        check()
        while not progress.lines:
            threading.Event().wait(0.01)
        assert progress.lines[0].startswith("Cancelling when this step has ended")
        building.finished("one")
        building.started("two")
        check()
        pytest.fail("the step had ended")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_and_one_without_a_running_step_are_not_deferred() -> None:
    building = steps()
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(building, progress=SilentProgress()):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it was the second one")
    building.finished("one")
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(building, progress=SilentProgress()):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("no step runs")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_the_process_wait_too_unless_ignored(number: signal.Signals) -> None:
    received: list[int] = []
    original = signal.signal(number, lambda number, _: received.append(number))
    try:
        with deferred_interrupts(steps(), progress=SilentProgress()):
            os.kill(os.getpid(), number)
            assert received == []
        assert received == [number]
        signal.signal(number, signal.SIG_IGN)
        with deferred_interrupts(steps(), progress=SilentProgress()):
            assert signal.getsignal(number) is signal.SIG_IGN
        code = (
            "import os, signal\n"
            "from imagesync.core.progress import SilentProgress as Silent\n"
            "from imagesync.engine.build_steps import Steps\n"
            "from imagesync.engine.fragile_builds import deferred_interrupts\n"
            "steps = Steps(progress=Silent(), log=None)\n"
            "steps.known('one', '[one] RUN true', numbered=True)\n"
            "steps.started('one')\n"
            f"signal.signal({int(number)}, signal.SIG_DFL)\n"
            "with deferred_interrupts(steps, progress=Silent()):\n"
            f"    os.kill(os.getpid(), {int(number)})\n"
            "    print('step ended', flush=True)\n"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (-number, "step ended\n"), ended.stderr
    finally:
        signal.signal(number, original)


def test_interrupt_of_a_build_that_ends_meanwhile_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(steps(), progress=SilentProgress()):
        os.kill(os.getpid(), signal.SIGINT)
