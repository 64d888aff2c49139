from __future__ import annotations

from dataclasses import replace

import pytest

from imagesync.core.names import Level
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Comparison, Group, Row, Side, remedy, states, summary
from imagesync.inventory.inventory import LOOSE_CODE, Entry, Inventory, with_levels

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
EXACT = Entry("numpy", "2.1.0", level=Level.EXACT, specifier="==2.1.0")
COMPATIBLE = Entry("alder", "1.4.3", level=Level.COMPATIBLE, specifier="~=1.4.3")
OWN = Entry("elder", "0.1", level=Level.COMPATIBLE, specifier="==0.1", content=ONE, local=True)


def side(*entries: Entry, platform: str = "linux-x86_64", name: str = "here") -> Side:
    return Side(name, {name: Inventory(platform, entries)})


def cluster(**members: tuple[Entry, ...]) -> Side:
    return Side("cluster", {name: Inventory("linux-x86_64", entries) for name, entries in members.items()})


def only_row(left: Side, right: Side) -> Row:
    (row,) = compare(left, right).rows
    return row


@pytest.mark.parametrize(
    ("here", "there", "group", "counts"),
    [
        (EXACT, EXACT, Group.SAME, False),
        (EXACT, replace(EXACT, version="2.1"), Group.SAME, False),
        (EXACT, replace(EXACT, version="2.1.1"), Group.DIFFERS, True),
        (COMPATIBLE, replace(COMPATIBLE, version="1.4.9"), Group.WITHIN, False),
        (COMPATIBLE, replace(COMPATIBLE, version="1.4.2"), Group.DIFFERS, False),
        (COMPATIBLE, replace(COMPATIBLE, version="1.5.0"), Group.DIFFERS, False),
        (COMPATIBLE, replace(COMPATIBLE, version="1.4.4rc1"), Group.DIFFERS, False),
        (COMPATIBLE, replace(COMPATIBLE, version="unknown"), Group.DIFFERS, False),
        (COMPATIBLE, replace(COMPATIBLE, level=None, specifier=""), Group.SAME, False),
    ],
)
def test_version_is_compared_by_the_level_of_its_package(
    here: Entry, there: Entry, group: Group, counts: bool
) -> None:
    row = only_row(side(here), side(there))
    assert (row.group, row.counts) == (group, counts)


def test_left_specifier_decides_what_is_within_its_level() -> None:
    later = replace(COMPATIBLE, version="1.4.9", specifier="~=1.4.9")
    assert only_row(side(COMPATIBLE), side(later)).group is Group.WITHIN
    assert only_row(side(later), side(COMPATIBLE)).group is Group.DIFFERS


@pytest.mark.parametrize(
    ("there", "group", "note"),
    [
        (replace(OWN, version="9.9"), Group.SAME, ()),
        (replace(OWN, content=OTHER), Group.DIFFERS, ("the code differs",)),
        (
            replace(OWN, content=""),
            Group.DIFFERS,
            ("one side has only a version, and no digest of the code",),
        ),
    ],
)
def test_local_code_is_compared_by_content_and_not_by_version(
    there: Entry, group: Group, note: tuple[str, ...]
) -> None:
    row = only_row(side(OWN), side(there))
    assert (row.group, row.notes, row.counts) == (group, note, group is not Group.SAME)


def test_loose_code_that_differs_or_is_missing_counts() -> None:
    here = Entry(LOOSE_CODE, "", kind="code", content=ONE, local=True)
    assert only_row(side(here), side(replace(here, content=OTHER))).counts
    assert only_row(side(here), side()).counts


def test_package_on_one_side_counts_if_its_level_is_exact() -> None:
    assert only_row(side(EXACT), side()).counts
    assert only_row(side(), side(EXACT)).counts
    row = only_row(side(COMPATIBLE), side())
    assert (row.group, row.counts, row.intended) == (Group.ONE_SIDED, False, False)
    assert compare(side(COMPATIBLE), side()).differences
    assert not compare(side(), side(COMPATIBLE)).differences, "more than is needed harms nobody"


@pytest.mark.parametrize("entry", [Entry("pip", "26.0", level=Level.IGNORE), replace(EXACT, left_out=True)])
def test_package_left_out_of_the_image_is_no_difference(entry: Entry) -> None:
    comparison = compare(side(entry), side())
    assert comparison.rows[0].intended
    assert comparison.matches
    assert not comparison.differences


def test_version_of_a_package_left_out_may_differ() -> None:
    here = Entry("imagesync", "1.0", level=Level.IGNORE, local=True, left_out=True)
    assert only_row(side(here), side(here)).group is Group.SAME
    comparison = compare(side(here), side(replace(here, version="2.0")))
    assert comparison.rows[0].group is Group.DIFFERS
    assert comparison.matches
    assert not comparison.differences


def test_added_package_is_expected_on_the_cluster_only() -> None:
    added = replace(EXACT, version="", specifier=">=2")
    assert only_row(side(added), side(EXACT)).intended
    row = only_row(side(added), side())
    assert (row.counts, row.notes) == (True, ("the settings add it for the cluster, and it is missing",))
    assert compare(side(added), side(added)).rows == ()


