"""The base image of a build without an engine, opened while the environment is scanned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress, Task, Unit
from imagesync.errors import BaseImageError
from imagesync.pipeline.context import Context
from imagesync.pipeline.layout_finder import LayoutFinder
from imagesync.registry.oci_layout import ImageLayout
from imagesync.settings.model import Settings
from tests.oci_images import small_image

LIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"


class HeldProgress(SilentProgress):
    """Progress whose tasks wait until they are released."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.released = threading.Event()

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: Unit) -> Iterator[Task]:
        self.began.set()
        assert self.released.wait(60)
        with super().task(label, total=total, unit=unit) as task:
            yield task


@pytest.fixture
def progress() -> HeldProgress:
    return HeldProgress()


def finder_of(base: Path, progress: HeldProgress, cache: Path) -> LayoutFinder:
    settings = Settings(builder="oci", base=f"oci:{base}", cache_dir=cache, python_source="base")
    return LayoutFinder(Context(settings, progress=progress))


def test_base_is_read_in_the_background(tmp_path: Path, progress: HeldProgress) -> None:
    files = {"bin/sh": b"", "lib/x86_64-linux-gnu/libc.so.6": LIBC}
    small_image(ImageLayout(tmp_path / "base"), files)
    with closing(finder_of(tmp_path / "base", progress, tmp_path / "cache")) as finder:
        finder.query_in_background(for_image=True)
        assert progress.began.wait(60)
        progress.released.set()
        assert finder.base.contents.glibc == (2, 36)
        assert finder.base is finder.base


def test_no_base_is_read_for_a_look_up_alone(tmp_path: Path, progress: HeldProgress) -> None:
    threads = threading.active_count()
    with closing(finder_of(tmp_path / "base", progress, tmp_path / "cache")) as finder:
        finder.query_in_background()
        assert threading.active_count() == threads


def test_base_that_is_not_there_is_an_error_where_it_is_used(tmp_path: Path, progress: HeldProgress) -> None:
    with closing(finder_of(tmp_path / "none", progress, tmp_path / "cache")) as finder:
        finder.query_in_background(for_image=True)
        with pytest.raises(BaseImageError, match="none doesn't exist"):
            _ = finder.base


def test_base_that_is_being_opened_when_its_build_ends_is_closed(
    tmp_path: Path, progress: HeldProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, release, closed = threading.Event(), threading.Event(), threading.Event()

    @contextmanager
    def open_slowly(*_: object, **__: object) -> Iterator[None]:
        opening.set()
        assert release.wait(60)
        try:
            yield
        finally:
            closed.set()

    monkeypatch.setattr("imagesync.pipeline.layout_base.open_layout_base", open_slowly)
    finder = finder_of(tmp_path / "base", progress, tmp_path / "cache")
    finder.query_in_background(for_image=True)
    assert opening.wait(60)
    finder.close()
    release.set()
    assert closed.wait(60)
