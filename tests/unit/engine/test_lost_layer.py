"""A build cache that names a layer that is gone: the engine's side is a server with Docker 20.10's words."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from imagesync.engine.build_context import BuildRequest
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.fragile_builds import has_lost_layer
from imagesync.errors import BuildError
from tests.progress import RecordedLines
from tests.running_server import JSONHandler, RunningServer, read_chunks

LOST = "failed to prepare 7j3fhljg2kbn: open /var/lib/docker/overlay2/xu/committed: no such file or directory"


class BrokenCache(RunningServer):
    """An engine that fails each build that uses the cache, and perhaps others."""

    def __init__(self, *, always: bool = False) -> None:
        asked: list[bool] = []

        class Handler(JSONHandler, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": []})

            def do_POST(self) -> None:
                url = urlsplit(self.path)
                if not url.path.endswith("/build"):
                    self.answer({})
                    return
                read_chunks(self.rfile)
                cached = "nocache" not in parse_qs(url.query)
                asked.append(cached)
                failed = {"errorDetail": {"message": LOST}, "error": LOST}
                self.answer(failed if cached or always else {"aux": {"ID": "sha256:" + 64 * "a"}})

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        super().__init__(server)
        self.cached_builds = asked
        self.endpoint = Endpoint(f"tcp://127.0.0.1:{server.server_port}", "the test")


@pytest.mark.parametrize(
    "message",
    [LOST, "failed to prepare sha256:4f3 as 9axx: open /db9/.tmp-committed2: no such file or directory"],
)
def test_lost_layer_is_known_by_the_words_of_each_version(message: str) -> None:
    assert has_lost_layer(BuildError(message))
    assert not has_lost_layer(BuildError(message.replace("committed", "merged")))


def test_build_that_meets_a_lost_layer_runs_again_without_the_cache() -> None:
    progress = RecordedLines()
    with BrokenCache() as server, Engine(server.endpoint) as engine:
        image_id = engine.build_dockerfile(
            "FROM scratch\n", BuildRequest("none", "linux/amd64"), progress=progress
        )
    assert image_id == "sha256:" + 64 * "a"
    assert server.cached_builds == [True, False]
    assert any("docker builder prune" in line for line in progress.lines)


@pytest.mark.parametrize(("no_cache", "builds"), [(False, [True, False]), (True, [False])])
def test_layer_lost_without_the_cache_too_is_an_error(*, no_cache: bool, builds: list[bool]) -> None:
    request = BuildRequest("none", "linux/amd64", no_cache=no_cache)
    with (
        BrokenCache(always=True) as server,
        Engine(server.endpoint) as engine,
        pytest.raises(BuildError, match="committed: no such file") as raised,
    ):
        engine.build_dockerfile("FROM scratch\n", request, progress=RecordedLines())
    assert raised.value.hint == "`docker builder prune` mends the cache."
    assert server.cached_builds == builds
