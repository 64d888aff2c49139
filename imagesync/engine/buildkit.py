"""Build an image by one request to the engine's API: BuildKit on Docker, Buildah on Podman."""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imagesync.engine.build_steps import Steps
from imagesync.engine.build_trace import Trace, Vertex, decode_trace
from imagesync.engine.client import SEND_TIMEOUT, engine_errors, failure, messages, refusal
from imagesync.engine.fragile_builds import deferred_interrupts, explain_end, is_fragile, one_at_a_time
from imagesync.engine.liveness import Stream
from imagesync.errors import BuildError, EngineError

if TYPE_CHECKING:
    import docker
    import requests

    from imagesync.core.progress import Progress
    from imagesync.engine.build_context import BuildRequest


KEPT_LOGS = 20
_CANCEL_TIMEOUT = 5
_CONTAINERD_STORE = "1.43"
"""The API of Docker 24, the first engine that may have such an image store."""


def build_by_api(
    api: docker.APIClient,
    context: Iterable[bytes],
    request: BuildRequest,
    *,
    progress: Progress,
    logs: Path | None,
) -> str:
    """Send the context, follow the build, and return the image's ID.

    Any exception, :class:`KeyboardInterrupt` included, cancels the build; on Docker before 23 an interrupt
    does so at the end of a step, and builds wait for each other.

    Parameters
    ----------
    api
        The engine's client.
    context
        A tar archive in pieces.
    request
        The options of the build.
    progress
        Shows the steps.
    logs
        The folder for the whole log; the latest logs stay there.

    Raises
    ------
    BuildError
        A step failed, or the engine refuses the build.

    Notes
    -----
    ``version=2`` asks for BuildKit: https://docs.docker.com/reference/api/engine/. Without a session it has
    neither secrets nor the user's credentials for images.
    """
    build_id = uuid4().hex
    steps = Steps(progress=progress, log=None if logs is None else _new_log(logs, build_id))
    stream = BuildStream(steps)
    with ExitStack() as exits:
        with engine_errors("build the image"):
            fragile = is_fragile(api)
            query = {**_parameters(request, build_id), **_output(api)}
        if fragile:
            exits.enter_context(one_at_a_time(api.base_url, progress=progress))
        exits.enter_context(steps)
        check = exits.enter_context(deferred_interrupts(steps, progress=progress)) if fragile else None
        try:
            with engine_errors("build the image"):
                send = partial(
                    api.post,
                    f"{api.base_url}/v{api.api_version}/build",
                    params=query,
                    headers={"Content-Type": "application/x-tar"},
                    stream=True,
                    timeout=(SEND_TIMEOUT, None),
                )
                read = partial(_messages, steps=steps)
                with Stream(api, "build the image", send, read, body=context) as received:
                    for message in received:
                        stream.feed(message)
                        if check is not None:
                            check()
                    stream.end()
        except BaseException as error:
            _cancel(api, build_id, stream.image_id)
            gone = explain_end(api, fragile=fragile) if isinstance(error, EngineError) else None
            if gone is not None:
                raise gone from error
            raise
    if stream.image_id is None:
        raise explain_end(api, fragile=fragile) or steps.error("The engine ended the build without an image.")
    return stream.image_id


_NEEDED = (
    "Builds need Docker Engine 20.10 or later with BuildKit, or Podman 4.3 or later; see `docker version`."
)


def _messages(response: requests.Response, *, steps: Steps) -> Iterator[Mapping[str, Any]]:
    if not response.ok:
        raise BuildError(
            f"The engine refuses the build: {steps.error(refusal(response)).message}", hint=_NEEDED
        )
    yield from messages(response)


def _parameters(request: BuildRequest, build_id: str) -> dict[str, str]:
    from docker.utils.config import load_general_config
    from docker.utils.proxy import ProxyConfig

    arguments = dict(request.build_args)
    if request.network != "none":
        # As the Docker CLI does: BuildKit keeps these predefined arguments out of the image and its history.
        proxies = load_general_config().get("proxies") or {}
        arguments = {**ProxyConfig.from_dict(proxies.get("default") or {}).get_environment(), **arguments}
    parameters: dict[str, str] = {
        "version": "2",
        "buildid": build_id,
        "dockerfile": request.dockerfile,
        "buildargs": json.dumps(arguments),
        "labels": json.dumps(dict(request.labels)),
        "platform": request.platform,
        "rm": "1",
        "forcerm": "1",
    }
    if request.network == "none":
        parameters["networkmode"] = "none"
    if request.target is not None:
        parameters["target"] = request.target
    if request.no_cache:
        parameters["nocache"] = "1"
    return parameters


def _output(api: docker.APIClient) -> dict[str, str]:
    """Return the output parameter of a containerd image store; other stores keep layers uncompressed.

    It compresses each layer during the build, on one core; gzip, the default, takes most of a build's time.
    """
    from docker.utils import version_lt

    if version_lt(api.api_version, _CONTAINERD_STORE):
        return {}
    if ["driver-type", "io.containerd.snapshotter.v1"] not in (api.info().get("DriverStatus") or []):
        return {}
    return {"outputs": json.dumps([{"Type": "moby", "Attrs": {"compression": "zstd"}}])}


def _cancel(api: docker.APIClient, build_id: str, image_id: str | None) -> None:
    """Cancel a build, and remove its image if it was finished."""
    import docker.errors
    import requests

    # Podman has no such request: it cancels when the connection is closed.
    with suppress(requests.RequestException, docker.errors.DockerException):
        api.post(
            f"{api.base_url}/v{api.api_version}/build/cancel",
            params={"id": build_id},
            timeout=_CANCEL_TIMEOUT,
        )
    if image_id is not None:
        remove_untagged(api, image_id)


def remove_untagged(api: docker.APIClient, image_id: str) -> None:
    """Remove an image unless it has a tag: the image of an entirely cached build may have one."""
    with suppress(EngineError), engine_errors(f"remove the image {image_id}"):
        tags = api.inspect_image(image_id).get("RepoTags") or []
        if not any("<none>" not in tag for tag in tags):
            api.remove_image(image_id, noprune=False)


def _new_log(folder: Path, build_id: str) -> Path | None:
    """Return a path for the build's log, and remove old ones; ``None`` where *folder* can't be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("build-*.log"))[: -KEPT_LOGS + 1]:
            old.unlink(missing_ok=True)
        log = folder / f"build-{time.strftime('%Y%m%d-%H%M%S')}-{build_id[:8]}.log"
        log.touch()
    except OSError:
        return None
    return log


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
