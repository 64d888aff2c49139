from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.core.names import canonical_name
from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import VerifyError
from imagesync.image.layers.verify import verify_wheels
from imagesync.image.layers.wheel_parts import WheelPart
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.store.store import StoredFile

DIGEST = "sha256:" + "a" * 64


def lock(**versions: str) -> Lock:
    artifact = Artifact("", "", DIGEST)
    packages = tuple(
        LockedPackage(canonical_name(name), version, artifact) for name, version in sorted(versions.items())
    )
    return Lock(Target(LINUX_AMD64, "3.11.2", (2, 36)), packages)


def wheels(*names: str) -> list[WheelPart]:
    return [
        WheelPart(StoredFile(f"{name}-py3-none-any.whl", Path(name), DIGEST, 1), None, "pip", "3.11")
        for name in names
    ]


def test_wheels_of_the_lock_are_accepted_in_any_order() -> None:
    verify_wheels(wheels("birch-2.0", "alder-1.0"), lock(alder="1", birch="2.0"))


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (("alder-9.0", "birch-2.0"), "alder is 9.0 instead of 1.0"),
        (("birch-9.0", "alder-1.0"), "birch is 9.0 instead of 2.0"),
        (("aaa-1.0", "alder-1.0", "birch-2.0"), "aaa 1.0 is there, and not in the lock"),
        (("birch-2.0",), "alder 1.0 is missing"),
        (("alder-1.0", "alder-1.0", "birch-2.0"), "alder is there twice"),
    ],
)
def test_each_difference_is_named_wherever_it_stands(names: tuple[str, ...], difference: str) -> None:
    with pytest.raises(VerifyError) as error:
        verify_wheels(wheels(*names), lock(alder="1.0", birch="2.0"))
    assert error.value.message.splitlines()[1:] == [f"  {difference}"]
