"""``imagesync inspect``: images of a registry, a layout and an engine, as a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.registry.artifacts import compose_artifact, push_artifact
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository
from tests.commands import CommandLine
from tests.integration.engines import docker_endpoint
from tests.integration.local_registry import LocalRegistry
from tests.integration.registry_proxy import RegistryProxy
from tests.integration.tiny_image import REFERENCE
from tests.oci_images import small_image


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def test_image_of_a_registry_is_described_and_no_layer_is_read(
    cli: CommandLine, registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = small_image(ImageLayout(tmp_path / "layout"), {"a": os.urandom(300_000)}, {"b": b"2"})
    with RegistryProxy(registry.host) as proxy:
        config = registry.docker_config(tmp_path / "docker") / "config.json"
        config.write_text(config.read_text().replace(registry.host, proxy.host))
        monkeypatch.setenv("DOCKER_CONFIG", str(config.parent))
        reference = f"{proxy.host}/team/env:1"
        with Repository(reference) as repository:
            push_image(image, repository, tags=["1"], progress=SilentProgress())
            document = compose_artifact(b"{}", "application/vnd.cyclonedx+json", subject=image.descriptor)
            push_artifact(document, repository, progress=SilentProgress())
        proxy.forget()
        logged_in = cli.with_environ(DOCKER_CONFIG=config.parent)
        found = logged_in("inspect", reference, "--format", "json", "--html", "page.html").json()
        assert found["digest"] == image.digest
        assert [layer["size"] for layer in found["layers"]] == [layer.size for layer in image.manifest.layers]
        assert found["attestations"] == [
            {"kind": "application/vnd.cyclonedx+json", "digest": document.descriptor.digest}
        ]
        blobs = {path.rpartition("/")[2] for _, path in proxy.requests if "/blobs/" in path}
        assert blobs == {image.manifest.config.digest}
        assert reference in (cli.cwd / "page.html").read_text("utf-8")
        table = logged_in("inspect", reference).stdout
        assert "0.3 MB" in table
        assert "1 attestation" in table
        missing = logged_in.run("inspect", f"{proxy.host}/team/none:1")
        assert missing.returncode == 2
        assert "There is no image" in missing.stderr


def test_image_of_the_cache_and_of_a_folder_is_described(
    cli: CommandLine, cache_dir: Path, tmp_path: Path
) -> None:
    image = small_image(ImageLayout(cache_dir / "images"), {"a": b"1"}, name="imagesync:known")
    small_image(ImageLayout(tmp_path / "layout"), {"a": b"1"}, name="1")
    for text in ("imagesync:known", f"oci:{tmp_path / 'layout'}:1"):
        assert cli("inspect", text, "--format", "json").json()["digest"] == image.digest


@pytest.mark.engine
def test_image_of_the_engine_is_described(cli: CommandLine, tmp_path: Path) -> None:
    for _ in docker_endpoint(tmp_path):
        found = cli("inspect", REFERENCE, "--format", "json").json()
        assert not found["compressed"]
        assert len(found["layers"]) == 1
        assert "unpacked" in cli("inspect", REFERENCE).stdout
