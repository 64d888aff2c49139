"""Verify an environment without a container: its wheels are exactly the packages of its lock.

Each file is compared with its row of RECORD when it is written, and entry points are scripts by then
(:mod:`~imagesync.image.layers.wheel_entries`). Libraries of the system that packages need are compared with
those of the base image (:mod:`~imagesync.image.layers.system_files`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from imagesync.core.names import canonical_name, is_same_version
from imagesync.errors import VerifyError

if TYPE_CHECKING:
    from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart
    from imagesync.lock.lock import Lock


def verify_wheels(wheels: Sequence[WheelPart | KnownWheel], lock: Lock) -> None:
    """Check that *wheels* are the packages of *lock*, each once and in its version.

    Raises
    ------
    VerifyError
        They aren't; the message names each difference.
    """
    if differences := list(_differences(wheels, lock)):
        raise VerifyError(
            "What was fetched isn't what the lock says, and no image was made:\n"
            + "\n".join(f"  {difference}" for difference in differences),
            hint="Build again with --no-cache. If that doesn't help, report it.",
        )


def _differences(wheels: Sequence[WheelPart | KnownWheel], lock: Lock) -> Iterator[str]:
    expected: dict[str, str] = {package.name: package.version for package in lock.packages}
    expected |= {package.name: package.version for package in lock.vendored}
    found: dict[str, str] = {}
    for part in wheels:
        name, version, _, _ = parse_wheel_filename(part.filename)
        if canonical_name(name) in found:
            yield f"{name} is there twice"
        found[canonical_name(name)] = str(version)
    for package in sorted({*expected, *found}):
        if package not in found:
            yield f"{package} {expected[package]} is missing"
        elif package not in expected:
            yield f"{package} {found[package]} is there, and not in the lock"
        elif not is_same_version(found[package], expected[package]):
            yield f"{package} is {found[package]} instead of {expected[package]}"
