"""What ``imagesync lock --check`` answers a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from imagesync.cli.section import Row, Section, print_sections
from imagesync.core.text import counted

if TYPE_CHECKING:
    from imagesync.lock.lockfile.check import Difference


def print_moved(moved: Sequence[Difference], stream: TextIO | None = None) -> None:
    """Print which packages have moved since a lock was made, to stdout if no *stream* is given."""
    rows = tuple(
        Row((each.name, each.manager, each.locked or "-", each.here or "-", each.reason), "warning")
        for each in moved
    )
    headers = ("package", "manager", "locked", "here", "what")
    print_sections([Section(f"{counted(len(rows), 'package')} moved", headers, rows, tone="warning")], stream)
