"""Images for an engine with containerd's store, which takes one without some of its layers."""

from __future__ import annotations

import json
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import small_image
from tests.running_server import JSONHandler, RunningServer, read_chunks

NAME = "team/env:1.0"


class ContainerdEngine(RunningServer):
    """Docker with containerd's store, with an image of the layers *there*, and the blobs *stored*."""

    def __init__(self, there: OCIImage, *, stored: set[str], api_version: str = "1.48") -> None:
        events: list[str | set[str]] = []
        blobs, sent = set(stored), set[str]()

        class Handler(JSONHandler, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path.split("/", 2)[-1]
                if path == "info":
                    self.answer({"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]})
                elif path == "images/json":
                    self.answer([{"Id": there.digest, "RepoTags": ["team/env:0.9"], "Created": 1}])
                elif unquote(path) == f"images/{NAME}/json":
                    self.answer({"Manifests": [{"Available": sent <= blobs}]})
                elif path.startswith("images/"):
                    self.answer({"RootFS": {"Layers": list(there.config.diff_ids)}})
                else:
                    self.answer({"ApiVersion": api_version, "MinAPIVersion": "1.24", "Components": []})

            def do_POST(self) -> None:
                with tarfile.open(fileobj=BytesIO(read_chunks(self.rfile))) as archive:
                    (described,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
                    names = {name.removeprefix("blobs/sha256/") for name in archive.getnames()}
                layers = {name.removeprefix("blobs/sha256/") for name in described["Layers"]}
                blobs.update(names)
                sent.update(layers)
                events.append(layers & names)
                self.answer({})

            def do_DELETE(self) -> None:
                events.append(f"removed {unquote(urlsplit(self.path).path).split('/images/')[1]}")
                self.answer([])

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        super().__init__(server)
        self.events = events
        self.endpoint = Endpoint(f"tcp://127.0.0.1:{server.server_port}", "the test")


@pytest.fixture
def images(tmp_path: Path) -> tuple[OCIImage, OCIImage]:
    """Return two images that have their first layer in common."""
    layout = ImageLayout(tmp_path)
    return small_image(layout, {"a": b"1"}, {"b": b"1"}), small_image(layout, {"a": b"1"}, {"b": b"2"})


def load(server: ContainerdEngine, image: OCIImage) -> list[str | set[str]]:
    with server, Engine(server.endpoint) as engine:
        engine.load(image, references=[NAME], progress=SilentProgress())
    return server.events


def digests(image: OCIImage) -> list[str]:
    return [layer.digest.removeprefix("sha256:") for layer in image.manifest.layers]


def test_only_layers_that_the_store_lacks_are_sent(images: tuple[OCIImage, OCIImage]) -> None:
    there, image = images
    first, second = digests(image)
    assert load(ContainerdEngine(there, stored={first}), image) == [{second}]


def test_image_is_removed_before_all_of_it_is_sent_where_a_layer_was_missing(
    images: tuple[OCIImage, OCIImage],
) -> None:
    """An interrupt while all is sent would leave a name of an image that no container starts from."""
    there, image = images
    first, second = digests(image)
    events = load(ContainerdEngine(there, stored=set()), image)
    assert events == [{second}, f"removed {NAME}", {first, second}]


def test_store_that_does_not_tell_what_it_lacks_gets_all(images: tuple[OCIImage, OCIImage]) -> None:
    there, image = images
    server = ContainerdEngine(there, stored=set(digests(image)), api_version="1.47")
    assert load(server, image) == [set(digests(image))]
