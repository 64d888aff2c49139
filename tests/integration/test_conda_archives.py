"""Archives of conda packages in the engine: nothing is sent twice, and nothing is believed of an image."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64, PLATFORMS
from imagesync.core.progress import PlainProgress, SilentProgress, Task, Unit
from imagesync.engine.build_context import ContextFile, stream_files
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import images_of
from imagesync.engine.run_container import RunRequest
from imagesync.errors import BuildError, EngineError
from imagesync.image.base import ensure_base
from imagesync.image.conda.layer import ArchiveImage, CondaLayer
from imagesync.image.conda.mounted_images import (
    ARCHIVES_REPOSITORY,
    archive_images,
    archive_key,
    with_mounted_images,
)
from imagesync.image_layout import BaseImage, Label
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from tests.channels.archive import File
from tests.channels.channel import make_channel
from tests.channels.doubles import pure
from tests.channels.environments import solve
from tests.engine_proxy import EngineProxy
from tests.integration.conda_layers import CondaLayers, as_lock

pytestmark = pytest.mark.engine


@pytest.fixture
def proxy() -> Iterator[EngineProxy]:
    with EngineProxy() as proxy:
        yield proxy


@pytest.fixture
def ours(proxy: EngineProxy) -> Iterator[Engine]:
    with Engine(find_endpoint({**os.environ, "DOCKER_HOST": proxy.url})) as engine:
        yield engine


@pytest.fixture
def base(ours: Engine, root_image: str) -> BaseImage:
    return ensure_base(ours, settings=Settings(base=root_image), progress=SilentProgress())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return the store of all tests, so that an archive is read once."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def own(channel: Path, tmp_path: Path) -> list[Path]:
    """Channels of which no engine has seen the one package: its content is new each time."""
    extra = {"site-packages/fern_value.py": File(f"VALUE = {os.urandom(8).hex()!r}\n".encode())}
    return [make_channel(tmp_path / "extra", [pure("fern", "1.0.0", files=extra)]), channel]


def make(ours: Engine, base: BaseImage, store: Store, channels: list[Path], *packages: str) -> CondaLayers:
    lock, archives = as_lock(solve(channels, ["python", *packages], platform="linux-64"), base, store)
    return CondaLayers(ours, base, store, lock, archives)


def size(layer: CondaLayer) -> int:
    return sum(file.size for file in layer.files)


def test_archives_are_sent_once(
    ours: Engine, base: BaseImage, store: Store, channel: Path, proxy: EngineProxy
) -> None:
    layers = make(ours, base, store, [channel])
    layers.forget_archives()
    proxy.forget()
    layer = layers.layer()
    assert proxy.sent > size(layer), "somebody had removed them"
    proxy.forget()
    image = layers.build()
    try:
        assert proxy.requests.count("POST /images/create") == 0
        assert proxy.sent < 200_000, "the scripts, and what names the archives"
        said = ours.run(
            RunRequest(image, ("python", "-c", "import json; print(json.__cached__)"), timeout=60)
        )
        assert said.stdout.decode().endswith(".pyc\n")
    finally:
        ours.discard(image)


def test_added_package_is_sent_alone(
    ours: Engine, base: BaseImage, store: Store, own: list[Path], proxy: EngineProxy
) -> None:
    make(ours, base, store, own).layer()
    layers = make(ours, base, store, own, "fern")
    proxy.forget()
    layer = layers.layer()
    try:
        assert proxy.requests.count("POST /images/create") == 2, "its archive, and its bytecode"
        assert proxy.sent < 20_000
        assert size(layer) > 1_000_000
        # Between them they have everything, and the context has none of it.
        assert all(any(image.path_of(file) for image in layer.images) for file in layer.files)
        context = layers.context()
        assert not [file.path for file in context.files if file.path.endswith((".conda", ".zip"))]
        image = layers.build()
        code = "import fern, fern_value; print(fern_value.VALUE)"
        said = ours.run(RunRequest(image, ("python", "-c", code), timeout=60)).stdout.decode()
        ours.discard(image)
        assert len(said.strip()) == 16
    finally:
        new = {archive_key(file) for file in layer.files if file.filename.startswith("fern-")}
        for each in layer.images:
            if each.keys <= new:
                ours.remove(each.reference)


class Interrupted(SilentProgress):
    """Somebody presses Ctrl-C once the first bytes are on their way."""

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        with super().task(label, total=total, unit=unit) as task:
            task.advance = interrupt  # type: ignore[method-assign]
            yield task


def interrupt(amount: int) -> None:
    raise KeyboardInterrupt


def test_sending_that_is_interrupted_leaves_nothing(
    ours: Engine, base: BaseImage, store: Store, channel: Path, proxy: EngineProxy
) -> None:
    layers = make(ours, base, store, [channel])
    layers.forget_archives()
    layer = replace(layers, mounts=False).layer()
    proxy.forget()
    with pytest.raises(KeyboardInterrupt):
        archive_images(ours, layer, platform=LINUX_AMD64, progress=Interrupted())
    assert proxy.sent < size(layer) / 2
    keys = {archive_key(file) for file in layer.files}
    there = images_of(ours.endpoint, ARCHIVES_REPOSITORY)
    assert not [image for image in there if keys & set(image.labels[Label.ARCHIVES].split())]
    assert all(any(image.path_of(file) for image in layers.layer().images) for file in layer.files)


def test_engine_that_takes_no_archives_gets_them_with_the_build(
    ours: Engine, base: BaseImage, store: Store, channel: Path
) -> None:
    layers = make(ours, base, store, [channel])
    layers.forget_archives()
    said = io.StringIO()
    with (
        EngineProxy(refused=["POST /images/create"]) as proxy,
        Engine(find_endpoint({**os.environ, "DOCKER_HOST": proxy.url})) as refusing,
    ):
        layer = replace(layers, mounts=False).layer()
        assert (
            with_mounted_images(refusing, layer, platform=LINUX_AMD64, progress=PlainProgress(said)).images
            == ()
        )
        # The builds of this test find nothing in the engine either.
        image = replace(layers, engine=refusing).build()
    ours.discard(image)
    assert "Conda packages are sent with the build" in said.getvalue()
    assert f"failed to take in {ARCHIVES_REPOSITORY}:" in said.getvalue()


def test_build_mounts_images_of_its_own_platform_only(
    ours: Engine, base: BaseImage, store: Store, own: list[Path]
) -> None:
    layers = make(ours, base, store, own, "fern")
    layer = replace(layers, mounts=False).layer()
    mounted: set[str] = set()
    try:
        for platform in PLATFORMS:
            images: tuple[ArchiveImage, ...] = ()
            # Docker 20.10 makes an image of its own platform, which no build for another one mounts.
            with suppress(EngineError):
                images = archive_images(ours, layer, platform=platform, progress=SilentProgress())
            for image in images:
                found = ours.inspect(image.reference)
                assert found is not None
                assert platform.is_platform_of(found.platform)
                mounted.add(image.reference)
        assert mounted
    finally:
        for reference in mounted:
            ours.remove(reference)


@pytest.mark.parametrize("wrong", ["archives", "bytecode"])
def test_image_with_something_else_in_it_is_refused(
    ours: Engine, base: BaseImage, store: Store, own: list[Path], wrong: str
) -> None:
    layers = make(ours, base, store, own, "fern")
    layer = replace(layers, mounts=False).layer()
    (file,) = (file for file in getattr(layer, wrong) if file.filename.startswith("fern-"))
    # Whoever can reach the engine can make such an image.
    files = [
        ContextFile(f"{archive_key(each)}/{each.filename}", each.path, each.size)
        for each in layer.files
        if each != file
    ]
    files.append(ContextFile(f"{archive_key(file)}/{file.filename}", b"something else", 14))
    keys = " ".join(sorted(map(archive_key, layer.files)))
    reference = f"{ARCHIVES_REPOSITORY}:{hashlib.sha256(keys.encode()).hexdigest()[:16]}"
    ours.import_archive(stream_files(files), reference, labels={Label.ARCHIVES: keys}, platform="linux/amd64")
    try:
        assert [image.reference for image in layers.layer().images] == [reference]
        with pytest.raises(BuildError, match=r"not the archive that the lock names: fern-1\.0\.0"):
            layers.build()
    finally:
        ours.remove(reference)
