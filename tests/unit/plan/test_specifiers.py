"""Specifiers: what each installed version comes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from imagesync.plan.specifiers import arbitrary, compatible, exact, parse_version

number = st.integers(min_value=0, max_value=2030)


@st.composite
def versions(draw: st.DrawFn) -> Version:
    epoch = draw(st.sampled_from(["", "1!"]))
    release = ".".join(map(str, draw(st.lists(number, min_size=1, max_size=5))))
    pre = draw(st.sampled_from(["", "a1", "b2", "rc1"]))
    post = draw(st.sampled_from(["", ".post0", ".post3"]))
    dev = draw(st.sampled_from(["", ".dev0", ".dev12"]))
    local = draw(st.sampled_from(["", "+cu121", "+g1234abc.d20261123"]))
    return Version(epoch + release + pre + post + dev + local)


@given(versions())
def test_local_version_is_always_admitted(version: Version) -> None:
    for specifier in (exact(version), compatible(version)):
        assert SpecifierSet(specifier).contains(version, prereleases=True), specifier


@given(versions())
def test_specifier_admits_prereleases_only_of_a_prerelease(version: Version) -> None:
    for specifier in (exact(version), compatible(version)):
        assert bool(SpecifierSet(specifier).prereleases) is version.is_prerelease


@given(versions(), versions())
def test_exact_admits_no_more_than_compatible(version: Version, other: Version) -> None:
    if SpecifierSet(exact(version)).contains(other, prereleases=True):
        assert SpecifierSet(compatible(version)).contains(other, prereleases=True)


@given(versions(), versions())
def test_compatible_never_goes_back_and_never_leaves_the_series(version: Version, other: Version) -> None:
    if SpecifierSet(compatible(version)).contains(other, prereleases=True):
        assert Version(other.public) >= Version(version.public)
        assert other.epoch == version.epoch
        if len(version.release) > 2:
            kept = len(version.release) - 1
            padded = other.release + (0,) * len(version.release)
            assert padded[:kept] == version.release[:kept]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.4.3", "~=1.4.3"),
        ("1.2.3.4", "~=1.2.3.4"),
        ("2.2", "==2.2"),
        ("9", "==9"),
        ("2026.6", "==2026.6"),
        ("2.9.0.post0", "~=2.9.0.post0"),
        ("1.0.0rc1", "~=1.0.0rc1"),
        ("3.0.0.dev7+g1a2b3c4", "~=3.0.0.dev7"),
        ("1!2.0.3", "~=1!2.0.3"),
        ("2.1.0+cu121", "~=2.1.0"),
        ("2.1+cpu", "==2.1"),
        ("v1.04.0", "~=1.4.0"),
    ],
)
def test_compatible_specifier_of_a_version(version: str, wanted: str) -> None:
    assert compatible(Version(version)) == wanted


def test_exact_keeps_the_build_label() -> None:
    specifier = SpecifierSet(exact(Version("2.1.0+cu121")))
    assert specifier.contains("2.1.0+cu121")
    assert not specifier.contains("2.1.0+cpu")
    assert not specifier.contains("2.1.0")


@pytest.mark.parametrize("version", ["2004d-final", "0.23ubuntu1-x", "1.0-SNAPSHOT", "unknown"])
def test_version_unknown_to_pep_440_is_compared_as_a_string(version: str) -> None:
    assert parse_version(version) is None
    specifier = arbitrary(version)
    assert specifier is not None
    assert [each.operator for each in SpecifierSet(specifier)] == ["==="]
    assert [each.version for each in SpecifierSet(specifier)] == [version]


@pytest.mark.parametrize("version", ["1.0 (beta)", "1;2", ""])
def test_version_with_spaces_has_no_specifier(version: str) -> None:
    assert arbitrary(version) is None
