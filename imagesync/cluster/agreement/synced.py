"""The result of a synchronisation, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesync.core.text import counted, first_of

if TYPE_CHECKING:
    from imagesync.cluster.agreement.overlay import Unsynced
    from imagesync.inventory.comparison import Comparison

Held = Mapping[str, Mapping[str, str]]
"""Why processes can't forget changed modules: a reason by address and module."""
_NAMED = 3  # processes that a remark names


@dataclass(frozen=True)
class Synced:
    """The result of a synchronisation.

    Parameters
    ----------
    sent
        Names of the packages that were sent.
    unsynced
        Packages that can't be sent.
    restarted
        Addresses of restarted workers, which still held references to changed modules.
    remarks
        Further messages for the user.
    comparison
        Comparison of client and cluster afterwards.
    building, sending
        Seconds for making the wheels, and for everything else.
    """

    sent: tuple[str, ...]
    unsynced: tuple[Unsynced, ...]
    restarted: tuple[str, ...]
    remarks: tuple[str, ...]
    comparison: Comparison
    building: float
    sending: float

    def __str__(self) -> str:
        lines = [f"Sent: {', '.join(self.sent)}." if self.sent else "Nothing to send."]
        lines += [f"Not sent: {one.name}: {one.reason}; {one.hint}" for one in self.unsynced]
        if self.restarted:
            lines.append(f"Restarted: {', '.join(self.restarted)}.")
        return "\n".join((*lines, *self.remarks))


def irreplaceable_remark(lost: Mapping[str, int]) -> str:
    """Return why workers weren't restarted, from what would be lost."""
    reasons = []
    if lost["data"]:
        reasons.append(
            f"{counted(lost['data'], 'piece')} of data that can't be recomputed would be lost"
            " (scattered data, actors)"
        )
    if lost["pinned"]:
        reasons.append(
            f"{counted(lost['pinned'], 'task')} may run on these workers alone, by workers=, and could never"
            " run again, since a restarted worker has another address"
        )
    return (
        f"Workers weren't restarted: {'; '.join(reasons)}. sync(client, restart=True) restarts them anyway."
    )


def held_remarks(held: Held, packages: Mapping[str, str]) -> list[str]:
    """Return a line for each package that processes still have as it was."""
    found: dict[str, dict[str, str]] = {}
    for process, reasons in sorted(held.items()):
        for module, reason in reasons.items():
            found.setdefault(packages.get(module, module), {})[process] = reason
    return [_held_remark(package, reasons) for package, reasons in sorted(found.items())]


def _held_remark(package: str, reasons: Mapping[str, str]) -> str:
    named = first_of([*reasons], _NAMED)
    return f"Still with old modules of {package}: {named} ({next(iter(reasons.values()))})."
