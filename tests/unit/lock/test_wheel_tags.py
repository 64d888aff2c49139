"""Which wheel fits a target best."""

from __future__ import annotations

import pytest

from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64, require_platform
from imagesync.errors import LockError
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact
from imagesync.lock.wheel_tags import best_artifact, target_tags

TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))


def artifact(filename: str) -> Artifact:
    return Artifact(filename, f"https://example.com/{filename}", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["a-1-py3-none-any.whl", "a-1.tar.gz"], "a-1-py3-none-any.whl"),
        (["a-1.tar.gz"], "a-1.tar.gz"),
        (["a-1-cp310-cp310-manylinux_2_17_x86_64.whl", "a-1.zip"], "a-1.zip"),
        (["a-1-cp311-cp311-win_amd64.whl"], None),
        (["a-1-cp311-cp311-musllinux_1_1_x86_64.whl"], None),
        (["a-1-cp311-cp311-manylinux_2_39_x86_64.whl"], None),
        (["a-1-cp311-cp311-manylinux_2_28_aarch64.whl"], None),
        (["a-1-py3-none-any.whl", "a-1-cp311-cp311-linux_x86_64.whl"], "a-1-cp311-cp311-linux_x86_64.whl"),
        (
            ["a-1-cp39-abi3-manylinux1_x86_64.whl", "a-1-cp311-cp311-manylinux1_x86_64.whl"],
            "a-1-cp311-cp311-manylinux1_x86_64.whl",
        ),
        (
            ["a-1-cp311-cp311-manylinux2014_x86_64.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"],
            "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        (["a-1-2-py3-none-any.whl", "a-1-10-py3-none-any.whl"], "a-1-10-py3-none-any.whl"),
        (["a-1-py3-none-any.whl", "a-1-1-py3-none-any.whl"], "a-1-1-py3-none-any.whl"),
        (["nonsense.whl", "a-1-py2.py3-none-any.whl"], "a-1-py2.py3-none-any.whl"),
    ],
)
def test_best_artifact_is_the_most_specific_wheel(offered: list[str], expected: str | None) -> None:
    for order in (offered, offered[::-1]):
        best = best_artifact(map(artifact, order), TARGET)
        assert (best.filename if best else None) == expected


def test_arm_has_no_wheels_from_before_2014() -> None:
    platforms = {tag.platform for tag in target_tags(Target(LINUX_ARM64, "3.12.3", (2, 39)))}
    assert "manylinux2014_aarch64" in platforms
    assert not platforms & {"manylinux1_aarch64", "manylinux2010_aarch64"}


def test_unknown_platform_is_refused() -> None:
    with pytest.raises(LockError, match="windows/amd64"):
        require_platform("windows/amd64")