def test_same_version_from_conda_and_pip_is_within_its_level() -> None:
    conda = replace(EXACT, manager="conda", build="py311h1_0")
    row = only_row(side(conda), side(EXACT))
    assert (row.group, row.notes) == (Group.WITHIN, ("from conda on one side, from pip on the other",))
    other = replace(conda, build="py311h2_1")
    assert only_row(side(conda), side(other)).notes == ("the same version, another build",)
    assert only_row(side(conda), side(other, platform="macosx-14.0-arm64")).group is Group.SAME


def test_platforms_are_named_where_builds_are_not_compared() -> None:
    conda = replace(EXACT, manager="conda", build="py311h1_0")
    other = replace(conda, build="py311h2_1")
    comparison = compare(side(conda), side(other, platform="linux-aarch64", name="image"))
    note = "Compared by version, and not by build: here is linux-x86_64, image is linux-aarch64."
    assert note in str(comparison).splitlines()
    assert comparison.to_dict()["platforms"] == {"left": ["linux-x86_64"], "right": ["linux-aarch64"]}
    assert summary(compare(side(conda), side(platform="linux-aarch64", name="image"))).endswith(note)
    assert "Compared by version" not in str(compare(side(conda), side(other)))
    unknown = compare(side(conda), side(other, platform=""))
    assert (unknown.platforms_note, unknown.rows[0].group) == ("", Group.WITHIN)


def test_conda_package_without_distribution_matches_no_distribution() -> None:
    openssl = Entry("openssl", "3.5.0", kind="conda", manager="conda", level=Level.COMPATIBLE)
    rows = compare(side(openssl), side(replace(openssl, kind="distribution", manager="pip"))).rows
    assert [row.group for row in rows] == [Group.ONE_SIDED, Group.ONE_SIDED]


def test_every_member_of_a_cluster_is_compared() -> None:
    changed = replace(EXACT, version="2.0.0")
    there = cluster(scheduler=(EXACT,), a=(EXACT,), b=(changed,), c=())
    row = only_row(side(EXACT), there)
    assert (row.group, row.counts) == (Group.DIFFERS, True)
    assert states(row.left) == "2.1.0"
    assert states(row.right) == "2.1.0 (scheduler, a), 2.0.0 (b), - (c)"


def test_summary_and_remedy_name_the_members_that_differ() -> None:
    there = cluster(scheduler=(EXACT,), a=(replace(EXACT, version="2.0.0"),))
    comparison = compare(side(EXACT), there)
    assert summary(comparison) == (
        "1 package of the cluster differs from the client:\n"
        "  numpy (exact): 2.1.0 here, 2.1.0 (scheduler), 2.0.0 (a) there"
    )
    assert "restart_workers" in remedy(comparison, "tcp://x:8786")
    assert "imagesync build" not in remedy(comparison, "tcp://x:8786"), "the image is right"
    stale = compare(side(OWN), cluster(scheduler=(replace(OWN, content=OTHER),)))
    assert "imagesync.sync(client)" in remedy(stale, "tcp://x:8786")
    assert "imagesync build" in remedy(stale, "tcp://x:8786")


def test_comparison_as_json_has_every_package_and_group() -> None:
    comparison = compare(side(COMPATIBLE, EXACT), side(EXACT))
    content = comparison.to_dict()
    assert content["groups"] == {"same": 1, "within its level": 0, "only on one side": 1, "differs": 0}
    assert [package["name"] for package in content["packages"]] == ["alder", "numpy"]
    assert content["packages"][0]["right"] == [
        {"present": False, "version": None, "build": None, "content": None, "members": []}
    ]


def test_entries_without_a_plan_get_the_shipped_levels() -> None:
    found = with_levels(
        [
            Entry("dask", "2026.8.0"),
            Entry("distributed", "2026.8.0"),
            Entry("numpy", "2.1.0"),
            Entry("pip", "26.0"),
            Entry("python", "3.11.2", kind="python"),
            replace(COMPATIBLE, level=None, specifier=""),
        ]
    )
    assert [entry.level for entry in found] == [
        Level.CRITICAL,
        Level.CRITICAL,
        Level.NEAREST,
        Level.IGNORE,
        Level.CRITICAL,
        Level.COMPATIBLE,
    ]
    assert found[-1].specifier == "~=1.4.3"


def test_comparison_lists_members_that_gave_no_answer() -> None:
    comparison = compare(
        side(EXACT), Side("cluster", {"scheduler": Inventory("", (EXACT,))}, {"tcp://a": "gone"})
    )
    assert isinstance(comparison, Comparison)
    assert comparison.to_dict()["silent"] == {"tcp://a": "gone"}


def test_comparison_as_text_lists_the_differences() -> None:
    comparison = compare(side(EXACT, OWN), side(replace(EXACT, version="2.1.1"), OWN, name="there"))
    assert str(comparison).splitlines() == [
        "here and there: 1 same, 1 differs",
        "  package  here   there  level",
        "  numpy    2.1.0  2.1.1  exact",
    ]
    assert repr(comparison) == "<Comparison of here and there: 1 same, 1 differs>"
