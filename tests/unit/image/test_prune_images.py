"""Which images of an engine are imagesync's own, and which of them nothing needs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from imagesync.engine.images import ListedImage
from imagesync.image.prune_images import own_images, unused_images
from imagesync.image_layout import Label, image_tag


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def base(letter: str, stage: str = "") -> ListedImage:
    tag = f"imagesync-base:{image_tag(digest(letter))}{stage}"
    return ListedImage(digest(letter) + stage, (tag,), {Label.BASE_HASH: digest(letter)}, 1)


def packages(letter: str, below: ListedImage) -> ListedImage:
    labels = {**below.labels, Label.PACKAGES_HASH: digest(letter)}
    return ListedImage(digest(letter), (f"imagesync-packages:{image_tag(digest(letter))}",), labels, 1)


def environment(letter: str, below: ListedImage, *more: str, repository: str = "imagesync") -> ListedImage:
    labels = {**below.labels, Label.ENVIRONMENT_HASH: digest(letter)}
    return ListedImage(digest(letter), (f"{repository}:{image_tag(digest(letter))}", *more), labels, 1)


OLD_BASE, BASE = base("a"), base("b")
OLD_PACKAGES, PACKAGES, OTHER_PACKAGES = packages("1", OLD_BASE), packages("2", BASE), packages("3", BASE)
OLD = environment("4", OLD_PACKAGES)
MIDDLE = environment("5", PACKAGES, repository="registry.example.com/team/env")
NEW = environment("6", PACKAGES)
ARCHIVES = ListedImage(digest("7"), ("imagesync-archives:1",), {Label.ARCHIVES: "x"}, 1)
ROOT = ListedImage(digest("8"), ("ubuntu:24.04",), {}, 1)
ALL = (OLD_BASE, BASE, OLD_PACKAGES, PACKAGES, OTHER_PACKAGES, OLD, MIDDLE, NEW, ARCHIVES, ROOT)


def removed(
    images: tuple[ListedImage, ...] = ALL,
    *,
    keep: int = 1,
    used: tuple[ListedImage, ...] = (),
    new: tuple[ListedImage, ...] = (),
) -> set[str]:
    start = datetime(2026, 11, 28, tzinfo=timezone.utc)
    times = {image.image_id: start + timedelta(minutes=number) for number, image in enumerate(images)}
    since = start + timedelta(days=1)
    times |= {image.image_id: since for image in new}
    found = unused_images(
        images,
        used=frozenset(image.image_id for image in used),
        keep=keep,
        named=lambda image: times[image.image_id],
        spared_since=since,
    )
    return {own.image.image_id for own in found}


def ids(*images: ListedImage) -> set[str]:
    return {image.image_id for image in images}


def test_latest_environments_stay_and_what_they_stand_on() -> None:
    assert removed(keep=1) == ids(OLD, MIDDLE, OLD_PACKAGES, OTHER_PACKAGES, OLD_BASE, ARCHIVES)
    assert removed(keep=9) == ids(OTHER_PACKAGES, ARCHIVES)
    assert removed(keep=0) == ids(*ALL) - ids(ROOT)


def test_image_of_a_container_stays_and_what_it_stands_on() -> None:
    assert removed(keep=0, used=(OLD, ARCHIVES)) == ids(MIDDLE, NEW, PACKAGES, OTHER_PACKAGES, BASE)


def test_image_that_the_user_has_named_or_built_on_stays() -> None:
    named = environment("9", OLD_PACKAGES, "weather:latest")
    assert removed((*ALL, named), keep=0) == ids(*ALL) - ids(ROOT, OLD_PACKAGES, OLD_BASE)
    theirs = ListedImage(digest("c"), ("theirs:1",), {**MIDDLE.labels, "mine": "1"}, 1)
    assert removed((*ALL, theirs), keep=0) == ids(*ALL) - ids(ROOT, MIDDLE, PACKAGES, BASE)
    assert theirs not in [own.image for own in own_images((*ALL, theirs))]


def test_images_that_a_running_build_may_use_stay() -> None:
    unfinished = ListedImage(digest("d"), ("imagesync-unfinished:1",), {}, 1)
    new = (unfinished, ARCHIVES, OTHER_PACKAGES, OLD_BASE)
    assert removed((*ALL, unfinished), keep=0, new=new) == ids(*ALL) - ids(ROOT, *new, BASE)
    assert removed((*ALL, unfinished), keep=0) == ids(*ALL, unfinished) - ids(ROOT)


def test_stages_of_a_base_stay_together() -> None:
    build, minimal = base("b", "-build"), base("a", "-minimal")
    assert removed((*ALL, build, minimal), keep=1) == removed(keep=1) | ids(minimal)
