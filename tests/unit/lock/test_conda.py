"""Which version of a conda package to look for, which build, and from which channel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import LockError
from imagesync.indexes.conda.conda_configuration import ChannelPriority
from imagesync.lock.conda.locked_records import (
    lock_records,
    provided_distributions,
    refuse_duplicates,
    refuse_free_threaded,
)
from imagesync.lock.conda.missing_archives import repack_missing
from imagesync.lock.conda.preferences import (
    Preference,
    allowed_versions,
    builds_for,
    nearest_version,
    preference_for,
    shown_versions,
    variant_of,
)
from imagesync.lock.conda.repodata import channel_error, locked, readable
from imagesync.lock.lock import Deviation, Target
from imagesync.lock.locked_packages import Artifact, LockedConda
from imagesync.plan.plan import PlannedConda
from imagesync.scan.environment import CondaRecord, Package

FORGE, TEAM = "https://conda.example.com/forge", "https://conda.example.com/team"
TARGET = Target(LINUX_AMD64, "3.11.7", (2, 36))
RECORD = CondaRecord(
    "demo", "1.4.2", "h0_0", 0, TEAM, "osx-arm64", "demo-1.4.2-h0_0.conda", f"{TEAM}/osx-arm64/x.conda"
)


def planned(
    version: str = "1.4.2", level: Level = Level.COMPATIBLE, specifier: str = "~=1.4.2"
) -> PlannedConda:
    record = replace(RECORD, version=version)
    return PlannedConda("demo", version, "h0_0", level, specifier, "as a test says", record=record)


def build(
    version: str, text: str = "h0_0", *, channel: str = FORGE, depends: tuple[str, ...] = ()
) -> LockedConda:
    filename = f"demo-{version}-{text}.conda"
    artifact = Artifact(filename, f"{channel}/linux-64/{filename}", "sha256:" + "a" * 64)
    return LockedConda("demo", version, text, channel, "linux-64", artifact, depends=depends)


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (planned("1.4.1"), "1.4.1"),
        (planned("1.4.2"), "1.4.5"),
        (planned("3.1.0", specifier="~=3.1.0"), None),
        (planned("1.4.2", Level.CRITICAL, "==1.4.2"), None),
        (planned("1.4.2", Level.EXACT, "==1.4.2"), None),
        (planned("1.4.2", Level.NEAREST, "==1.4.2"), "1.4.5"),
        (replace(planned("1.4.2", Level.EXACT, "==1.4.2"), strict=True), "1.4.5"),
        (planned("1.3.0", Level.NEAREST, "==1.3.0"), "1.5.0"),
        (planned("3.1.0", Level.NEAREST, "==3.1.0"), "2.0.0"),
        (planned("0.1", Level.NEAREST, "==0.1"), "2.0.0"),
    ],
)
def test_nearest_version_is_the_first_that_the_level_allows(
    package: PlannedConda, expected: str | None
) -> None:
    assert nearest_version(package, ["1.4.0", "1.4.1", "1.4.5", "1.5.0", "2.0.0"]) == expected


def test_versions_not_of_pep_440_are_compared_as_strings() -> None:
    assert nearest_version(planned("9e", Level.CRITICAL, "==9e"), ["9d", "9e"]) == "9e"
    assert nearest_version(planned("9e", Level.CRITICAL, "==9e"), ["9d", "9f"]) is None
    assert set(allowed_versions(planned("9e", Level.NEAREST, "==9e"), ["9d", "9f"])) == {"9d", "9f"}


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [
        ("", ["2.0", "1.4.5", "1.4"]),
        ("* cuda*", ["2.0", "1.4.5", "1.4"]),
        (">=1.4.5,<2", ["1.4.5"]),
        (">=1.4.5 py311*", ["2.0", "1.4.5"]),
        ("==1.4.*", ["1.4.5", "1.4"]),
        ("=1.4", ["1.4.5", "1.4"]),
        ("1.4.*", ["1.4.5", "1.4"]),
        ("1.4", ["1.4"]),
    ],
)
def test_specifiers_have_the_syntax_of_match_specs(specifier: str, expected: list[str]) -> None:
    assert allowed_versions(planned("1.0", specifier=specifier), ["1.4", "1.4.5", "2.0"]) == expected


def test_package_stays_in_its_channel() -> None:
    both = (build("1.4.0"), build("1.4.2", channel=TEAM))
    for channels, named in (((FORGE, TEAM), TEAM), ((TEAM, FORGE), "")):
        wanted = preference_for(planned(), both, channels)
        assert (wanted.version, wanted.candidates, wanted.channel) == ("1.4.2", (both[1],), named)
    wanted = preference_for(planned(), both[:1], (FORGE, TEAM))
    assert (wanted.version, wanted.candidates, wanted.channel) == ("", (both[0],), "")


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        # The team's own has a version that the level allows.
        ("strict", ("1.4.5", "", "demo ~=1.4.2")),
        # The local version is there in the other one.
        ("flexible", ("1.4.2", FORGE, f"{FORGE}::demo ~=1.4.2")),
        ("disabled", ("1.4.2", FORGE, "demo ~=1.4.2")),
    ],
)
def test_other_channels_count_where_the_priority_is_not_strict(
    priority: ChannelPriority, expected: tuple[str, str, str]
) -> None:
    found = (build("1.4.2"), build("1.4.5", channel=TEAM))
    wanted = preference_for(planned(), found, (TEAM, FORGE), priority=priority)
    assert (wanted.version, wanted.channel, wanted.limited) == expected


def test_what_the_first_channel_can_not_give_is_taken_from_the_next() -> None:
    found = (build("1.4.6"), build("1.4.9"), build("2.0", channel=TEAM))
    assert preference_for(planned(), found, (TEAM, FORGE)).version == ""
    assert preference_for(planned(), found, (TEAM, FORGE), priority="flexible").version == "1.4.9"


def test_pin_limits_versions_in_addition_to_the_level() -> None:
    found = (build("1.4.3"), build("1.4.4"), build("1.4.9"))
    assert preference_for(planned(), found, (FORGE,), pins=("demo <1.4.5",)).version == "1.4.4"
    assert preference_for(planned(), found, (FORGE,), pins=("demo 1.4.2.*",)).version == ""


def test_builds_fit_the_interpreter() -> None:
    abi = ("python_abi 3.11.*",)
    builds = (build("1.4.2", "py310_0", depends=abi), build("1.4.2", "py311_0", depends=abi), build("1.4.2"))
    wanted = Preference(planned(), "1.4.2", builds)
    assert [package.build for package in builds_for(wanted, "3.11")] == ["py311_0", "h0_0"]
    assert wanted.pinned == "demo ==1.4.2"
    assert wanted.limited == "demo ~=1.4.2"
    assert replace(wanted, channel=TEAM).relaxed == f"{TEAM}::demo"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("py311h41a922d_0", ""),
        ("pyhd8ed1ab_0", ""),
        ("h889299f_2_cpython", "cpython"),
        ("h9a9d9e2_0_cp313t", "cp313t"),
        ("8_cp311", ""),
        ("py3.11_cuda12.1_cudnn8.9.2_0", "cuda12.1_cudnn8.9.2"),
        ("cpu_generic_py311_h1234567_1", "cpu_generic"),
        ("cuda126_mkl_py311_h1234567_300", "cuda126_mkl"),
        ("25_linux64_openblas", "openblas"),
        ("35_h5709861_mkl", "mkl"),
        ("nompi_py311h1234567_101", "nompi"),
    ],
)
def test_variant_is_what_a_build_string_says_besides_hash_number_and_platform(
    text: str, expected: str
) -> None:
    assert variant_of(text) == expected


@pytest.mark.parametrize(
    ("spec", "pinned"),
    [
        ("demo=*=mpi_openmpi*", "demo ==1.4.2 mpi_openmpi*"),
        ("demo[version='1.*', build='mpi*']", "demo ==1.4.2 mpi*"),
        ("forge/osx-arm64::demo==1.4.2=mpi_openmpi_h7654321_1", "demo ==1.4.2"),
        ("demo<3.9=mpi_openmpi*", "demo ==1.4.2 mpi_openmpi*"),
        ("demo>1,<3.9=mpi_openmpi*", "demo ==1.4.2 mpi_openmpi*"),
        ("demo>1,<3.9", "demo ==1.4.2"),
        ("demo=*=cuda*", "demo ==1.4.2"),
        ("demo=1.4", "demo ==1.4.2"),
        ("demo", "demo ==1.4.2"),
    ],
)
def test_build_that_the_user_asked_for_holds_where_the_channel_has_it(spec: str, pinned: str) -> None:
    asked = replace(planned(), record=replace(RECORD, requested_spec=spec))
    found = [build("1.4.2", "mpi_openmpi_h1234567_1"), build("1.4.2", "nompi_h1234567_101")]
    wanted = preference_for(asked, found, [FORGE])
    assert wanted.pinned == pinned
    assert wanted.variants == {"mpi_openmpi", "nompi"}


def test_builds_of_the_local_variant_are_the_best() -> None:
    local = replace(planned(), build="mpi_openmpi_h7654321_0")
    found = (build("1.4.2", "mpi_openmpi_h1234567_1"), build("1.4.2", "nompi_h1234567_101"))
    assert builds_for(Preference(local, "1.4.2", found), "3.11")[-1].build == "mpi_openmpi_h1234567_1"
    assert builds_for(Preference(planned(), "1.4.2", found), "3.11")[-1].build == "nompi_h1234567_101"


@pytest.mark.parametrize("text", ["h9a9d9e2_0_cp313t", "h1234567_100_cp314t"])
def test_free_threaded_python_is_refused(text: str) -> None:
    with pytest.raises(LockError, match="free-threaded"):
        refuse_free_threaded([replace(build("3.13.1", text), name="python")])
    refuse_free_threaded([replace(build("3.13.1", "h9a9d9e2_0_cp313"), name="python"), build("1.0", text)])


def test_shown_versions_are_unique_and_limited() -> None:
    assert shown_versions([build("1.0", "a_0"), build("1.0", "b_0"), build("2.0")]) == "1.0, 2.0"
    assert shown_versions([build(f"1.{n}") for n in range(12)]).endswith("1.11 and 4 older")


def test_record_that_names_no_url_is_refused() -> None:
    with pytest.raises(LockError, match="doesn't say where the package came from"):
        lock_records([replace(planned(), record=replace(RECORD, url=""))], target=TARGET)


def test_provided_distribution_only_requires_what_its_extras_do() -> None:
    dask = canonicalize_name("dask")
    package = replace(build("2.0"), distributions=(dask,))
    installed = Package(dask, "1.0", requires=("toolz", 'numpy; extra == "array"'))
    (distribution,) = provided_distributions([package], [installed])
    assert (distribution.name, distribution.version) == ("dask", "2.0")
    assert distribution.installed is not None
    assert distribution.installed.requires == ('numpy; extra == "array"',)


def test_distribution_of_both_pip_and_conda_is_refused() -> None:
    package = replace(build("1.0"), distributions=(canonicalize_name("Jinja2"),))
    refuse_duplicates([package], [canonicalize_name("other")])
    with pytest.raises(LockError, match="- jinja2: the conda package demo has it"):
        refuse_duplicates([package], [canonicalize_name("jinja2")])


def test_entries_of_a_channel_lose_their_token() -> None:
    found = locked(
        {
            "name": "msgpack-python",
            "version": "1.0",
            "build": "py311_0",
            "subdir": "linux-64",
            "fn": "m.conda",
            "url": "https://conda.example.com/t/tk-1/team/linux-64/m.conda",
            "channel": "https://me:pw@conda.example.com/t/tk-1/team/",
            "purls": ["pkg:pypi/msgpack@1.0"],
            "depends": ["python"],
        }
    )
    assert found.channel == TEAM
    assert found.artifact.url == f"{TEAM}/linux-64/m.conda"
    assert found.distributions == ("msgpack",)
    assert found.artifact.digest == ""


def test_errors_of_the_library_become_readable() -> None:
    said = f"error sending request for url ({TEAM}/t/x/noarch/repodata.json)\nCaused by: refused"
    error = channel_error(said.replace("/t/x", ""), [FORGE, TEAM])
    assert error.message == f"The channel {TEAM} doesn't answer: refused"
    assert "refuses to be read" in channel_error(f"401 Unauthorized for url ({TEAM}/x)", [TEAM]).message
    text = "Cannot solve the request because of: a would require\n b, for which no candidates were found.\n"
    assert readable(text) == "a would require\n b, which nothing satisfies."


def test_requested_package_that_is_left_out_is_the_first_deviation() -> None:
    left_out = Deviation("zoo", "1.0", "", Level.PLATFORM_ONLY, "no Linux", "conda", requested=True)
    others = (
        Deviation("ant", "1.0", "", Level.PLATFORM_ONLY, "no Linux", "conda"),
        Deviation("bee", "", "2", Level.NEAREST, "needed"),
    )
    assert sorted((*others, left_out), key=lambda each: each.weight)[0] is left_out
    same = Deviation("cat", "1.0", "1.0", Level.NEAREST, "its installed files were changed here")
    assert [each.change for each in (left_out, *others, same)] == [
        "1.0 -> left out, though you asked for it",
        "1.0 -> left out",
        "not installed here -> 2",
        "1.0 (same version)",
    ]
    assert [each.outcome for each in (left_out, same)] == ["left out", "the same version"]


def test_missing_package_that_cannot_be_repacked_is_refused() -> None:
    with pytest.raises(LockError, match="its installed files can't stand in for it"):
        repack_missing([planned()], (FORGE,), LINUX_AMD64, lambda package: ())
