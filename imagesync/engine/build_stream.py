"""Read the answer to a build request: BuildKit's trace, or plain lines of Podman and the classic builder."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any

from imagesync.engine.build_steps import Steps
from imagesync.engine.build_trace import Trace, Vertex, decode_trace
from imagesync.engine.client import failure

# [2/5] RUN ..., or [stage 2/5] RUN ... where there are several stages.
_NUMBERED = re.compile(r"^\[(?:[^\]\s]+ )?\d+/\d+\]")
# Podman says "STEP 2/5: RUN ...", the classic builder "Step 2/5 : RUN ...".
_PLAIN_STEP = re.compile(r"^step (?P<number>\d+)/(?P<total>\d+) ?: (?P<text>.*)", re.IGNORECASE)
_PLAIN_CACHED = re.compile(r"^ ?-+> using cache", re.IGNORECASE)
# The error of steps that end because another one failed.
_FOLLOWS = "context canceled"


class BuildStream:
    """Reader of the messages of one build, from any builder.

    Parameters
    ----------
    steps
        Updated with each message.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._plain = _PlainSteps(steps)
        self._decoders: dict[tuple[str, int], codecs.IncrementalDecoder] = {}
        self.image_id: str | None = None

    def feed(self, message: Mapping[str, Any]) -> None:
        """Process one message.

        Raises
        ------
        BuildError
            The message reports that the build failed.
        """
        if (reason := failure(message)) is not None:
            self._plain.failed(reason)
            raise self._steps.error(reason)
        aux = message.get("aux")
        if message.get("id") == "moby.buildkit.trace" and isinstance(aux, str):
            self._feed_trace(decode_trace(aux))
        elif isinstance(aux, dict) and aux.get("ID"):
            self.image_id = str(aux["ID"])
        if message.get("stream"):
            self._plain.feed(str(message["stream"]))

    def end(self) -> None:
        """Finish the last step, after the stream has ended without an error."""
        self._plain.finish()

    def _feed_trace(self, trace: Trace) -> None:
        new = {v.digest for v in trace.vertexes if _is_numbered(v) and not self._steps.knows(v.digest)}
        self._steps.expect(len(new))
        for vertex in trace.vertexes:
            self._feed_vertex(vertex)
        for log in trace.logs:
            # A character may be split between two pieces.
            decoder = self._decoders.setdefault(
                (log.vertex, log.stream), codecs.getincrementaldecoder("utf-8")(errors="replace")
            )
            self._steps.known(log.vertex, log.vertex, numbered=False)
            self._steps.output(log.vertex, decoder.decode(log.data))

    def _feed_vertex(self, vertex: Vertex) -> None:
        steps = self._steps
        steps.known(vertex.digest, vertex.name, numbered=_is_numbered(vertex))
        if vertex.error:
            if not vertex.error.endswith(_FOLLOWS):
                steps.failed(vertex.digest, vertex.error)
        elif vertex.completed is not None:
            seconds = None if vertex.started is None else vertex.completed - vertex.started
            steps.finished(vertex.digest, cached=vertex.cached, seconds=seconds)
        elif vertex.started is not None:
            steps.started(vertex.digest)


def _is_numbered(vertex: Vertex) -> bool:
    return _NUMBERED.match(vertex.name) is not None


class _PlainSteps:
    """Steps that a builder reports as text, one after the other."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._current: str | None = None
        self._cached = False

    def feed(self, text: str) -> None:
        if found := _PLAIN_STEP.match(text):
            self.finish()
            if self._current is None:
                self._steps.expect(int(found["total"]))
            self._current, self._cached = found["number"], False
            label = f"[{found['number']}/{found['total']}] {found['text'].rstrip()}"
            self._steps.known(self._current, label, numbered=True)
            self._steps.started(self._current)
        elif _PLAIN_CACHED.match(text):
            self._cached = True
        elif self._current is not None:
            self._steps.output(self._current, text)

    def finish(self) -> None:
        if self._current is not None:
            self._steps.finished(self._current, cached=self._cached)

    def failed(self, error: str) -> None:
        if self._current is not None:
            self._steps.failed(self._current, error)
