"""Why a cluster doesn't start, as it is said to the user."""

from __future__ import annotations

from imagesync.cluster.start_failure import find_failure

KILLED = (
    "imagesync: the worker was killed because the container's memory was exhausted, and is started again\n"
)
SIZES = {"image": "env:1", "joined": 1, "workers": 2}


def test_worker_that_is_still_starting_is_waited_for() -> None:
    logs = {"worker-0": "", "worker-1": KILLED * 2}
    assert find_failure(logs, running={"worker-0", "worker-1"}, expired=False) is None
    assert find_failure({}, running=set(), expired=True) is None


def test_worker_that_runs_out_of_memory_again_and_again() -> None:
    failure = find_failure({"worker-1": KILLED * 3}, running={"worker-1"}, expired=False)
    assert failure is not None
    error = failure.error(memory_limit=30 * 2**20, **SIZES)
    first, *log = error.message.splitlines()
    assert (
        first == "1 of 2 workers joined the cluster: worker-1 ran out of memory, of which it has 30.00 MiB."
    )
    assert log == [f"  {KILLED.rstrip()}"] * 3
    assert "--memory-limit 1GiB" in str(error.hint)


def test_worker_that_fails_for_another_reason_shows_its_log() -> None:
    line = "imagesync: the worker ended with 1, and is started again\n"
    failure = find_failure({"worker-0": f"Error: no\n{line}" * 3}, running={"worker-0"}, expired=False)
    assert failure is not None
    error = failure.error(memory_limit=0, **SIZES)
    assert "worker-0 failed 3 times." in error.message
    assert "  Error: no" in error.message
    assert "docker run --rm env:1" in str(error.hint)


def test_worker_whose_container_has_ended() -> None:
    failure = find_failure({"worker-0": ""}, running=set(), expired=False)
    assert failure is not None
    error = failure.error(memory_limit=2**20, **SIZES)
    assert error.message.endswith("worker-0 has ended.")
    assert "limited to 1.00 MiB" in str(error.hint)


def test_worker_that_has_not_come_in_time() -> None:
    failure = find_failure({"worker-0": "starting\n"}, running={"worker-0"}, expired=True)
    assert failure is not None
    error = failure.error(memory_limit=0, **SIZES)
    assert "worker-0 hasn't come within 120 s.\n  starting" in error.message


def test_traceback_of_a_worker_is_shown_by_its_exception() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "/opt/imagesync/node.py", line 5, in <module>\n'
        "    import distributed\n"
        "    ^^^^^^^^^^^^^^^^^^\n"
        "ModuleNotFoundError: No module named 'distributed'\n"
    )
    failure = find_failure({"worker-0": log}, running=set(), expired=False)
    assert failure is not None
    _, *lines = failure.error(memory_limit=0, **SIZES).message.splitlines()
    assert lines == ["  ModuleNotFoundError: No module named 'distributed'"]
