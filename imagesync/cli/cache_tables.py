"""What ``imagesync cache`` answers a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from imagesync.cli.section import Row, Section, print_sections
from imagesync.core.text import counted, format_size

if TYPE_CHECKING:
    from imagesync.store.prune import Total, Usage


def print_usage(usage: Usage, stream: TextIO | None = None) -> None:
    """Print what the cache folder takes, to stdout if no *stream* is given."""
    rows = (
        Row(("folder", str(usage.root))),
        Row(("artifacts", _text(usage.artifacts))),
        Row(("cache entries", _text(usage.caches))),
        Row(("logs", _text(usage.logs))),
    )
    print_sections([Section(title="cache", rows=rows)], stream)


def print_pruned(removed: Usage, stream: TextIO | None = None) -> None:
    """Print what was removed from the cache folder, to stdout if no *stream* is given."""
    totals = (("artifact", removed.artifacts), ("cache entry", removed.caches), ("log", removed.logs))
    notes = tuple(
        f"{counted(total.files, noun)} removed, {format_size(total.size)}"
        for noun, total in totals
        if total.files or noun == "artifact"
    )
    print_sections([Section(title="", notes=notes)], stream)


def _text(total: Total) -> str:
    return f"{total.files}, {format_size(total.size)}"
