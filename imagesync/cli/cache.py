"""``imagesync cache``: the size of the cache folder, and its pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.options import Group, cache_option, format_option, session_of
from imagesync.cli.output import print_json
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.core.text import counted, format_size

if TYPE_CHECKING:
    from imagesync.store.prune import Total, Usage


@click.group(cls=Group)
def cache() -> None:
    """Show the size of the cache folder, or prune it."""


@cache.command("info")
@format_option
@cache_option
@click.pass_context
def info(context: click.Context, /, output: str, **options: object) -> None:
    """Show the location and the size of the cache folder."""
    usage = session_of(context, options).context.store.usage()
    if output == "json":
        print_json(usage.to_dict())
    else:
        print_usage(usage)


@cache.command("prune")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    metavar="DAYS",
    help="Keep files that were used in the last DAYS days.",
)
@format_option
@cache_option
@click.pass_context
def prune(context: click.Context, /, output: str, older_than: int | None, **options: object) -> None:
    """Remove artifacts, cache entries and logs; later commands fetch again what they need."""
    seconds = None if older_than is None else older_than * 86_400
    removed = session_of(context, options).context.store.prune(older_than=seconds)
    if output == "json":
        print_json(removed.to_dict())
    else:
        print_removed(removed)


def print_usage(usage: Usage, stream: TextIO | None = None) -> None:
    """Print the size of the cache folder, to stdout by default."""
    rows = (
        Row(("folder", str(usage.root))),
        Row(("artifacts", _text(usage.artifacts))),
        Row(("cache entries", _text(usage.caches))),
        Row(("logs", _text(usage.logs))),
    )
    print_sections([Section(title="cache", rows=rows)], stream)


def print_removed(removed: Usage, stream: TextIO | None = None) -> None:
    """Print the number and size of removed files, to stdout by default."""
    totals = (("artifact", removed.artifacts), ("cache entry", removed.caches), ("log", removed.logs))
    notes = tuple(
        f"{counted(total.files, noun)} removed, {format_size(total.size)}"
        for noun, total in totals
        if total.files or noun == "artifact"
    )
    print_sections([Section(title="", notes=notes)], stream)


def _text(total: Total) -> str:
    return f"{total.files}, {format_size(total.size)}"
