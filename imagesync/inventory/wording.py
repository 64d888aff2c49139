"""A comparison as text: the differences, and how to resolve them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from imagesync.core.names import Level
from imagesync.core.text import counted
from imagesync.inventory.comparison import SCHEDULER, Comparison, Row, State
from imagesync.inventory.inventory import LOOSE_CODE

_SHOWN = 8


def summary(comparison: Comparison) -> str:
    """Return the differences as text, one per line, those that count first."""
    rows = sorted(comparison.differences, key=lambda row: (not row.counts, row.name))
    lines = [f"  {line}" for line in map(line, rows[:_SHOWN])]
    if len(rows) > _SHOWN:
        lines.append(f"  ... and {len(rows) - _SHOWN} more")
    head = f"{counted(len(rows), 'package')} of the {comparison.right} "
    head += "isn't what the client has:" if len(rows) == 1 else "aren't what the client has:"
    return "\n".join((head, *lines))


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
    if any(row.local for row in consistent):
        lines.append("To send what you edited to the running cluster: imagesync.sync(client)")
    if consistent:
        lines.append("To start a cluster from an image that has what you have: imagesync build")
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
        return f"the code that no package owns{notes}"
    return f"{row.name} ({level}): {states(row.left)} here, {states(row.right)} there{notes}"


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
