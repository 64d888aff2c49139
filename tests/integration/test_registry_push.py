"""Images pushed to a real registry and read back, through a proxy that fails as registries do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import ImagesyncError, LayoutError, RegistryError
from imagesync.registry.http import Connection
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import Pushed, push_image
from imagesync.registry.repository import Repository
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry
from tests.integration.registry_proxy import Fault, RegistryProxy
from tests.oci_images import small_image

# More than an upload in one request has.
LARGE = os.urandom(9 << 20)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def proxy(registry: LocalRegistry) -> Iterator[RegistryProxy]:
    with RegistryProxy(registry.host) as proxy:
        yield proxy


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


@pytest.fixture
def pauses() -> list[float]:
    return []


class Target:
    """A repository of its own for each test, over a connection that doesn't wait."""

    def __init__(self, host: str, name: str, pauses: list[float]) -> None:
        credentials = {"username": USER, "password": PASSWORD}
        self.connection = Connection(host, credentials, pause=pauses.append)
        self.name = name
        self.repository = self.of(name)

    def of(self, name: str) -> Repository:
        return Repository(f"{self.connection.registry}/{name}:1", connection=self.connection)

    def push(self, image: OCIImage, *tags: str, **more: object) -> Pushed:
        return push_image(image, self.repository, tags=tags or ("1",), progress=SilentProgress(), **more)

    def is_published(self) -> bool:
        return self.repository.head("1") is not None


@pytest.fixture
def target(proxy: RegistryProxy, pauses: list[float], request: pytest.FixtureRequest) -> Iterator[Target]:
    target = Target(proxy.host, f"team/{abs(hash(request.node.name))}", pauses)
    with target.connection:
        yield target


def copied(target: Target, folder: Path) -> OCIImage:
    """Return the image as it is in the registry, all layers of it read."""
    found = target.repository.resolve("linux/amd64")
    assert found is not None
    layout = ImageLayout(folder)
    return layout.image(layout.put(found[1], name="copy"))


def test_pushed_image_is_the_same_for_skopeo(
    target: Target, registry: LocalRegistry, layout: ImageLayout, tmp_path: Path
) -> None:
    image = small_image(layout, {"a": b"1"}, {"b": LARGE}, {"c": b"3"})
    pushed = target.push(image, "1", "latest")
    assert pushed.reference == f"{target.repository.name}@{image.digest}"
    assert pushed.sent == image.size + image.manifest.config.size
    for tag in ("1", "latest"):
        command = ["skopeo", "inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}"]
        output = subprocess.run(
            [*command, f"docker://{registry.host}/{target.name}:{tag}"], check=True, capture_output=True
        ).stdout
        assert json.loads(output)["Digest"] == image.digest
    assert copied(target, tmp_path / "copy").digest == image.digest


