"""Base images from a registry, a layout and archives, resolved and refused without an engine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesync.core.digests import sha256_of
from imagesync.core.image_location import parse_location
from imagesync.core.progress import SilentProgress
from imagesync.errors import BaseImageError, RegistryError
from imagesync.registry.archive import write_docker_archive, write_oci_archive
from imagesync.registry.image_source import SourceImage, fetch_layers, open_image
from imagesync.registry.manifest import INDEX, MANIFEST, Descriptor, Index, canonical_json
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository
from tests.integration.local_registry import LocalRegistry
from tests.integration.registry_proxy import Fault, RegistryProxy
from tests.oci_images import small_image

PLATFORM = "linux/amd64"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def proxy(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistryProxy]:
    with RegistryProxy(registry.host) as proxy:
        config = registry.docker_config(tmp_path / "docker")
        text = (config / "config.json").read_text().replace(registry.host, proxy.host)
        (config / "config.json").write_text(text)
        monkeypatch.setenv("DOCKER_CONFIG", str(config))
        yield proxy


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


@pytest.fixture
def kept(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "kept")


@pytest.fixture
def base(layout: ImageLayout) -> OCIImage:
    return small_image(layout, {"bin/sh": os.urandom(60_000)}, {"etc/os-release": b"ID=debian\n"})


def resolved(text: str, kept: ImageLayout, use: Callable[[SourceImage], Any] = lambda found: found) -> Any:
    location = parse_location(text, given_as="--base")
    with open_image(location, platform=PLATFORM, kept=kept, progress=SilentProgress()) as found:
        return use(found)


def layers_of(found: SourceImage) -> list[str]:
    return [sha256_of(b"".join(found.image.layers.read(layer))) for layer in found.image.manifest.layers]


def push(image: OCIImage, reference: str) -> None:
    with Repository(reference) as repository:
        push_image(image, repository, tags=[repository.wanted], progress=SilentProgress())


def put(reference: str, content: bytes, media_type: str) -> None:
    with Repository(reference) as repository:
        repository.put_manifest(content, media_type, repository.wanted)


def test_one_image_is_the_same_from_everywhere(
    proxy: RegistryProxy, base: OCIImage, layout: ImageLayout, kept: ImageLayout, tmp_path: Path
) -> None:
    reference = f"{proxy.host}/library/base:1"
    push(base, reference)
    write_oci_archive(base, tmp_path / "oci.tar", name="1")
    write_docker_archive(base, tmp_path / "docker.tar", references=["library/base:1"])
    expected = [layer.digest for layer in base.manifest.layers]
    for text in (
        reference,
        f"{proxy.host}/library/base@{base.digest}",
        f"oci:{layout.root}",
        f"oci:{layout.root}:latest",
        f"oci-archive:{tmp_path / 'oci.tar'}:1",
        f"docker-archive:{tmp_path / 'docker.tar'}",
        f"docker-archive:{tmp_path / 'docker.tar'}:library/base:1",
    ):
        found, layers = resolved(text, kept, lambda found: (found, layers_of(found)))
        assert found.image == base, text
        assert found.digest == base.digest
        assert layers == expected


def test_archive_of_docker_alone_gives_uncompressed_layers(
    base: OCIImage, layout: ImageLayout, kept: ImageLayout, tmp_path: Path
) -> None:
    path = tmp_path / "docker.tar"
    command = ["skopeo", "copy", f"oci:{layout.root}:latest", f"docker-archive:{path}:library/base:1"]
    subprocess.run(command, check=True, capture_output=True)
    layers = resolved(f"docker-archive:{path}:base:1", kept, layers_of)
    assert layers == list(base.config.diff_ids)


def test_layers_are_read_when_they_are_wanted_and_once(
    proxy: RegistryProxy, base: OCIImage, kept: ImageLayout
) -> None:
    reference = f"{proxy.host}/library/lazy:1"
    push(base, reference)
    proxy.forget()
    found = resolved(reference, kept)
    assert not any("/blobs/" in path for _, path in proxy.requests if base.manifest.config.digest not in path)
    proxy.forget()
    # With its digest and its documents known, nothing is asked.
    again = resolved(found.reference, kept)
    assert proxy.requests == []
    assert again == found
    resolved(found.reference, kept, layers_of)
    assert len([path for _, path in proxy.requests if "/blobs/" in path]) == len(base.manifest.layers) + 1
    proxy.forget()
    resolved(found.reference, kept, layers_of)
    assert proxy.requests == []


def test_layers_are_fetched_at_once(proxy: RegistryProxy, base: OCIImage, kept: ImageLayout) -> None:
    reference = f"{proxy.host}/library/parallel:1"
    push(base, reference)
    resolved(reference, kept, lambda found: fetch_layers(found.image, kept, progress=SilentProgress()))
    assert all(kept.has(layer) for layer in base.manifest.layers)


def test_schema_2_becomes_oci_and_keeps_the_layers(
    proxy: RegistryProxy, base: OCIImage, layout: ImageLayout, kept: ImageLayout, registry: LocalRegistry
) -> None:
    reference = f"{proxy.host}/library/docker:1"
    subprocess.run(
        [
            *("skopeo", "copy", "--format=v2s2", "--dest-tls-verify=false", "--authfile"),
            f"{os.environ['DOCKER_CONFIG']}/config.json",
            *(f"oci:{layout.root}:latest", f"docker://{reference}"),
        ],
        check=True,
        capture_output=True,
    )
    found, layers = resolved(reference, kept, lambda found: (found, layers_of(found)))
    assert json.loads(found.image.content)["mediaType"] == DOCKER_MANIFEST
    assert found.image.manifest.layers == base.manifest.layers
    assert layers == [layer.digest for layer in base.manifest.layers]


def test_platform_is_chosen_from_an_index_and_a_missing_one_is_named(
    proxy: RegistryProxy, base: OCIImage, layout: ImageLayout, kept: ImageLayout
) -> None:
    other = small_image(layout, {"bin/sh": b"arm"}, name="arm", platform="linux/arm64/v8")
    reference = f"{proxy.host}/library/index"
    push(base, f"{reference}:amd64")
    push(other, f"{reference}:arm64")
    put(f"{reference}:both", Index((other.descriptor, base.descriptor)).to_json(), INDEX)
    put(f"{reference}:arm", Index((other.descriptor,)).to_json(), INDEX)
    found = resolved(f"{reference}:both", kept)
    assert found.image == base
    assert found.digest == found.reference.partition("@")[2] != base.digest
    for name in (f"{reference}:arm", f"{reference}:arm64", f"oci:{layout.root}:arm"):
        with pytest.raises(BaseImageError, match=r"isn't there for linux/amd64, but for linux/arm64/v8"):
            resolved(name, kept)


def _manifest(base: OCIImage, **changes: Any) -> bytes:
    return canonical_json({**json.loads(base.content), **changes})


def _layer(base: OCIImage, **changes: Any) -> list[dict[str, Any]]:
    first, *others = json.loads(base.content)["layers"]
    return [{**first, **changes}, *others]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda base: b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (
            lambda base: _manifest(
                base,
                layers=_layer(
                    base,
                    mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    urls=["https://example.com/layer"],
                ),
            ),
            "foreign",
        ),
        (lambda base: _manifest(base, layers=_layer(base, mediaType="text/plain")), "unknown kind"),
        (lambda base: _manifest(base, layers=_layer(base, digest="md5:abc")), "where a sha256 digest"),
        (
            lambda base: _manifest(base, layers=_layer(base, digest="sha256:../../etc")),
            "where a sha256 digest",
        ),
        (lambda base: _manifest(base, layers=_layer(base, size=-1)), "the size"),
        (lambda base: _manifest(base, layers=_layer(base)[:1]), "describes 2 layers, and its manifest 1"),
        (lambda base: _manifest(base, layers="none"), "isn't a list"),
        (lambda base: b"[" * 100_000, "isn't JSON"),
        (lambda base: b"<html>", "isn't JSON"),
        (lambda base: b'{"schemaVersion": 2, "mediaType": "text/html"}', "isn't an image's manifest"),
    ],
)
def test_unusable_manifest_is_refused_with_the_reason(
    proxy: RegistryProxy,
    base: OCIImage,
    layout: ImageLayout,
    kept: ImageLayout,
    change: Callable[[OCIImage], bytes],
    message: str,
) -> None:
    content = change(base)
    layout.put_manifest(content, Descriptor.of(content, MANIFEST), name="hostile")
    with pytest.raises(BaseImageError, match=message):
        resolved(f"oci:{layout.root}:hostile", kept)
    # A registry doesn't take such a manifest, but one may have it.
    reference = f"{proxy.host}/library/hostile:1"
    push(base, reference)
    headers = {"Docker-Content-Digest": sha256_of(content), "Content-Type": MANIFEST}
    proxy.fail(Fault("HEAD|GET", ".*/manifests/.*", status=200, headers=headers, content=content, times=9))
    with pytest.raises(BaseImageError, match=message):
        resolved(reference, kept)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"config": []}, "wrong value for config"),
        ({"config": {"Env": ["NAME"]}}, "isn't NAME=value"),
        ({"config": {"Env": "PATH=/bin"}}, "wrong value for Env"),
        ({"config": {"Entrypoint": [["sh"]]}}, "else than texts in Entrypoint"),
        ({"config": {"Labels": {"a": 1}}}, "else than texts in Labels"),
        ({"rootfs": {"diff_ids": ["sha256:1", "sha256:2"]}}, "isn't a sha256 digest"),
        ({"rootfs": None}, "describes 0 layers"),
        ({"os": "../linux"}, "for which platform"),
        ({"architecture": None}, "for which platform"),
        ({"history": [1]}, "history isn't an object"),
    ],
)
def test_hostile_configuration_is_refused_with_the_field(
    base: OCIImage, layout: ImageLayout, kept: ImageLayout, config: dict[str, Any], message: str
) -> None:
    content = canonical_json({**json.loads(base.config_content), **config})
    descriptor = layout.add_bytes(content, base.manifest.config.media_type)
    manifest = replace(base.manifest, config=descriptor).to_json()
    layout.put_manifest(manifest, Descriptor.of(manifest, MANIFEST), name="hostile")
    with pytest.raises(BaseImageError, match=message):
        resolved(f"oci:{layout.root}:hostile", kept)


def test_truncated_and_wrong_layers_are_refused_and_not_kept(
    proxy: RegistryProxy, base: OCIImage, kept: ImageLayout
) -> None:
    reference = f"{proxy.host}/library/damaged:1"
    push(base, reference)
    layer = base.manifest.layers[0]
    content = bytes(layer.size)
    for wrong, message in ((content, "damaged"), (content[:-9], "truncated"), (content + b"1", "more than")):
        proxy.forget()
        proxy.fail(Fault("GET", f".*/blobs/{layer.digest}", status=200, content=wrong, times=9))
        with pytest.raises(RegistryError, match=message):
            resolved(reference, kept, layers_of)
        assert not kept.has(layer)


def test_truncated_archive_is_refused(base: OCIImage, kept: ImageLayout, tmp_path: Path) -> None:
    path = tmp_path / "docker.tar"
    write_docker_archive(base, path, references=["base:1"])
    content = path.read_bytes()
    for size in (0, 100, 3000, len(content) - 60_000):
        path.write_bytes(content[:size])
        with pytest.raises(BaseImageError, match=f"{path}"):
            resolved(f"docker-archive:{path}", kept, layers_of)
    with pytest.raises(BaseImageError, match="can't be read"):
        resolved(f"oci-archive:{tmp_path / 'missing.tar'}", kept)


def test_missing_images_are_named(proxy: RegistryProxy, layout: ImageLayout, kept: ImageLayout) -> None:
    small_image(layout, {"a": b"1"}, name="one")
    small_image(layout, {"a": b"2"}, name="two")
    with pytest.raises(BaseImageError, match="it has one, two"):
        resolved(f"oci:{layout.root}", kept)
    with pytest.raises(BaseImageError, match="no image 'three'"):
        resolved(f"oci:{layout.root}:three", kept)
    with pytest.raises(BaseImageError, match="has no image"):
        resolved(f"{proxy.host}/library/none:1", kept)
    with pytest.raises(BaseImageError, match="none doesn't exist"):
        resolved(f"oci:{layout.root / 'none'}", kept)
