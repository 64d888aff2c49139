"""What builders send, recorded from real ones: BuildKit of Docker 20.10, and Podman 4.3."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from imagesync.core.progress import Severity, Task, Unit
from imagesync.engine.build_steps import Steps
from imagesync.engine.build_trace import decode_trace
from imagesync.engine.buildkit import BuildStream
from imagesync.errors import BuildError, EngineError

DATA = Path(__file__).parent / "data"


class Recorder:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self.had_tasks = False
        self.lines: list[str] = []
        self.counts: list[tuple[int, int, str]] = []
        self.described: list[str] = []
        self.shown: list[str] = []

    def task(self, label: str, *, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        self.total = total or 0
        return nullcontext(self)

    def advance(self, amount: int) -> None:
        self.done += amount

    def grow(self, amount: int) -> None:
        self.total += amount

    def describe(self, text: str) -> None:
        self.described.append(text)

    def count(self, done: int, total: int, text: str) -> None:
        self.counts.append((done, total, text))

    def output(self, line: str) -> None:
        self.shown.append(line)

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        if severity.is_shown(Severity.INFO):
            self.lines.append(severity.lead + text)


def test_trace_of_buildkit_is_decoded() -> None:
    messages = [json.loads(line) for line in (DATA / "build_failed_buildkit.jsonl").read_text().splitlines()]
    traces = [decode_trace(m["aux"]) for m in messages if m.get("id") == "moby.buildkit.trace"]
    vertexes = [vertex for trace in traces for vertex in trace.vertexes]
    failed = [vertex for vertex in vertexes if vertex.error]
    assert failed[-1].error.endswith("exit code: 7")
    assert failed[-1].name.startswith("[3/3] RUN")
    assert failed[-1].started is not None
    assert failed[-1].completed is not None
    assert 0 <= failed[-1].completed - failed[-1].started < 60
    assert any(vertex.cached for vertex in vertexes)
    logs = [log for trace in traces for log in trace.logs]
    assert {(log.stream, log.data) for log in logs} >= {(1, b"fine\n"), (1, b"going\n")}


@pytest.mark.parametrize("text", ["%%%", "/////w=="])
def test_invalid_trace_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="can't be read"):
        decode_trace(text)


@pytest.mark.parametrize("builder", ["buildkit", "podman"])
def test_failed_build_is_reported_with_step_exit_code_and_redacted_log(builder: str, tmp_path: Path) -> None:
    recorder = Recorder()
    log = tmp_path / "build.log"
    *messages, last = (DATA / f"build_failed_{builder}.jsonl").read_text().splitlines()
    with Steps(progress=recorder, log=log) as steps:
        stream = BuildStream(steps)
        for message in messages:
            stream.feed(json.loads(message))
        with pytest.raises(BuildError) as caught:
            stream.feed(json.loads(last))
    message = caught.value.message
    assert "[3/3] RUN echo going" in message
    assert "(exit code 7)" in message
    assert "    going" in message.splitlines()
    assert "    https://****@example.com/simple failed" in message.splitlines()
    assert "secret" not in message + "".join(recorder.lines) + log.read_text()
    assert caught.value.hint == f"The whole log: {log}"
    assert "fine" in log.read_text()
    assert recorder.total == 3
    assert recorder.done == 2


def test_error_quotes_the_end_of_a_long_log() -> None:
    with Steps(progress=Recorder(), log=None) as steps:
        steps.known("a", "[1/1] RUN long", numbered=True)
        steps.output("a", "".join(f"line {number}\n" for number in range(100)))
        steps.output("a", "  1%\r 50%\r100%")
        steps.failed("a", "exit code: 1")
        lines = steps.error("failed").message.splitlines()
    assert len(lines) == 41
    assert lines[1].strip() == "line 61"
    assert lines[-1].strip() == "100%"


def test_image_id_of_either_builder_is_read() -> None:
    with Steps(progress=Recorder(), log=None) as steps:
        stream = BuildStream(steps)
        stream.feed({"id": "moby.image.id", "aux": {"ID": "sha256:1"}})
        assert stream.image_id == "sha256:1"
        stream.feed({"aux": {"ID": "sha256:2"}})
        assert stream.image_id == "sha256:2"


def test_packages_that_a_step_reports_are_counted_and_its_output_is_shown() -> None:
    recorder = Recorder()
    with Steps(progress=recorder, log=None) as steps:
        steps.expect(2)
        steps.known("a", "[1/2] RUN install_conda.py", numbered=True)
        steps.known("b", "[2/2] RUN echo", numbered=True)
        steps.started("b")
        steps.started("a")
        steps.output("a", "[12/162] numpy 2.1.0\nrunning a script")
        steps.output("b", "of another step\n")
        steps.output("a", " of a package\n")
        steps.finished("a")
        steps.output("b", "now shown\n")
        steps.finished("b")
    assert recorder.counts == [(12, 162, "numpy 2.1.0")]
    assert recorder.described == ["[2/2] RUN echo", "[1/2] RUN install_conda.py", "[2/2] RUN echo", ""]
    assert recorder.shown == ["running a script of a package", "now shown"]
