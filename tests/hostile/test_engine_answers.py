"""Whatever an engine answers, and if it doesn't: a result, or an error of ours in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from imagesync.cluster.events import events_of
from imagesync.core.progress import SilentProgress
from imagesync.engine import client, fragile_builds, liveness, load_image, run_container
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.engine import Engine
from imagesync.engine.images import ListedImage
from imagesync.engine.lookup import look_up
from imagesync.engine.run_container import Attachment, RunRequest
from imagesync.errors import EngineError, ImagesyncError
from imagesync.registry.oci_layout import ImageLayout
from tests.hostile.rubbish_engine import ID, RubbishEngine
from tests.oci_images import small_image

RUBBISH = {
    "nothing": b"",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "text": b'"text"',
    "number": b"5",
    "other types": b'{"Id": 5, "Config": 5, "RepoTags": 5, "StatusCode": "x", "aux": 5, "error": []}',
    "null fields": b'{"Id": null, "Config": null, "StatusCode": null, "Created": null, "RepoTags": null}',
    "error of another form": b'{"errorDetail": "no", "error": {}}',
    "progress of another form": b'{"status": "Downloading", "id": "a", "progressDetail": {"total": "x"}}',
    "trace that is none": b'{"id": "moby.buildkit.trace", "aux": "//8="}',
    "list of nulls": b"[null]",
    "list of others": b'[{"Id": [], "RepoTags": {"a": 1}, "Labels": [1], "Size": "x", "ImageID": 7}]',
    "half": b'{"Id": "sha',
    "bytes": b"\xff\xfe\x00",
    "deep": b"[" * 200_000,
    "no number": b'{"StatusCode": NaN, "Size": 1e999}',
    "surrogate": b'{"Id": "\\ud800", "RepoTags": ["\\ud800"]}',
    "page": b"<html><body>Welcome</body></html>",
    "huge number": b'{"StatusCode": ' + b"9" * 5000 + b"}",
}
LISTED = ListedImage(ID, (), {}, 0)
CONTEXT = (b"\0" * 1024,)
OPERATIONS: dict[str, Callable[[Engine], object]] = {
    "info": Engine.info,
    "inspect": lambda engine: engine.inspect("a:1"),
    "list": Engine.list_images,
    "in use": Engine.images_in_use,
    "last tagged": lambda engine: engine.last_tagged(LISTED),
    "tag": lambda engine: engine.tag(ID, "a:1"),
    "remove": lambda engine: engine.remove("a:1"),
    "discard": lambda engine: engine.discard(ID),
    "pull": lambda engine: engine.pull("a:1", platform="linux/amd64", progress=SilentProgress()),
    "push": lambda engine: engine.push("a.example/b:1", progress=SilentProgress()),
    "save": lambda engine: b"".join(engine.save("a:1")),
    "history": lambda engine: engine.history("a:1"),
    "import": lambda engine: engine.import_archive(CONTEXT, "a:1", labels={}, platform="linux/amd64"),
    "TLS": lambda engine: engine.takes_without_tls("a.example"),
    "run": lambda engine: engine.run(RunRequest("a:1", ("true",), timeout=5)),
    "build": lambda engine: engine.build(
        CONTEXT, BuildRequest("none", "linux/amd64"), progress=SilentProgress()
    ),
    "look up": lambda engine: look_up(engine.endpoint, base="a:1", repository="a"),
}


@pytest.fixture(scope="module")
def rubbish() -> Iterator[RubbishEngine]:
    with RubbishEngine() as engine:
        yield engine


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [200, 201, 500])
def test_rubbish_of_an_engine_is_our_error(
    rubbish: RubbishEngine, tried: Callable[[str], None], operation: str, status: int
) -> None:
    rubbish.status = status
    with Engine(rubbish.endpoint) as engine:
        for kind, answer in RUBBISH.items():
            rubbish.answer = answer
            tried("engine: rubbish as an answer")
            try:
                OPERATIONS[operation](engine)
            except ImagesyncError:
                continue
            except Exception as error:
                raise AssertionError(f"{operation}: {kind}: {error!r}") from error


def test_tagging_that_the_engine_does_not_confirm_is_an_error(rubbish: RubbishEngine) -> None:
    rubbish.status, rubbish.answer = 200, b"{}"
    with Engine(rubbish.endpoint) as engine, pytest.raises(EngineError, match="has tagged a:1"):
        engine.tag(ID, "a:1")


@pytest.mark.parametrize("operation", ["build", "run", "pull", "push", "import"])
def test_engine_that_stops_answering_is_given_up(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    monkeypatch.setattr(liveness, "EVERY", 0.2)
    monkeypatch.setattr(liveness, "PATIENCE", 1.0)
    monkeypatch.setattr(client, "REQUEST_TIMEOUT", 1)
    monkeypatch.setattr(run_container, "_REMOVAL_SECONDS", 1.0)
    with RubbishEngine() as hanging, Engine(hanging.endpoint) as engine:
        began = time.monotonic()
        hanging.hanging.set()
        with pytest.raises(EngineError, match=r"hasn't answered|didn't answer"):
            OPERATIONS[operation](engine)
        assert time.monotonic() - began < 10


def test_engine_that_stops_answering_during_a_load_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = small_image(ImageLayout(tmp_path), {"a": b"a"})
    present = frozenset({image.manifest.layers[0].digest})
    sent: list[object] = []
    send = load_image._send

    def counted(*arguments: Any) -> None:
        sent.append(arguments)
        send(*arguments)

    monkeypatch.setattr(liveness, "EVERY", 0.2)
    monkeypatch.setattr(liveness, "PATIENCE", 1.0)
    monkeypatch.setattr(load_image, "present_layers", lambda *_: present)
    monkeypatch.setattr(load_image, "_send", counted)
    with RubbishEngine() as hanging, closing(client.connect(hanging.endpoint)) as api:
        hanging.hanging.set()
        with pytest.raises(EngineError, match="hasn't answered"):
            load_image.load_image(api, image, references=["a:1"], progress=SilentProgress())
    assert len(sent) == 1


def test_engine_that_hangs_after_a_build_is_not_said_to_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragile_builds, "_PING_SECONDS", 0.2)
    with RubbishEngine() as hanging, closing(client.connect(hanging.endpoint)) as api:
        hanging.hanging.set()
        assert fragile_builds.explain_end(api, fragile=False) is None


def test_upload_ends_with_its_stream() -> None:
    sent, closed = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"first"
        sent.set()
        closed.wait()
        while True:
            yield b"more"

    with RubbishEngine() as hanging, closing(client.connect(hanging.endpoint)) as api:
        hanging.hanging.set()
        send = partial(api.post, f"{api.base_url}/build", timeout=60)
        with liveness.Stream(api, "build", send, lambda response: iter(()), body()):
            sent.wait()
            (upload,) = (thread for thread in threading.enumerate() if thread.name == "engine-stream")
        closed.set()
        upload.join(10)
        assert not upload.is_alive()


@pytest.mark.parametrize("action", ["attach", "events"])
def test_engine_that_is_silent_when_a_stream_begins_is_given_up(
    monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT", 1)
    began = time.monotonic()
    with RubbishEngine() as engine, closing(client.connect(engine.endpoint)) as api:
        engine.hanging.set()
        begin = {"attach": lambda: Attachment(api, "a", "stdout"), "events": lambda: events_of(api, {})}
        with pytest.raises((ImagesyncError, requests.Timeout)):
            begin[action]()
    assert time.monotonic() - began < 10