def test_unchanged_image_takes_one_request_and_an_edit_at_most_twelve(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    base = [{f"base{number}": os.urandom(20_000)} for number in range(8)]
    target.push(small_image(layout, *base, {"code": b"1"}), cache=cache)
    proxy.forget()
    again = target.push(small_image(layout, *base, {"code": b"1"}), cache=cache)
    assert again.was_there
    assert proxy.requests == [("HEAD", f"/v2/{target.name}/manifests/1")]
    proxy.forget()
    edited = small_image(layout, *base, {"code": os.urandom(30_000)}, {"records": b"2"})
    pushed = target.push(edited, "2", cache=cache)
    assert len(proxy.requests) <= 12
    changed = edited.manifest.layers[-2:]
    assert pushed.sent == sum(layer.size for layer in changed) + edited.manifest.config.size


def test_layers_are_mounted_from_another_repository(
    target: Target, proxy: RegistryProxy, layout: ImageLayout
) -> None:
    base = small_image(layout, {"base": os.urandom(50_000)})
    push_image(base, target.of("library/base"), tags=["1"], progress=SilentProgress())
    image = small_image(layout, {"own": b"1"})
    layers = [*base.manifest.layers, *image.manifest.layers]
    config = image.config.__class__(
        "linux/amd64", (*base.config.diff_ids, *image.config.diff_ids), image.config.container
    )
    from imagesync.registry.oci_image import compose_image

    image = compose_image(config, layers, layout)
    mount_from = {base.manifest.layers[0].digest: "library/base"}
    # What is mounted needn't be here.
    layout.path(base.manifest.layers[0]).unlink()
    pushed = target.push(image, mount_from=mount_from)
    assert pushed.mounted == base.manifest.layers[0].size
    assert target.is_published()


def test_refused_mount_sends_the_layer(target: Target, proxy: RegistryProxy, layout: ImageLayout) -> None:
    image = small_image(layout, {"own": os.urandom(50_000)})
    layer = image.manifest.layers[0]
    for status in (202, 403, 401, 405):
        proxy.forget()
        headers = {}
        if status == 202:
            # A registry that doesn't mount begins an upload; this one's is unknown.
            headers["Location"] = f"/v2/{target.name}/blobs/uploads/lost"
        proxy.fail(Fault("POST", ".*mount=.*", status=status, headers=headers, times=2))
        other = Target(proxy.host, f"{target.name}/{status}", [])
        pushed = other.push(image, mount_from={layer.digest: "library/base"})
        assert pushed.sent >= layer.size
        assert other.is_published()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_registry_is_asked_again_after_the_pause_that_it_wants(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, pauses: list[float], status: int
) -> None:
    image = small_image(layout, {"a": LARGE})
    for method, path in (
        ("HEAD", ".*/blobs/.*"),
        ("POST", ".*/uploads/"),
        ("PATCH", ".*"),
        ("PUT", ".*/uploads/.*"),
        ("PUT", ".*/manifests/.*"),
    ):
        proxy.fail(Fault(method, path, status=status, headers={"Retry-After": "7"}))
    target.push(image)
    assert target.is_published()
    assert pauses.count(7.0) == 5


def test_registry_that_stays_busy_is_an_error_and_nothing_is_published(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, pauses: list[float]
) -> None:
    image = small_image(layout, {"a": LARGE})
    proxy.fail(Fault("PATCH", ".*", status=500, times=99))
    with pytest.raises(RegistryError, match=r"fails to push .*HTTP 500"):
        target.push(image)
    assert not target.is_published()
    # Each pause about twice as long as the one before.
    assert len(pauses) >= 4
    proxy.forget()
    target.push(image)
    assert target.is_published()


@pytest.mark.parametrize("resumes", [True, False])
def test_upload_goes_on_after_a_lost_connection_where_the_registry_resumes_and_begins_again_elsewhere(
    registry: LocalRegistry, layout: ImageLayout, pauses: list[float], tmp_path: Path, resumes: bool
) -> None:
    image = small_image(layout, {"a": LARGE})
    with RegistryProxy(registry.host, resumes=resumes) as proxy:
        target = Target(proxy.host, f"team/resumes-{resumes}".lower(), pauses)
        proxy.fail(Fault("PATCH", ".*", cut_upload=4 << 20))
        pushed = target.push(image)
        patches = [path for method, path in proxy.requests if method == "PATCH"]
        assert len(patches) == 2
        assert (patches[0] == patches[1]) == resumes
        assert pushed.sent == image.size + image.manifest.config.size
        assert copied(target, tmp_path / "copy").digest == image.digest
        target.connection.__exit__(None, None, None)


@pytest.mark.parametrize("size", [100_000, len(LARGE)])
def test_lost_upload_is_begun_again(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, tmp_path: Path, size: int
) -> None:
    image = small_image(layout, {"a": LARGE[:size]})
    unknown = b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "blob upload unknown"}]}'
    proxy.fail(Fault("PUT", ".*/uploads/.*", status=404, content=unknown))
    target.push(image)
    assert copied(target, tmp_path / "copy").digest == image.digest


def test_dropped_connections_are_made_again(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, tmp_path: Path
) -> None:
    image = small_image(layout, {"a": LARGE[:100_000]})
    for method in ("HEAD", "POST", "PUT"):
        proxy.fail(Fault(method, ".*", cut_upload=0))
    target.push(image)
    assert copied(target, tmp_path / "copy").digest == image.digest


@pytest.mark.parametrize("times", [1, 2])
def test_known_layer_that_the_registry_has_lost_is_sent_again(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, tmp_path: Path, times: int
) -> None:
    first = small_image(layout, {"a": os.urandom(50_000)}, {"b": b"1"})
    target.push(first, cache=tmp_path / "cache")
    second = small_image(layout, {"c": b"2"}, name="second")
    unknown = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}'
    # Twice where another client sends the same blobs at that moment.
    proxy.fail(Fault("PUT", ".*/manifests/.*", status=404, content=unknown, times=times))
    target.push(second, cache=tmp_path / "cache")
    assert target.is_published()


