"""What ``imagesync cluster ls`` answers a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from imagesync.cli.section import Row, Section, print_sections

if TYPE_CHECKING:
    from imagesync.cluster.cleanup import FoundCluster

_HEADERS = ("cluster", "workers", "scheduler", "ends with", "image")


def print_clusters(clusters: Sequence[FoundCluster], stream: TextIO | None = None) -> None:
    """Print a table of clusters, leftovers marked, to stdout if no *stream* is given."""
    rows = tuple(
        Row(
            (
                cluster.name,
                str(cluster.workers),
                cluster.scheduler or "-",
                _end(cluster),
                cluster.image or "-",
            ),
            "warning" if cluster.is_leftover else "plain",
        )
        for cluster in clusters
    )
    notes = () if rows else ("no clusters",)
    if any(cluster.is_leftover for cluster in clusters):
        notes = ("Nobody can use what is left: imagesync cluster down --leftovers",)
    print_sections([Section("", _HEADERS, rows, frozenset({1}), notes)], stream)


def _end(cluster: FoundCluster) -> str:
    if cluster.is_leftover:
        return "leftover"
    owner = cluster.owner
    return "imagesync cluster down" if owner is None else f"process {owner.pid} on {owner.host}"
