"""What ``imagesync cache`` answers a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from imagesync.cli.section import Row, Section, print_sections
from imagesync.core.text import counted, format_size

if TYPE_CHECKING:
    from imagesync.store.prune import Usage


def print_usage(usage: Usage, stream: TextIO | None = None) -> None:
    """Print what the store takes, to stdout if no *stream* is given."""
    rows = (
        Row(("folder", str(usage.root))),
        Row(("artifacts", str(usage.files))),
        Row(("size", format_size(usage.size))),
    )
    print_sections([Section(title="store", rows=rows)], stream)


def print_pruned(removed: Usage, stream: TextIO | None = None) -> None:
    """Print what was removed from the store, to stdout if no *stream* is given."""
    text = f"{counted(removed.files, 'artifact')} removed, {format_size(removed.size)}"
    print_sections([Section(title="", notes=(text,))], stream)
