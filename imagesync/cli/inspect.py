"""``imagesync inspect``: environment, layers by size and owner, base and attestations of an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagesync.cli.options import PATH, cache_option, format_option, session_of
from imagesync.cli.output import print_json
from imagesync.cli.tables import Row, Section, print_sections
from imagesync.core.files import write_text
from imagesync.core.text import counted, format_size

if TYPE_CHECKING:
    from imagesync.image.image_report import ImageReport


@click.command()
@cache_option
@format_option
@click.option("--html", type=PATH, metavar="FILE", help="Write a page with a map of the sizes to a file.")
@click.argument("image")
@click.pass_context
def inspect(context: click.Context, /, image: str, output: str, html: Path | None, **options: object) -> None:
    """Show the environment, the layers and the base of an image.

    IMAGE is a reference, in the engine or a registry, or oci:DIR[:TAG], oci-archive:FILE,
    docker-archive:FILE. Nothing of its layers is pulled.
    """
    from imagesync.pipeline.image_reports import read_report

    report = read_report(image, session_of(context, options).context)
    if html is not None:
        from imagesync.image.report_page import report_page

        write_text(html, report_page(report))
    if output == "json":
        print_json(report.to_dict())
    else:
        print_sections(report_sections(report))


def report_sections(report: ImageReport) -> Iterator[Section]:
    """Yield the tables of a report."""
    yield Section("", rows=tuple(_facts(report)))
    yield _layers(report)
    if report.deviations:
        rows = tuple(
            Row((each.name, each.local or "-", each.outcome, each.level.value, each.reason))
            for each in report.deviations
        )
        headers = ("package", "there", "in the image", "level", "reason")
        title = f"{counted(len(rows), 'deviation')} from the environment that the image was made of"
        yield Section(title, headers, rows, tone="warning")
    if report.attestations:
        rows = tuple(Row((each.kind, each.digest)) for each in report.attestations)
        yield Section(counted(len(rows), "attestation"), ("type", "digest"), rows)


def _facts(report: ImageReport) -> Iterator[Row]:
    yield Row(("image", report.reference))
    yield Row(("digest", report.digest))
    yield Row(("platform", report.platform))
    if report.created:
        yield Row(("created", report.created))
    if report.base:
        digest = f"@{report.base_digest}" if report.base_digest else ""
        yield Row(("base", report.base if "@" in report.base else f"{report.base}{digest}"))
    if report.environment_hash:
        yield Row(("environment", report.environment_hash))
        yield Row(("lock", report.lock_digest))
        yield Row(("built by", f"imagesync {report.version}"))
    else:
        yield Row(("environment", "none of imagesync's"), "warning")
    if report.inventory is not None:
        entries = report.inventory.entries
        python = next((entry.version for entry in entries if entry.kind == "python"), "")
        count = sum(entry.kind != "python" and not entry.left_out for entry in entries)
        yield Row(("packages", f"{counted(count, 'package')}, Python {python}"))
    kind = "compressed" if report.is_compressed else "unpacked"
    parts = (f"{owner} {format_size(report.size_of(owner))}" for owner in ("base", "environment"))
    yield Row(("size", f"{format_size(report.size)} {kind}: {', '.join(parts)}"))


def _layers(report: ImageReport) -> Section:
    ordered = sorted(report.layers, key=lambda layer: -layer.size)
    rows = tuple(
        Row(
            (format_size(layer.size), _share(layer.size, report.size), layer.owner, layer.description or "-"),
            "quiet" if layer.owner == "base" else "plain",
        )
        for layer in ordered
    )
    headers = ("size", "share", "owner", "content")
    return Section(counted(len(rows), "layer"), headers, rows, right=frozenset({0, 1}), optional=(1,))


def _share(size: int, total: int) -> str:
    return f"{100 * size / total:.0f} %" if total else "-"
