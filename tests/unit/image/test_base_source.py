"""The base image of a build without an engine, opened where it is."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesync.core.image_location import ImageLocation
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import OpenTask, SilentProgress, Task, Unit
from imagesync.engine.endpoint import Endpoint
from imagesync.image.base_source import open_base
from imagesync.registry.config import ImageConfig
from imagesync.registry.manifest import LAYER, LAYER_GZIP
from imagesync.registry.oci_image import compose_image
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import layer_tar


class CountedSteps(SilentProgress):
    """Progress that records the amounts by which each of its tasks advances."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = defaultdict(list)

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        steps = self.steps[label]

        class Counted(OpenTask):
            def advance(self, amount: int) -> None:
                steps.append(amount)

        yield Counted(label, total, unit, lambda: 0.0)


def no_engine() -> Endpoint:
    raise AssertionError("no engine is needed")


def test_plain_layer_is_compressed_once_and_progress_moves_within_it(tmp_path: Path) -> None:
    content = layer_tar({"bin/sh": os.urandom(5 << 20)})
    layout = ImageLayout(tmp_path / "base")
    config = ImageConfig("linux/amd64", (f"sha256:{hashlib.sha256(content).hexdigest()}",))
    layout.put(compose_image(config, [layout.add_bytes(content, LAYER)], layout), name="latest")

    def opened(progress: CountedSteps) -> str:
        location = ImageLocation("oci", str(layout.root), "latest")
        cache = tmp_path / "cache"
        with open_base(
            location, platform=LINUX_AMD64, cache=cache, progress=progress, find_endpoint=no_engine
        ) as base:
            (layer,) = base.image.manifest.layers
            assert layer.media_type == LAYER_GZIP
            return layer.digest

    first, second = CountedSteps(), CountedSteps()
    assert opened(first) == opened(second)
    for label in ("Compressing the base image", "Reading the base image"):
        assert len(first.steps[label]) > 1
        assert len(content) - (1 << 20) < sum(first.steps[label]) <= len(content)
    assert not second.steps["Compressing the base image"]
