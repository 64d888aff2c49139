"""Which images of the engine a build takes archives from."""

from __future__ import annotations

from pathlib import Path

from imagesync.image.conda.layer import ArchiveImage, archive_key
from imagesync.image.conda.mounted_images import MOST_IMAGES, choose
from imagesync.store.store import StoredFile


def stored(name: str, size: int = 1, digest: str = "a") -> StoredFile:
    return StoredFile(name, Path("/store", name), f"sha256:{digest * 64}", size)


def keys(*files: StoredFile) -> frozenset[str]:
    return frozenset(map(archive_key, files))


def by_key(*files: StoredFile) -> dict[str, StoredFile]:
    return {archive_key(file): file for file in files}


PYTHON, NUMPY, FERN = stored("python", 1000), stored("numpy", 500), stored("fern", 1)


def test_without_images_all_files_are_missing() -> None:
    assert choose(by_key(PYTHON, FERN), {}) == ({}, [PYTHON, FERN])


def test_image_with_most_missing_bytes_is_chosen_first() -> None:
    images = {"a": keys(NUMPY, FERN), "b": keys(PYTHON, NUMPY), "c": keys(PYTHON)}
    chosen, missing = choose(by_key(PYTHON, NUMPY, FERN), images)
    assert list(chosen) == ["b", "a"]
    assert missing == []


def test_images_of_other_environments_are_ignored() -> None:
    chosen, missing = choose(by_key(FERN), {"a": keys(PYTHON, NUMPY), "b": frozenset()})
    assert (chosen, missing) == ({}, [FERN])


def test_files_of_too_many_images_are_sent_again() -> None:
    files = [stored(f"package-{number}") for number in range(MOST_IMAGES + 1)]
    images = {file.filename: keys(file) for file in files}
    assert choose(by_key(*files), images) == ({}, files)
    assert len(choose(by_key(*files[1:]), images)[0]) == MOST_IMAGES


def test_archive_key_depends_on_content_and_name() -> None:
    image = ArchiveImage("archives:1", "/mnt/archives/0", keys(FERN))
    assert image.path_of(FERN) == f"/mnt/archives/0/{archive_key(FERN)}/fern"
    assert image.path_of(stored("fern", digest="b")) is None
    assert image.path_of(stored("fern-2")) is None
