"""A wheel may have another version than what is installed: the lock says what the image gets."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.lock.update_lock import update_versions
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Source

ZERO = "sha256:00"


def lock(*packages: tuple[str, str]) -> Lock:
    vendored = []
    for given, version in packages:
        name = canonicalize_name(given)
        source = Source(kind="directory", url="file:///p", editable=True)
        planned = PlannedPackage(name, version, Level.EXACT, f"=={version}", "", source)
        vendored.append(VendoredPackage(name, version, ZERO, planned))
    return Lock(Target(LINUX_AMD64, "3.11.2", (2, 36)), (), tuple(vendored))


def test_changed_version_of_a_built_wheel_is_a_deviation() -> None:
    before = lock(("orchard", "1.2"), ("pond", "1.0"))
    after = update_versions(
        before, ["orchard-1.3-py3-none-any.whl", "pond-1.0-py3-none-any.whl"], [ZERO, ZERO]
    )
    assert [package.version for package in after.vendored] == ["1.3", "1.0"]
    (deviation,) = after.deviations
    assert (deviation.name, deviation.local, deviation.locked) == ("orchard", "1.2", "1.3")
    assert deviation.level is Level.EXACT
    assert after.digest != before.digest


@pytest.mark.parametrize(
    ("installed", "filename"),
    [
        ("1.0", "orchard-1.0.0-py3-none-any.whl"),
        ("1.0+local.1", "orchard-1.0+local.1-py3-none-any.whl"),
        ("1.0-dev1", "orchard-1.0.dev1-py3-none-any.whl"),
    ],
)
def test_equal_version_of_a_built_wheel_changes_nothing(installed: str, filename: str) -> None:
    before = lock(("orchard", installed))
    assert update_versions(before, [filename], [ZERO]) == before


def test_digest_of_the_built_sources_is_locked() -> None:
    before = lock(("orchard", "1.0"))
    after = update_versions(before, ["orchard-1.0-py3-none-any.whl"], ["sha256:11"])
    assert [package.content for package in after.vendored] == ["sha256:11"]
    assert after.deviations == ()
