"""Which image in a registry is taken for the one that the engine has."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from imagesync.image.built_image import Image
from imagesync.image_layout import Label, image_tag
from imagesync.pipeline.registry_images import RegistryImages
from tests.progress import RecordedLines

HASH, LOCK, OTHER = (f"sha256:{digit * 64}" for digit in "123")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


LABELS = {Label.ENVIRONMENT_HASH: HASH, Label.LOCK_DIGEST: LOCK}
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": LABELS}}).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(CONFIG),
            "size": len(CONFIG),
        },
        "layers": [],
    }
).encode()


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = {
            f"/v2/env/manifests/{image_tag(HASH)}": MANIFEST,
            f"/v2/env/blobs/{digest_of(CONFIG)}": CONFIG,
        }.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", MANIFEST_TYPE)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
        pass


@pytest.fixture(scope="module")
def repository() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}/env"
        server.shutdown()


@pytest.fixture
def images(repository: str) -> RegistryImages:
    engine: Any = SimpleNamespace(takes_without_tls=lambda _: True)
    return RegistryImages(repository, engine, RecordedLines())


@pytest.mark.parametrize(
    ("image_id", "is_accepted", "is_found"),
    [
        pytest.param(digest_of(CONFIG), False, True, id="same"),
        pytest.param(digest_of(MANIFEST), False, True, id="same-in-containerd"),
        pytest.param(OTHER, True, True, id="accepted"),
        pytest.param(OTHER, False, False, id="rejected"),
    ],
)
def test_published_image_is_the_one_that_was_built_or_one_that_is_accepted(
    images: RegistryImages, image_id: str, is_accepted: bool, is_found: bool
) -> None:
    image = Image(f"{images.repository}:{image_tag(HASH)}", image_id, HASH, LOCK, cached=False)
    found = images.find_published(image, accepts=lambda _: is_accepted)
    assert (found is not None) == is_found
    if found is not None:
        assert found.digest == f"{images.repository}@{digest_of(MANIFEST)}"
    warned = any("isn't what was built here" in line for line in images.progress.lines)
    assert warned == (not is_found)


def test_environment_that_the_registry_lacks_is_not_published(images: RegistryImages) -> None:
    image = Image(f"{images.repository}:{image_tag(OTHER)}", OTHER, OTHER, LOCK, cached=False)
    assert images.find_published(image, accepts=lambda _: True) is None
