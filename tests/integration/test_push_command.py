"""``imagesync push``: images of layouts and archives to a registry, as a command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.registry.artifacts import compose_artifact
from imagesync.registry.manifest import Manifest
from imagesync.registry.oci_image import compose_image
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository
from tests.commands import CommandLine
from tests.integration.local_registry import LocalRegistry
from tests.oci_images import put_artifact, small_image


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def push(
    cli: CommandLine, registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    config = registry.docker_config(tmp_path / "docker")
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    return cli.with_environ(DOCKER_CONFIG=config)


def test_image_of_the_cache_is_pushed_with_its_documents(
    push: CommandLine, registry: LocalRegistry, cache_dir: Path
) -> None:
    layout = ImageLayout(cache_dir / "images")
    image = small_image(layout, {"a": os.urandom(30_000)}, name="imagesync:0123")
    document = compose_artifact(b"{}", "application/vnd.cyclonedx+json", subject=image.descriptor)
    put_artifact(document, layout)
    first = push("push", "imagesync:0123", f"{registry.host}/team/env")
    assert first.reference == f"{registry.host}/team/env@{image.digest}"
    assert "Sent 31 kB" in first.stderr
    with Repository(f"{registry.host}/team/env:0123") as repository:
        assert repository.head("0123") == image.digest
        assert repository.referrers(image.digest).manifests == (document.descriptor,)
    again = push("push", "imagesync:0123", "--repository", f"{registry.host}/team/env")
    assert again.reference == first.reference
    assert "has it already" in again.stderr


def test_layout_of_umoci_is_pushed_as_it_is(
    push: CommandLine, registry: LocalRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "umoci"
    subprocess.run(["umoci", "init", "--layout", folder], check=True)
    subprocess.run(["umoci", "new", "--image", f"{folder}:1.0"], check=True)
    file = tmp_path / "file"
    file.write_bytes(b"content")
    command = ["umoci", "insert", "--rootless", "--image", f"{folder}:1.0", file, "/file"]
    subprocess.run(command, check=True, capture_output=True)
    entry = ImageLayout(folder).index().find("1.0")
    assert entry is not None
    pushed = push("push", f"oci:{folder}:1.0", f"{registry.host}/team/umoci:1.0")
    assert pushed.reference == f"{registry.host}/team/umoci@{entry.digest}"


def test_layers_of_the_base_that_are_not_here_are_mounted(
    push: CommandLine, registry: LocalRegistry, cache_dir: Path, tmp_path: Path
) -> None:
    elsewhere = ImageLayout(tmp_path / "base")
    base = small_image(elsewhere, {"base": os.urandom(30_000)})
    reference = f"{registry.host}/library/base:1"
    with Repository(reference) as repository:
        push_image(base, repository, tags=["1"], progress=SilentProgress())
    layout = ImageLayout(cache_dir / "images")
    own = small_image(layout, {"own": b"1"}, name="own")
    layers = (*base.manifest.layers, *own.manifest.layers)
    config = own.config.__class__("linux/amd64", (*base.config.diff_ids, *own.config.diff_ids))
    annotations = {
        "org.opencontainers.image.base.name": reference,
        "org.opencontainers.image.base.digest": base.digest,
    }
    image = compose_image(config, layers, layout, annotations=annotations)
    layout.add_bytes(image.config_content, image.manifest.config.media_type)
    layout.put_manifest(image.content, image.descriptor, name="imagesync:based")
    pushed = push("push", "imagesync:based", f"{registry.host}/team/based")
    layout.copy(base.manifest.layers[0], elsewhere.read(base.manifest.layers[0]))
    # It is mounted all the same where it is here, too.
    assert "mounted 30 kB" in push("push", "imagesync:based", f"{registry.host}/team/again").stderr
    layout.path(base.manifest.layers[0]).unlink()
    assert pushed.reference.endswith(image.digest)
    assert "mounted 30 kB" in pushed.stderr
    assert not layout.has(base.manifest.layers[0])
    with Repository(pushed.reference) as repository:
        found = repository.resolve("linux/amd64")
        assert found is not None
        assert isinstance(found[1].manifest, Manifest)
        assert repository.has_blob(base.manifest.layers[0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["imagesync:none", "localhost:1/env"], 2, "There is no image imagesync:none"),
        (["imagesync:known"], 2, "names no registry to push to"),
        (["docker-daemon:imagesync:known"], 2, "docker push imagesync:known"),
        (["Not An Image"], 2, "isn't an image reference"),
        (["imagesync:known", "127.0.0.1:1/env"], 1, "can't be reached: connection refused"),
        (["imagesync:known", f"localhost:1/env@sha256:{'0' * 64}"], 2, "has a digest"),
    ],
)
def test_what_cannot_be_pushed_is_a_sentence(
    cli: CommandLine, cache_dir: Path, arguments: list[str], code: int, message: str
) -> None:
    small_image(ImageLayout(cache_dir / "images"), {"a": b"1"}, name="imagesync:known")
    finished = cli.run("push", *arguments)
    assert finished.returncode == code
    assert message in " ".join(finished.stderr.split())
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
