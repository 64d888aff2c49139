"""Compare every package of two sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion

from imagesync.core.names import Level, is_same_version
from imagesync.inventory.comparison import Comparison, Group, Row, Side, State
from imagesync.inventory.inventory import Entry

_LEVELS = list(Level)
_LEFT_OUT = (Level.IGNORE, Level.IGNORE_UNLESS_REQUESTED, Level.PLATFORM_ONLY)
_PRECEDENCE = list(Group)


def compare(left: Side, right: Side) -> Comparison:
    """Return the comparison of every package of two sides.

    Each member of one side is compared with each of the other, and the group of highest precedence is the
    result. The level of the left side decides if it has one, so that the reference belongs on the left.
    Between platforms builds of conda packages aren't compared, which are others on each.
    """
    keys = {key for side in (left, right) for one in side.members.values() for key in one.by_key}
    found = {
        name: {member: inventory.by_key for member, inventory in side.members.items()}
        for name, side in (("left", left), ("right", right))
    }
    platforms = [
        tuple(sorted({inventory.platform for inventory in side.members.values()} - {""}))
        for side in (left, right)
    ]
    is_one = len({name for names in platforms for name in names}) < 2
    rows = []
    for key in sorted(keys):
        lefts, rights = (
            {member: entries.get(key) for member, entries in found[name].items()}
            for name in ("left", "right")
        )
        row = _row(key, lefts, rights, one_platform=is_one)
        if row is not None:
            rows.append(row)
    return Comparison(left.name, right.name, tuple(rows), {**left.silent, **right.silent}, *platforms)


Entries = Mapping[str, "Entry | None"]


def _row(key: tuple[str, str], lefts: Entries, rights: Entries, *, one_platform: bool) -> Row | None:
    pairs = set(product(lefts.values(), rights.values()))
    known = [entry for entry in (*lefts.values(), *rights.values()) if entry is not None]
    verdicts = [_judge(one, other, one_platform=one_platform) for one, other in pairs]
    group = max((verdict.group for verdict in verdicts), key=_PRECEDENCE.index)
    if group is Group.SAME and all(_is_absent(entry) for entry in known):
        return None
    kind = known[0].kind
    local = any(entry.local for entry in known)
    level = _level(lefts.values()) or _level(rights.values())
    intended = level in _LEFT_OUT or (
        group is Group.ONE_SIDED and all(verdict.intended for verdict in verdicts if verdict.group is group)
    )
    differs = group in (Group.DIFFERS, Group.ONE_SIDED) and not intended
    notes = [verdict.note for verdict in verdicts if verdict.note and verdict.group is group]
    reasons = [entry.reason for entry in known if group is not Group.SAME and entry.reason]
    return Row(
        name=key[0],
        kind=kind,
        group=group,
        level=level,
        left=_states(lefts),
        right=_states(rights),
        counts=differs and ((level is not None and level.is_pinned) or local),
        intended=intended,
        local=local,
        notes=tuple(dict.fromkeys((*sorted(notes), *reasons))),
    )


@dataclass(frozen=True)
class _Verdict:
    group: Group
    note: str = ""
    intended: bool = False


def _judge(left: Entry | None, right: Entry | None, *, one_platform: bool) -> _Verdict:
    """Return the verdict on one package of two inventories."""
    if left is None or right is None or _is_absent(left) or _is_absent(right):
        return _one_sided(left, right)
    if (left.local or right.local) and not (left.left_out or right.left_out):
        return _local(left, right)
    if not is_same_version(left.version, right.version):
        wanted, other = (left, right) if left.specifier else (right, left)
        return _Verdict(Group.WITHIN if _admits(wanted.specifier, other.version) else Group.DIFFERS)
    if left.manager and right.manager and left.manager != right.manager:
        return _Verdict(Group.WITHIN, f"from {left.manager} on one side, from {right.manager} on the other")
    if one_platform and left.build and right.build and left.build != right.build:
        return _Verdict(Group.WITHIN, "the same version, another build")
    return _Verdict(Group.SAME)


def _one_sided(left: Entry | None, right: Entry | None) -> _Verdict:
    present = [entry for entry in (left, right) if entry is not None and not _is_absent(entry)]
    if not present:
        if (left is None) is (right is None):
            return _Verdict(Group.SAME)
        return _Verdict(Group.ONE_SIDED, "the settings add it for the cluster, and it is missing")
    if left is not None and right is not None:
        return _Verdict(Group.ONE_SIDED, "the settings add it for the cluster", intended=True)
    (entry,) = present
    if entry.left_out or entry.level in _LEFT_OUT:
        return _Verdict(Group.ONE_SIDED, "left out on purpose", intended=True)
    return _Verdict(Group.ONE_SIDED)


def _local(left: Entry, right: Entry) -> _Verdict:
    if left.content and right.content:
        if left.content == right.content:
            return _Verdict(Group.SAME)
        return _Verdict(Group.DIFFERS, "the code differs")
    if not (left.content or right.content):
        return _Verdict(Group.DIFFERS, "neither side has a digest of the code")
    return _Verdict(Group.DIFFERS, "one side has only a version, and no digest of the code")


def _is_absent(entry: Entry) -> bool:
    return not entry.version and not entry.content


def _level(entries: Iterable[Entry | None]) -> Level | None:
    levels = [entry.level for entry in entries if entry is not None and entry.level is not None]
    return min(levels, key=_LEVELS.index, default=None)


def _states(entries: Entries) -> tuple[State, ...]:
    """Return the states of a package on one side, the most frequent first."""
    members: dict[State, list[str]] = {}
    for member, entry in entries.items():
        if entry is None or _is_absent(entry):
            state = State("", present=False)
        else:
            state = State(entry.version, entry.build, entry.content)
        members.setdefault(state, []).append(member)
    if len(members) == 1:
        return tuple(members)
    return tuple(_with_members(members))


def _with_members(members: Mapping[State, list[str]]) -> Iterator[State]:
    for state, names in sorted(members.items(), key=lambda item: -len(item[1])):
        yield State(state.version, state.build, state.content, tuple(names), state.present)


def _admits(specifier: str, version: str) -> bool:
    if not specifier:
        return False
    try:
        allowed = SpecifierSet(specifier)
        return allowed.contains(version, prereleases=bool(allowed.prereleases))
    except (InvalidSpecifier, InvalidVersion):
        return False
