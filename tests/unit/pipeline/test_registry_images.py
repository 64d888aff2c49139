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

from imagesync.core.platforms import LINUX_AMD64
from imagesync.image.built_image import Image
from imagesync.image_layout import Label, image_tag
from imagesync.pipeline.registry_images import RegistryImages
from tests.progress import RecordedLines

HASH, LOCK, OTHER, DAMAGED = (f"sha256:{digit * 64}" for digit in "1234")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def config_with(labels: dict[str, str]) -> bytes:
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}).encode()


def manifest_of(config: bytes) -> bytes:
    entry = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(config),
        "size": len(config),
    }
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": entry, "layers": []}
    return json.dumps(manifest).encode()


LABELS = {Label.ENVIRONMENT_HASH: HASH, Label.LOCK_DIGEST: LOCK}
CONFIG = config_with(LABELS)
MANIFEST = manifest_of(CONFIG)
DAMAGED_CONFIG = config_with({**LABELS, Label.ENVIRONMENT_HASH: DAMAGED, Label.DEVIATIONS: '["toolz"]'})
DAMAGED_MANIFEST = manifest_of(DAMAGED_CONFIG)


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = {
            f"/v2/env/manifests/{image_tag(HASH)}": MANIFEST,
            f"/v2/env/manifests/{image_tag(DAMAGED)}": DAMAGED_MANIFEST,
            f"/v2/env/blobs/{digest_of(CONFIG)}": CONFIG,
            f"/v2/env/blobs/{digest_of(DAMAGED_CONFIG)}": DAMAGED_CONFIG,
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
    return RegistryImages(repository, engine, RecordedLines(), LINUX_AMD64)


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


def test_image_with_labels_of_another_form_is_not_found(images: RegistryImages) -> None:
    assert images.find(DAMAGED) is None
    reference = f"{images.repository}@{digest_of(DAMAGED_MANIFEST)}"
    assert images.progress.lines == [f"warning: {reference} isn't used: its labels are in an unknown format"]
