"""Where `imagesync push` sends an image to: nobody's tag is taken that wasn't meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.errors import UsageError
from imagesync.pipeline.local_images import push_target
from imagesync.registry.oci_layout import ImageLayout
from tests.commands import CommandLine
from tests.oci_images import small_image

THERE = "registry.example.com/env"


@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        (THERE, "v1.0", f"{THERE}:v1.0"),
        (f"{THERE}:2", "v1.0", f"{THERE}:2"),
        (THERE, "team/env:1", f"{THERE}:1"),
        (THERE, "", f"{THERE}:latest"),
        ("", "v1.0", "default.example.com/env:v1.0"),
        ("", "imagesync:abc", "default.example.com/env:abc"),
        ("", f"{THERE}:1", f"{THERE}:1"),
        ("", "other.example.com:5000/env", "other.example.com:5000/env:latest"),
    ],
)
def test_image_keeps_its_tag(target: str, name: str, expected: str) -> None:
    assert push_target(target, name, repository="default.example.com/env") == expected


@pytest.mark.parametrize(
    ("target", "name", "message"),
    [
        ("env:2", "v1.0", "env:2 names no registry"),
        ("team/env", "imagesync:abc", "team/env names no registry"),
        (f"{THERE}@sha256:{'0' * 64}", "v1.0", "has a digest"),
        (f"{THERE}:1 2", "v1.0", "can't be an image's name"),
        (THERE, "not a tag", "can't be an image's name"),
    ],
)
def test_target_that_is_not_a_place_is_a_usage_error(target: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        push_target(target, name, repository="default.example.com/env")
    assert caught.value.exit_code == 2


def test_hint_about_an_image_to_push_or_inspect_names_no_option_of_builds(
    cli: CommandLine, tmp_path: Path
) -> None:
    small_image(ImageLayout(tmp_path / "other"), {"a": b"1"}, platform="linux/s390x")
    for command in ("push", "inspect"):
        for image in (f"oci:{tmp_path / 'none'}", f"oci:{tmp_path / 'other'}"):
            finished = cli.run(command, image)
            assert finished.returncode == 1
            assert "--base" not in finished.stderr
