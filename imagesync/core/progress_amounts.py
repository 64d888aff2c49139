"""How much of a task is done, in its unit."""

from __future__ import annotations

from imagesync.core.progress import Unit
from imagesync.core.text import counted, format_size


def format_total(amount: int, unit: Unit) -> str:
    """Return *amount* with its unit.

    >>> format_total(12_300_000, "bytes"), format_total(1, "packages"), format_total(4, "steps")
    ('12.3 MB', '1 package', '4 steps')
    """
    return format_size(amount) if unit == "bytes" else counted(amount, unit.removesuffix("s"))


def format_done(done: int, total: int | None, unit: Unit) -> str:
    """Return how much is done, out of *total* where that is known; empty while nothing can be said.

    >>> format_done(12_300_000, 130_000_000, "bytes"), format_done(3, 12, "packages")
    ('12.3/130.0 MB', '3/12 packages')
    """
    if not total:
        return format_total(done, unit) if done else ""
    if unit == "bytes":
        return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
    return f"{done}/{format_total(total, unit)}"
