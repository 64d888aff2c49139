"""Documents about images, and caches of layers, as artifacts in a real registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Lock, Target
from imagesync.pipeline.attest import attest
from imagesync.pipeline.context import Context
from imagesync.registry.artifacts import compose_artifact, layout_artifacts, push_artifact, read_artifact
from imagesync.registry.http import Connection
from imagesync.registry.layer_cache import CACHE_TAG, CacheEntry, push_layer_cache, read_layer_cache
from imagesync.registry.manifest import INDEX, LAYER_GZIP, Descriptor, Index
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository, referrers_tag
from imagesync.settings.model import Settings
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry
from tests.integration.registry_proxy import Fault, RegistryProxy
from tests.oci_images import put_artifact, small_image

SBOM = "application/vnd.cyclonedx+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def proxy(registry: LocalRegistry) -> Iterator[RegistryProxy]:
    with RegistryProxy(registry.host) as proxy:
        yield proxy


@pytest.fixture
def repository(proxy: RegistryProxy, request: pytest.FixtureRequest) -> Iterator[Repository]:
    with Connection(proxy.host, {"username": USER, "password": PASSWORD}) as connection:
        name = f"team/{request.node.name.replace('_', '-')}"
        yield Repository(f"{proxy.host}/{name}:1", connection=connection)


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


@pytest.fixture
def image(repository: Repository, layout: ImageLayout) -> OCIImage:
    image = small_image(layout, {"a": b"1"}, {"b": b"2"})
    push_image(image, repository, tags=["1"], progress=SilentProgress())
    return image


def test_documents_about_an_image_are_listed_by_the_fallback_tag(
    repository: Repository, image: OCIImage
) -> None:
    first = compose_artifact(b'{"a":1}', SBOM, subject=image.descriptor, annotations={"note": "one"})
    second = compose_artifact(b'{"b":2}', "application/vnd.in-toto+json", subject=image.descriptor)
    for artifact in (first, second, first):
        push_artifact(artifact, repository, progress=SilentProgress())
    # Debian's registry has no API for referrers.
    found = repository.referrers(image.digest)
    assert found.manifests == (first.descriptor, second.descriptor)
    assert repository.manifest(referrers_tag(image.digest)) is not None
    assert repository.referrers(image.digest, SBOM).manifests == (first.descriptor,)
    read = read_artifact(repository, first.descriptor.digest)
    assert read == first
    assert repository.head("1") == image.digest
    assert repository.referrers(f"sha256:{'0' * 64}").manifests == ()


def test_image_with_an_sbom_of_someone_else_gets_ours_once(
    repository: Repository,
    registry: LocalRegistry,
    image: OCIImage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker")))
    foreign = compose_artifact(b"{}", SBOM, subject=image.descriptor)
    push_artifact(foreign, repository, progress=SilentProgress())
    asked: list[str] = []

    def lock_and_base() -> tuple[Lock, BaseImage]:
        asked.append("lock")
        digest = f"sha256:{'b' * 64}"
        base = BaseImage("base:1", "ubuntu:24.04", digest, "", "3.12.3", "python3", (2, 39), digest)
        return Lock(Target(LINUX_AMD64, "3.12.3", (2, 39)), (), ()), base

    context = Context(Settings(cache_dir=tmp_path / "cache"))
    for _ in range(2):
        name = f"{registry.host}/{repository.reference.path}@{image.digest}"
        attest(name, lock_and_base, context=context)
    assert asked == ["lock"]
    kinds = [entry.artifact_type for entry in repository.referrers(image.digest).manifests]
    assert kinds == [SBOM, SBOM, "application/vnd.in-toto+json"]


def test_registry_with_the_api_gets_no_tag(
    repository: Repository, proxy: RegistryProxy, image: OCIImage
) -> None:
    artifact = compose_artifact(b"{}", SBOM, subject=image.descriptor)
    proxy.fail(Fault("PUT", ".*/manifests/.*", replace={"OCI-Subject": image.digest}))
    push_artifact(artifact, repository, progress=SilentProgress())
    assert repository.manifest(referrers_tag(image.digest)) is None
    content = Index((artifact.descriptor,)).to_json()
    proxy.fail(Fault("GET", ".*/referrers/.*", status=200, headers={"Content-Type": INDEX}, content=content))
    assert repository.referrers(image.digest).manifests == (artifact.descriptor,)


def test_layout_keeps_documents_beside_the_image(layout: ImageLayout, image: OCIImage) -> None:
    artifact = compose_artifact(b"{}", SBOM, subject=image.descriptor)
    for _ in range(2):
        put_artifact(artifact, layout)
    assert layout_artifacts(layout, image.digest) == [artifact]
    assert layout_artifacts(layout, f"sha256:{'0' * 64}") == []
    assert layout.index().names == ("latest",)
    assert layout.index().find("latest").digest == image.digest


def test_layer_cache_is_added_to_and_read_back(
    repository: Repository, proxy: RegistryProxy, image: OCIImage
) -> None:
    one, two = image.manifest.layers
    assert read_layer_cache(repository) == {}
    first = {"layer one": CacheEntry(one, properties={"diff_id": image.config.diff_ids[0]})}
    push_layer_cache(first, repository, progress=SilentProgress())
    assert read_layer_cache(repository) == first
    second = {"part of two": CacheEntry(two, 10, 20, {"uncompressed": 7})}
    push_layer_cache(second, repository, progress=SilentProgress())
    assert read_layer_cache(repository) == {**second, **first}
    proxy.forget()
    push_layer_cache(first, repository, progress=SilentProgress())
    assert "PUT" not in [method for method, _ in proxy.requests]


def test_layer_cache_goes_on_without_blobs_that_the_registry_has_removed(
    repository: Repository, proxy: RegistryProxy, image: OCIImage
) -> None:
    gone = Descriptor(LAYER_GZIP, f"sha256:{'0' * 64}", 100)
    entries = {"gone": CacheEntry(gone), "there": CacheEntry(image.manifest.layers[0])}
    push_layer_cache(entries, repository, progress=SilentProgress())
    assert list(read_layer_cache(repository)) == ["there"]


@pytest.mark.parametrize(
    "document",
    [
        {"version": 2},
        {"version": 1, "blobs": [], "entries": [["key", 0, 0, 0, {}]]},
        {"version": 1, "blobs": [{"digest": "no"}], "entries": []},
        {"version": 1, "blobs": 5},
    ],
)
def test_layer_cache_of_another_form_is_empty(registry: LocalRegistry, document: dict[str, object]) -> None:
    with Connection(registry.host, {"username": USER, "password": PASSWORD}) as connection:
        repository = Repository(f"{registry.host}/team/other-form:1", connection=connection)
        artifact = compose_artifact(
            json.dumps(document).encode(), "application/vnd.dev.imagesync.layer-cache.v1+json"
        )
        push_artifact(artifact, repository, tag=CACHE_TAG, progress=SilentProgress())
        assert read_layer_cache(repository) == {}
