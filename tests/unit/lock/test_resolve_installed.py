"""What a level allows instead of the local version; and the lock as requirements."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.lockfile.save import render_requirements
from imagesync.lock.resolve_installed import allowance, allowed_specifiers, pin
from tests.indexes.planning import installed


@pytest.mark.parametrize(
    ("version", "level", "expected"),
    [
        ("1.4.3", Level.CRITICAL, []),
        ("1.4.3", Level.EXACT, []),
        ("2.1.0+cu121", Level.EXACT, []),
        ("1.4.3", Level.COMPATIBLE, ["~=1.4.3"]),
        ("2.2", Level.COMPATIBLE, []),
        ("2.1.0+cu121", Level.COMPATIBLE, ["==2.1.0", "~=2.1.0"]),
        ("2.1.0+cu121", Level.CRITICAL, []),
        ("1.4.3", Level.NEAREST, ["==1.4.*", "==1.*,<1.4.3", "==1.*", "<1.4.3", ""]),
        ("2!1.4", Level.NEAREST, ["==2!1.4.*", "==2!1.*,<2!1.4", "==2!1.*", "<2!1.4", ""]),
        ("2.1.0+cu121", Level.NEAREST, ["==2.1.0", "==2.1.*", "==2.*,<2.1.0", "==2.*", "<2.1.0", ""]),
    ],
)
def test_allowed_specifiers_go_from_nearest_to_farthest(
    version: str, level: Level, expected: list[str]
) -> None:
    assert list(allowed_specifiers(installed("demo", version, level=level))) == expected


def test_exact_package_of_a_strict_plan_is_sought_as_nearest_and_named_as_exact() -> None:
    exact = replace(installed("demo", "1.4.3", level=Level.EXACT), strict=True)
    nearest = installed("demo", "1.4.3", level=Level.NEAREST)
    assert list(allowed_specifiers(exact)) == list(allowed_specifiers(nearest))
    assert allowance(exact) == "==1.4.3"
    assert allowance(nearest) == "1.4.3 or the nearest"


def test_requirements_pin_and_hash() -> None:
    packages = tuple(
        LockedPackage(
            canonicalize_name(name),
            version,
            Artifact(f"{name}.whl", f"https://x/{name}.whl", "sha256:" + "a" * 64),
        )
        for name, version in (("one", "1.0"), ("two", "2.0+local"))
    )
    text = render_requirements((Lock(Target(LINUX_AMD64, "3.11.2", (2, 36)), packages),))
    assert text == (
        f"one==1.0 \\\n    --hash=sha256:{'a' * 64}\ntwo==2.0+local \\\n    --hash=sha256:{'a' * 64}\n"
    )


def test_version_from_before_pep_440_is_compared_as_text() -> None:
    assert pin(canonicalize_name("pytz"), "2004d-final") == "pytz===2004d-final"
