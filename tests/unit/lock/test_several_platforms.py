"""Lock files with the packages of several platforms: what each form says of them, and what is read back."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import yaml
from packaging.pylock import Pylock

from imagesync.core.files import parse_toml
from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64, Platform
from imagesync.errors import LockError, UsageError
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.lockfile.models import ReadLock, ReadRequest
from imagesync.lock.lockfile.read import is_ours, read_lock
from imagesync.lock.lockfile.save import render, render_requirements, require, save
from imagesync.lock.lockfile.write import Bundle
from imagesync.store.store import StoredFile
from tests.unit.lock.test_lockfile import LOCK, PLAN, WHEEL, digest, indexed, record

SIX = indexed("six", "1.17.0")


def compiled(name: str, version: str, machine: str) -> LockedPackage:
    filename = f"{name}-{version}-cp311-cp311-manylinux_2_17_{machine}.whl"
    artifact = Artifact(filename, f"https://pypi.example.com/{filename}", digest(machine), 99)
    return replace(indexed(name, version), artifact=artifact)


def target(platform: Platform) -> Target:
    return Target(platform, "3.11.7", (2, 36))


def bundle_for(platform: Platform, tmp_path: Path, *packages: LockedPackage, **changes: object) -> Bundle:
    """Return a lock for *platform* of conda packages, a local wheel and *packages*."""
    stored = tmp_path / "stored"
    stored.write_bytes(b"a wheel")
    wheel = StoredFile(WHEEL, stored, "sha256:" + "c" * 64, 7)
    conda = tuple(
        replace(package, subdir=subdir, artifact=replace(package.artifact, url=url))
        for package in LOCK.conda
        if (subdir := package.subdir if package.subdir == "noarch" else platform.subdir)
        and (url := package.artifact.url.replace(package.subdir, subdir))
    )
    lock = replace(LOCK, target=target(platform), conda=conda, packages=packages, **changes)  # type: ignore[arg-type]
    md5 = {package.name: package.md5 for package in conda}
    plan = replace(PLAN, platform=platform)
    return Bundle(plan, lock, {f"wheels/{WHEEL}": wheel}, {"mine": wheel}, md5)


@pytest.fixture
def amd64(tmp_path: Path) -> Bundle:
    return bundle_for(LINUX_AMD64, tmp_path, compiled("pyyaml", "6.0.4", "x86_64"), SIX)


@pytest.fixture
def arm64(tmp_path: Path) -> Bundle:
    return bundle_for(LINUX_ARM64, tmp_path, compiled("pyyaml", "6.0.4", "aarch64"), SIX, deviations=())


def read(path: Path, platform: Platform) -> ReadLock:
    return read_lock(ReadRequest(path, lambda: target(platform), {}, platform))


@pytest.mark.parametrize("name", ["conda-lock.yml", "pylock.toml"])
def test_lock_file_is_read_back_for_each_platform(
    name: str, amd64: Bundle, arm64: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / name
    save((arm64, amd64), path, "conda-lock" if name.endswith("yml") else "pylock")
    assert is_ours(path)
    for bundle in (amd64, arm64):
        found = read(path, bundle.lock.target.platform)
        expected = bundle.lock if name.endswith("yml") else replace(bundle.lock, conda=())
        assert found.lock.digest == expected.digest
        assert found.lock.deviations == expected.deviations
        assert found.custom_metadata.is_ours


@pytest.mark.parametrize("form", ["conda-lock", "pylock", "requirements"])
def test_lock_file_is_the_same_in_any_order_of_platforms(form: str, amd64: Bundle, arm64: Bundle) -> None:
    first, second = (render(bundles, form) for bundles in permutations((amd64, arm64)))  # type: ignore[arg-type]
    assert first == second


def test_section_of_another_platform_stays_as_it_is(amd64: Bundle, arm64: Bundle, tmp_path: Path) -> None:
    both, path = render((amd64, arm64), "conda-lock"), tmp_path / "conda-lock.yml"
    assert save((arm64,), path, "conda-lock") == ()
    assert save((amd64,), path, "conda-lock") == ("linux-aarch64",)
    assert path.read_text("utf-8") == both
    assert save((arm64,), path, "conda-lock") == ("linux-64",)
    assert path.read_text("utf-8") == both
    newer = replace(amd64, lock=replace(amd64.lock, packages=(SIX,)))
    assert save((newer,), path, "conda-lock") == ("linux-aarch64",)
    assert read(path, LINUX_AMD64).lock.digest == newer.lock.digest
    assert read(path, LINUX_ARM64).lock.digest == arm64.lock.digest


def test_section_of_another_tool_or_one_that_it_changed_is_replaced(
    amd64: Bundle, arm64: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "conda-lock.yml"
    save((arm64,), path, "conda-lock")
    content = yaml.safe_load(path.read_text("utf-8"))
    content["metadata"]["content_hash"] = {"linux-aarch64": "0" * 64}
    path.write_text(yaml.safe_dump(content))
    assert save((amd64,), path, "conda-lock") == ()
    path.write_text("package: [1")
    assert save((amd64,), path, "conda-lock") == ()
    assert path.read_text("utf-8") == render((amd64,), "conda-lock")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": ("https://conda.example.com/other",)}, "locked from the channels https://conda.exam"),
        ({"wheel": "sha256:" + "d" * 64}, f"wheels/{WHEEL} of mine has changed since"),
    ],
)
def test_section_that_cannot_stay_is_refused_and_nothing_is_written(
    change: dict[str, object], reason: str, amd64: Bundle, arm64: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "conda-lock.yml"
    save((arm64,), path, "conda-lock")
    before = path.read_bytes()
    new = amd64
    if "channels" in change:
        new = replace(amd64, lock=replace(amd64.lock, channels=change["channels"]))  # type: ignore[arg-type]
    else:
        wheel = replace(amd64.wheels["mine"], digest=str(change["wheel"]))
        new = replace(amd64, files={f"wheels/{WHEEL}": wheel}, wheels={"mine": wheel})
    with pytest.raises(LockError, match=reason) as caught:
        save((new,), path, "conda-lock")
    assert "--platform linux/amd64 --platform linux/arm64" in str(caught.value.hint)
    assert path.read_bytes() == before


def test_wheel_that_differs_between_platforms_by_its_bytes_alone_is_refused(
    amd64: Bundle, arm64: Bundle, tmp_path: Path
) -> None:
    wheel = replace(arm64.wheels["mine"], digest="sha256:" + "d" * 64)
    other = replace(arm64, files={f"wheels/{WHEEL}": wheel}, wheels={"mine": wheel})
    with pytest.raises(LockError, match="isn't the same for each platform"):
        save((amd64, other), tmp_path / "pylock.toml", "pylock")
    assert not (tmp_path / "pylock.toml").exists()


def test_pylock_has_one_entry_of_a_version_and_markers_where_versions_differ(tmp_path: Path) -> None:
    bundles = (
        bundle_for(LINUX_AMD64, tmp_path, compiled("a", "1.0", "x86_64"), compiled("b", "2.0", "x86_64")),
        bundle_for(
            LINUX_ARM64, tmp_path, compiled("a", "1.0", "aarch64"), compiled("b", "1.9", "aarch64"), SIX
        ),
    )
    pylock = Pylock.from_dict(parse_toml(render(bundles, "pylock")))
    found = [
        (package.name, str(package.version), str(package.marker or ""), len(package.wheels or ()))
        for package in pylock.packages
    ]
    assert found == [
        ("a", "1.0", "", 2),
        ("b", "2.0", 'platform_machine == "x86_64"', 1),
        ("b", "1.9", 'platform_machine == "aarch64"', 1),
        ("mine", "0.2", "", 1),
        ("six", "1.17.0", 'platform_machine == "aarch64"', 1),
    ]


def test_pure_wheels_that_differ_get_markers(tmp_path: Path) -> None:
    other = replace(SIX, artifact=replace(SIX.artifact, digest=digest("other")))
    bundles = (bundle_for(LINUX_AMD64, tmp_path, SIX), bundle_for(LINUX_ARM64, tmp_path, other))
    pylock = Pylock.from_dict(parse_toml(render(bundles, "pylock")))
    assert [str(package.marker) for package in pylock.packages if package.name == "six"] == [
        'platform_machine == "x86_64"',
        'platform_machine == "aarch64"',
    ]


def test_requirements_have_the_digests_of_both_and_markers_where_versions_differ() -> None:
    locks = (
        Lock(target(LINUX_AMD64), (compiled("a", "1.0", "x86_64"), compiled("b", "2.0", "x86_64"))),
        Lock(target(LINUX_ARM64), (compiled("a", "1.0", "aarch64"), compiled("b", "1.9", "aarch64"))),
    )
    amd64, arm64 = digest("x86_64"), digest("aarch64")
    assert render_requirements(locks) == (
        f"a==1.0 \\\n    --hash={arm64} \\\n    --hash={amd64}\n"
        f"b==1.9 ; platform_machine == 'aarch64' \\\n    --hash={arm64}\n"
        f"b==2.0 ; platform_machine == 'x86_64' \\\n    --hash={amd64}\n"
    )


def test_requirements_of_two_platforms_are_read_by_their_markers(tmp_path: Path) -> None:
    locks = (
        Lock(target(LINUX_AMD64), (compiled("b", "2.0", "x86_64"),)),
        Lock(target(LINUX_ARM64), (compiled("b", "1.9", "aarch64"), SIX)),
    )
    path = tmp_path / "requirements.txt"
    path.write_text(render_requirements(locks))
    assert [p.version for p in read(path, LINUX_AMD64).lock.packages] == ["2.0"]
    assert [p.version for p in read(path, LINUX_ARM64).lock.packages] == ["1.9", "1.17.0"]


def test_explicit_file_is_for_one_platform() -> None:
    with pytest.raises(UsageError, match="for one platform, and not for linux/amd64 and linux/arm64"):
        require("explicit", None, (LINUX_AMD64, LINUX_ARM64))
    require("explicit", None, (LINUX_ARM64,))


def test_package_of_one_section_alone_is_read_for_it(amd64: Bundle, arm64: Bundle, tmp_path: Path) -> None:
    extra = record("libgcc", "14.1", subdir="linux-aarch64")
    lock = replace(arm64.lock, conda=tuple(sorted((*arm64.lock.conda, extra), key=lambda each: each.name)))
    path = tmp_path / "conda-lock.yml"
    save((amd64, replace(arm64, lock=lock, md5={**arm64.md5, "libgcc": "a" * 32})), path, "conda-lock")
    assert "libgcc" not in {package.name for package in read(path, LINUX_AMD64).lock.conda}
    assert read(path, LINUX_ARM64).lock.digest == lock.digest
