"""Without an engine the plan is locked while local wheels are made."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import UnsolvableError
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Lock, Target
from imagesync.pipeline.artifact_sources import ArtifactSources
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_inputs import EnvironmentInputs, environment_inputs
from imagesync.pipeline.layer_builder import LayerBuilder
from imagesync.pipeline.layout_finder import LayoutFinder
from imagesync.scan.environment import Environment, Interpreter
from imagesync.settings.model import Settings

BASE = BaseImage("base", "debian", "sha256:1", "sha256:1", "3.12.1", "/usr/bin/python3", (2, 36), "sha256:2")
LOCK = Lock(Target(LINUX_AMD64, "3.12.1", (2, 36)), (), ())


@dataclass(frozen=True)
class HeldInputs(EnvironmentInputs):
    """An environment that is locked once it is released, and no environment if *refused*."""

    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Event = field(default_factory=threading.Event)
    refused: bool = False

    def lock(self, base: BaseImage, sources: ArtifactSources) -> Lock:
        self.began.release()
        assert self.released.wait(60)
        if self.refused:
            raise UnsolvableError("nothing fits")
        return LOCK


def held_inputs(cache: Path, *, refused: bool = False) -> HeldInputs:
    context = Context(Settings(profile="none", cache_dir=cache))
    python = Interpreter(
        *("cpython", "3.12.1", "linux-x86_64", "cp312", "/env/bin/python", "/env", "/usr", "glibc 2.36")
    )
    found = environment_inputs(Environment(python, ()), context)
    return HeldInputs(context, found.environment, found.plan, found.source_digests, refused=refused)


def builder_of(inputs: HeldInputs) -> LayerBuilder:
    return LayerBuilder(inputs, BASE, LayoutFinder(inputs.context))


def test_lock_is_made_once_and_in_the_background(tmp_path: Path) -> None:
    inputs = held_inputs(tmp_path)
    builder = builder_of(inputs)
    builder.lock_in_background()
    assert inputs.began.acquire(timeout=60)
    inputs.released.set()
    assert builder.lock is LOCK
    builder.lock_in_background()
    assert builder.lock is LOCK
    assert not inputs.began.acquire(blocking=False)


def test_failing_lock_is_an_error_where_it_is_used(tmp_path: Path) -> None:
    inputs = held_inputs(tmp_path, refused=True)
    builder = builder_of(inputs)
    builder.lock_in_background()
    inputs.released.set()
    with pytest.raises(UnsolvableError, match="nothing fits"):
        _ = builder.lock
