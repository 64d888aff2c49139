"""Layers of one build that another one takes from a real registry, without the archives they were made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import RegistryError
from imagesync.image.layers.base_contents import BaseContents
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.environment import EnvironmentFiles, write_environment
from imagesync.image.layers.layer import Layer
from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart, needed_archives
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.pipeline.cached_layers import CachedLayers, open_cached_layers
from imagesync.pipeline.package_facts import PartSources
from imagesync.registry.config import ContainerConfig, ImageConfig
from imagesync.registry.layer_cache import CacheEntry
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import compose_image
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository
from imagesync.store.store import Store
from tests.integration.local_registry import LocalRegistry
from tests.integration.registry_proxy import Fault, RegistryProxy
from tests.unit.image.layers.wheels import stored_wheel, write_wheel

GZIP = compression_of("gzip")
SOURCES = PartSources("3.11", "3.11.7", GZIP.identity, "opt/env")
# One place for all packages.
BUDGET = 6
BASE = BaseContents(
    python_executable="/usr/bin/python3",
    python_target="/usr/bin/python3.11",
    python_version="3.11.7",
    venv={"__init__.py": b""},
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry"), auth={}) as registry:
        yield registry


@pytest.fixture
def proxy(registry: LocalRegistry) -> Iterator[RegistryProxy]:
    with RegistryProxy(registry.host) as proxy:
        yield proxy


class Job:
    """A build with a store of its own, and the cache of one repository."""

    def __init__(self, folder: Path, repository: Repository) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.repository = folder, repository
        self.store = Store(folder / "store")
        self.cached: CachedLayers = open_cached_layers(
            repository, self.store, GZIP, progress=SilentProgress()
        )

    def wheel(self, name: str, files: dict[str, bytes]) -> WheelPart:
        stored = stored_wheel(self.store, write_wheel(self.folder / "wheels", name, files))
        return WheelPart(stored, None, "pip", "3.11", source=SOURCES.digest(stored.digest))

    def known(self, wheel: WheelPart) -> KnownWheel | None:
        artifact = Artifact(wheel.filename, "https://example.com/x.whl", wheel.wheel.digest)
        package = LockedPackage(wheel.package.name, "1.0", artifact)  # type: ignore[arg-type]
        return self.cached.wheel(package, SOURCES, self.cached.part)

    def build(self, *wheels: WheelPart | KnownWheel) -> tuple[Layer, ...]:
        layers = write_environment(
            EnvironmentFiles(BASE, "3.11", wheels),
            budget=BUDGET,
            store=self.store,
            compression=GZIP,
            progress=SilentProgress(),
            known=self.cached.layer,
        )
        here = [wheel for wheel in wheels if isinstance(wheel, WheelPart)]
        self.cached.add(layers, here, base="sha256:0", cache=self.folder)
        return layers

    def push(self, layers: tuple[Layer, ...]) -> None:
        layout = ImageLayout(self.folder / "layout")
        for layer in layers:
            assert layer.path is not None
            layout.add_file(layer.path, layer.blob.media_type)
        config = ImageConfig("linux/amd64", tuple(layer.diff_id for layer in layers), ContainerConfig())
        image = compose_image(config, [layer.blob for layer in layers], layout)
        push_image(image, self.repository, tags=["1"], progress=SilentProgress())
        self.cached.push(progress=SilentProgress())


@pytest.fixture
def repository(proxy: RegistryProxy, request: pytest.FixtureRequest) -> Iterator[Repository]:
    with Repository(f"{proxy.host}/{request.node.name.replace('_', '-')}") as repository:
        yield repository


def test_part_of_a_layer_that_changed_is_read_instead_of_its_wheel(
    repository: Repository, proxy: RegistryProxy, tmp_path: Path
) -> None:
    first = Job(tmp_path / "first", repository)
    one, other = first.wheel("one", {"one/a.py": b"1" * 9_000}), first.wheel("other", {"other/b.py": b"2"})
    layers = first.build(one, other)
    first.push(layers)

    second = Job(tmp_path / "second", repository)
    known = second.known(one)
    assert known is not None
    assert known.checksums == one.checksums
    changed = second.wheel("other", {"other/b.py": b"3"})
    # A connection that is lost in the middle is taken up again.
    proxy.fail(Fault("GET", f".*/blobs/{layers[2].blob.digest}", cut_download=20))
    made = second.build(known, changed)
    third = Job(tmp_path / "third", repository)
    third.cached.entries = {}
    expected = third.build(
        third.wheel("one", {"one/a.py": b"1" * 9_000}), third.wheel("other", {"other/b.py": b"3"})
    )
    assert [layer.blob.digest for layer in made] == [layer.blob.digest for layer in expected]
    assert [layer.diff_id for layer in made] == [layer.diff_id for layer in expected]

    again = Job(tmp_path / "again", repository)
    wheels = [again.known(one), again.known(other)]
    assert all(wheels)
    proxy.forget()
    taken = again.build(*(wheel for wheel in wheels if wheel is not None))
    assert [layer.blob.digest for layer in taken] == [layer.blob.digest for layer in layers]
    assert [layer.path is None for layer in taken] == [False, False, True, False]
    assert taken[2].contents == layers[2].contents
    assert taken[2].comment == layers[2].comment
    assert proxy.requests == []


def test_wheel_whose_bytes_decide_who_has_a_path_is_needed(repository: Repository, tmp_path: Path) -> None:
    first = Job(tmp_path / "first", repository)
    one = first.wheel("one", {"shared/__init__.py": b"", "one.py": b"1"})
    first.push(first.build(one))
    second = Job(tmp_path / "second", repository)
    known = second.known(one)
    assert known is not None
    same, other = (second.wheel(n, {"shared/__init__.py": c}) for n, c in (("same", b""), ("other", b"2")))
    assert needed_archives([known, same]) == set()
    assert needed_archives([known, other]) == {one.filename}


def test_cache_that_is_damaged_or_cant_be_had_is_no_cache(
    repository: Repository, proxy: RegistryProxy, tmp_path: Path
) -> None:
    first = Job(tmp_path / "first", repository)
    one = first.wheel("one", {"one.py": b"1"})
    first.push(first.build(one))
    listed = Job(tmp_path / "again", repository).cached.entries
    (document,) = {entry.blob.digest for key, entry in listed.items() if key.startswith("contents ")}
    proxy.fail(Fault("GET", f".*/blobs/{document}", status=404, times=9))
    assert Job(tmp_path / "second", repository).known(one) is None
    proxy.forget()
    proxy.fail(Fault("GET", ".*/manifests/imagesync-cache", status=403, times=9))
    assert Job(tmp_path / "third", repository).cached.entries == {}


def test_registry_that_lies_about_a_part_gets_nothing_into_the_store(
    repository: Repository, proxy: RegistryProxy, tmp_path: Path
) -> None:
    first = Job(tmp_path / "first", repository)
    one = first.wheel("one", {"one.py": b"1"})
    layers = first.build(one)
    first.push(layers)
    second = Job(tmp_path / "second", repository)
    known = second.known(one)
    assert known is not None
    proxy.fail(Fault("GET", f".*/blobs/{layers[2].blob.digest}", status=200, content=bytes(100_000)))
    with pytest.raises(RegistryError, match=r"more than the \d+ bytes"):
        second.build(known, second.wheel("other", {"other.py": b"2"}))
    assert not second.store.has(layers[2].parts[0].stored.digest)


@pytest.mark.parametrize(
    "properties",
    [{}, {"digest": 5, "listed": "x"}, {"diff-id": "sha256:1", "contents": "{}"}, {"contents": "["}],
)
def test_hostile_entries_are_no_entries(
    repository: Repository, tmp_path: Path, properties: dict[str, str | int]
) -> None:
    job = Job(tmp_path / "job", repository)
    blob = Descriptor(GZIP.media_type, "sha256:" + "0" * 64, 100)
    job.cached.entries = {
        f"{kind} x": CacheEntry(blob, properties=properties) for kind in ("wheel", "part", "layer")
    }
    assert not job.cached.has_part("x")
    assert job.cached.layer("x", "") is None
