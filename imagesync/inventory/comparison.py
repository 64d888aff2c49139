"""The comparison of two sides, with every package in one of four groups, and its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from imagesync.core.names import Level
from imagesync.core.notebook import NotebookValue, Table
from imagesync.core.text import aligned, counted
from imagesync.inventory.inventory import LOOSE_CODE, Inventory, Kind

SCHEDULER = "scheduler"
"""Member name of a cluster's scheduler; workers are named by their addresses."""
_SHOWN = 8


class Group(str, Enum):
    """Result of comparing a package, in the order of precedence."""

    SAME = "same"
    WITHIN = "within its level"
    ONE_SIDED = "only on one side"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Parameters
    ----------
    name
        Name for messages, as the user wrote it if possible.
    members
        Inventories by member: scheduler and workers of a running cluster, otherwise one.
    silent
        Reasons of the members that didn't answer.
    """

    name: str
    members: Mapping[str, Inventory]
    silent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The state of a package that some members of a side share.

    Parameters
    ----------
    version, build
        Version and conda build; empty if it has none or isn't installed.
    content
        Digest of the sources of local code.
    members
        Names of the members; empty for all members of the side.
    present
        Whether the package is installed.
    """

    version: str
    build: str = ""
    content: str = ""
    members: tuple[str, ...] = ()
    present: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the state as documented JSON."""
        return {
            "present": self.present,
            "version": self.version or None,
            "build": self.build or None,
            "content": self.content or None,
            "members": list(self.members),
        }


@dataclass(frozen=True)
class Row:
    """One package on both sides.

    Parameters
    ----------
    name, kind
        As in the entries of the inventories.
    group
        Result of the comparison.
    level
        How closely the sides must match; ``None`` for loose code.
    left, right
        States of the package on each side.
    counts
        Whether it is critical, exact, nearest or local code and differs or is missing.
    intended
        Whether the difference is intended.
    local
        Whether it is local code.
    notes
        Explanations for the user.
    """

    name: str
    kind: Kind
    group: Group
    level: Level | None
    left: tuple[State, ...]
    right: tuple[State, ...]
    counts: bool = False
    intended: bool = False
    local: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the row as documented JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "group": self.group.value,
            "level": None if self.level is None else self.level.value,
            "counts": self.counts,
            "intended": self.intended,
            "local": self.local,
            "left": [state.to_dict() for state in self.left],
            "right": [state.to_dict() for state in self.right],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, repr=False)
class Comparison(NotebookValue):
    """The comparison of two sides.

    Parameters
    ----------
    left, right
        Names of the sides.
    rows
        All packages, sorted by name.
    silent
        Reasons of the cluster members that didn't answer.
    left_platforms, right_platforms
        The platforms of the members of each side, sorted; of several platforms only versions are compared.
    """

    left: str
    right: str
    rows: tuple[Row, ...]
    silent: Mapping[str, str] = field(default_factory=dict)
    left_platforms: tuple[str, ...] = ()
    right_platforms: tuple[str, ...] = ()

    @property
    def platforms_note(self) -> str:
        """Return the note that builds of several platforms aren't compared; empty for one platform."""
        if len({*self.left_platforms, *self.right_platforms}) < 2:
            return ""
        sides = ((self.left, self.left_platforms), (self.right, self.right_platforms))
        where = ", ".join(f"{name} is {' and '.join(platforms)}" for name, platforms in sides if platforms)
        return f"Compared by version, and not by build: {where}."

    def of(self, group: Group) -> tuple[Row, ...]:
        """Return the packages of one group."""
        return tuple(row for row in self.rows if row.group is group)

    @property
    def differences(self) -> tuple[Row, ...]:
        """Rows to report: packages that differ or that the right side lacks."""
        return tuple(row for row in self.rows if row.counts or _is_notable(row))

    def __str__(self) -> str:
        """Return the number of packages in each group, and a table of the differences."""
        rows = sorted(self.differences, key=lambda row: (not row.counts, row.name))
        table = aligned([self._headers, *map(_cells, rows)]) if rows else []
        return "\n".join((self._counts, *filter(None, [self.platforms_note]), *table))

    @property
    def _counts(self) -> str:
        groups = [f"{len(self.of(group))} {group.value}" for group in Group if self.of(group)]
        return f"{self.left} and {self.right}: {', '.join(groups)}"

    def _summary(self) -> str:
        return f"of {self._counts}"

    @property
    def _headers(self) -> tuple[str, ...]:
        return ("package", self.left, self.right, "level", "")

    def _tables(self) -> Iterator[Table]:
        silent = list(self.silent.items())
        yield Table(
            f"{counted(len(silent), 'member')} gave no answer", ("member", "reason"), silent, is_open=True
        )
        for group in reversed(Group):
            rows = sorted(self.of(group), key=lambda row: (not row.counts, row.intended, row.name))
            tones = ["bad" if row.counts else "warning" if _is_notable(row) else "" for row in rows]
            yield Table(
                f"{counted(len(rows), 'package')}: {group.value}",
                self._headers,
                [_cells(row) for row in rows],
                tones,
                is_open=any(tones),
            )

    @property
    def matches(self) -> bool:
        """Whether no critical, exact, nearest or local code differs or is missing."""
        return not any(row.counts for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as documented JSON (``docs/json.md``)."""
        return {
            "left": self.left,
            "right": self.right,
            "matches": self.matches,
            "groups": {group.value: len(self.of(group)) for group in Group},
            "packages": [row.to_dict() for row in self.rows],
            "silent": dict(self.silent),
            "platforms": {"left": list(self.left_platforms), "right": list(self.right_platforms)},
        }


def _is_notable(row: Row) -> bool:
    """Return ``True`` for a row to report although it doesn't count."""
    if row.intended or row.group is Group.SAME or row.group is Group.WITHIN:
        return False
    # Additional packages on the right side are harmless.
    return row.group is Group.DIFFERS or not all(state.present for state in row.right)


def summary(comparison: Comparison) -> str:
    """Return the differences as text, one per line, those that count first."""
    rows = sorted(comparison.differences, key=lambda row: (not row.counts, row.name))
    lines = [f"  {line}" for line in map(line, rows[:_SHOWN])]
    if len(rows) > _SHOWN:
        lines.append(f"  ... and {len(rows) - _SHOWN} more")
    head = f"{counted(len(rows), 'package')} of the {comparison.right} "
    head += "differs from the client:" if len(rows) == 1 else "differ from the client:"
    return "\n".join((head, *lines, *filter(None, [comparison.platforms_note])))


def remedy(comparison: Comparison, address: str) -> str:
    """Return the commands that resolve the differences.

    Parameters
    ----------
    comparison
        Comparison of client and cluster.
    address
        Address of the scheduler; empty if `imagesync diff` can't connect to it.
    """
    rows = comparison.differences
    lines = []
    if inconsistent := [row for row in rows if len(row.right) > 1]:
        names = ", ".join(row.name for row in inconsistent[:3])
        deviating = sorted({member for row in inconsistent for member in _deviating(row)})
        if SCHEDULER in deviating:
            action = "the scheduler can only be replaced with the whole cluster"
        else:
            action = f"start {_members(deviating, 3)} again, for example by client.restart_workers([...])"
        lines.append(f"The cluster's own members don't agree on {names}: {action}.")
    consistent = [row for row in rows if len(row.right) == 1]
    # Scheduler and workers run on critical packages, local or not.
    if any(row.local and row.level is not Level.CRITICAL for row in consistent):
        lines.append("To send your edits to the running cluster: imagesync.sync(client)")
    if consistent:
        lines.append("To start a cluster from an image of this environment: imagesync build")
    if address:
        lines.append(f"To see every package: imagesync diff local {address}")
    return "\n".join(lines)


def _deviating(row: Row) -> Iterator[str]:
    """Yield the members of a cluster that differ from the client."""
    wanted = {(state.version, state.content) for state in row.left}
    for state in row.right:
        if (state.version, state.content) not in wanted:
            yield from state.members


def line(row: Row) -> str:
    """Return the text of one package on both sides."""
    level = "local code" if row.local else (row.level or Level.COMPATIBLE).value
    notes = f": {'; '.join(row.notes)}" if row.notes else ""
    if row.name == LOOSE_CODE:
        return f"loose code{notes}"
    return f"{row.name} ({level}): {states(row.left)} here, {states(row.right)} there{notes}"


def _cells(row: Row) -> tuple[str, ...]:
    level = "local code" if row.local else "" if row.level is None else row.level.value
    return (row.name, states(row.left), states(row.right), level, "; ".join(row.notes))


def states(found: Sequence[State], *, shown: int = 2) -> str:
    """Return the text of a package's states on one side.

    >>> states([State("1.0", members=("scheduler", "tcp://a")), State("2.0", members=("tcp://b",))])
    '1.0 (scheduler, tcp://a), 2.0 (tcp://b)'
    """
    return ", ".join(_state(state, shown) for state in found)


def _state(state: State, shown: int) -> str:
    text = _text(state)
    return f"{text} ({_members(state.members, shown)})" if state.members else text


def _text(state: State) -> str:
    if not state.present:
        return "-"
    parts = [state.version, state.build, state.content.removeprefix("sha256:")[:12]]
    return " ".join(part for part in parts if part)


def _members(members: Sequence[str], shown: int) -> str:
    named: Iterable[str] = members[:shown]
    more = len(members) - shown
    return ", ".join((*named, f"{more} more")) if more > 0 else ", ".join(named)