def test_pulled_layer_is_resumed_where_the_connection_was_lost(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, tmp_path: Path
) -> None:
    image = small_image(layout, {"a": LARGE})
    target.push(image)
    path = f".*/blobs/{image.manifest.layers[0].digest}"
    proxy.fail(Fault("GET", path, cut_download=4 << 20), Fault("GET", path, cut_download=1 << 20))
    assert copied(target, tmp_path / "copy").digest == image.digest


def test_wrong_digests_and_sizes_are_refused(
    target: Target, proxy: RegistryProxy, layout: ImageLayout, tmp_path: Path
) -> None:
    image = small_image(layout, {"a": LARGE[:100_000]})
    target.push(image)
    layer = image.manifest.layers[0]
    path = f".*/blobs/{layer.digest}"
    other = b"x" * layer.size
    for content, message in (
        (other, "is damaged"),
        (other[:-1], "is truncated"),
        (other + b"x", "more than"),
    ):
        proxy.forget()
        proxy.fail(Fault("GET", path, status=200, content=content, times=9))
        with pytest.raises(RegistryError, match=message):
            copied(target, tmp_path / "copy")
        assert ImageLayout(tmp_path / "copy").index().manifests == ()
    proxy.forget()
    lie = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    proxy.fail(Fault("GET", ".*/manifests/.*", replace=lie))
    with pytest.raises(RegistryError, match="its manifest should be"):
        copied(target, tmp_path / "copy")


def test_registry_that_has_something_else_after_the_push_is_an_error(
    target: Target, proxy: RegistryProxy, layout: ImageLayout
) -> None:
    image = small_image(layout, {"a": b"1"})
    lie = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    proxy.fail(Fault("HEAD", ".*/manifests/.*", replace=lie, skip=2))
    with pytest.raises(RegistryError, match="isn't what was pushed"):
        target.push(image)


def test_damaged_layer_is_not_pushed(target: Target, layout: ImageLayout) -> None:
    image = small_image(layout, {"a": LARGE}, {"b": os.urandom(50_000)})
    path = layout.path(image.manifest.layers[0])
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(LayoutError, match="is damaged"):
        target.push(image)
    assert not target.is_published()


def test_password_goes_to_no_other_host(
    target: Target, proxy: RegistryProxy, registry: LocalRegistry, layout: ImageLayout, tmp_path: Path
) -> None:
    image = small_image(layout, {"a": LARGE[:100_000]})
    target.push(image)
    with RegistryProxy(registry.host) as elsewhere:
        host = elsewhere.host.replace("127.0.0.1", "localhost")
        content = b"".join(layout.read(image.manifest.layers[0]))
        elsewhere.fail(Fault("GET", "/storage.*", status=200, content=content, times=9))
        path = f".*/blobs/{image.manifest.layers[0].digest}"
        proxy.fail(Fault("GET", path, status=307, headers={"Location": f"http://{host}/storage?token=1"}))
        assert copied(target, tmp_path / "copy").digest == image.digest
        # An upload may be sent elsewhere, too.
        elsewhere.fail(Fault("PUT", "/upload.*", status=201, times=9))
        other = small_image(layout, {"b": LARGE[:90_000]})
        proxy.fail(Fault("POST", ".*", status=202, headers={"Location": f"http://{host}/upload"}, times=9))
        with pytest.raises(ImagesyncError):
            target.push(other, "other")
        assert [path for _, path in elsewhere.requests][:1] == ["/storage?token=1"]
        assert any(path.startswith("/upload?digest=") for _, path in elsewhere.requests)
        assert set(elsewhere.authorizations) == {None}


def test_unauthorized_push_says_how_to_log_in(proxy: RegistryProxy, layout: ImageLayout) -> None:
    image = small_image(layout, {"a": b"1"})
    with Connection(proxy.host, {}) as connection:
        repository = Repository(f"{proxy.host}/team/none", connection=connection)
        with pytest.raises(RegistryError, match="doesn't let you") as caught:
            push_image(image, repository, tags=["1"], progress=SilentProgress())
    assert f"docker login {proxy.host}" in str(caught.value)
