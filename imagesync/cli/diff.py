"""``imagesync diff``: where two environments differ, package by package."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click

from imagesync.cli.options import format_option, platform_option, session_of, settings_options
from imagesync.cli.output import print_json
from imagesync.cli.tables import Row as TableRow
from imagesync.cli.tables import Section, Tone, print_sections
from imagesync.cluster.agreement.members import SCHEMES, Certificates, read_scheduler
from imagesync.core.terminal import is_interactive
from imagesync.core.text import counted
from imagesync.diff.sides import find_sides
from imagesync.errors import ImagesyncError
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Comparison, Group, Row, states

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_TITLES = {
    Group.DIFFERS: "differs",
    Group.ONE_SIDED: "only on one side",
    Group.WITHIN: "another version, within its level",
    Group.SAME: "the same",
}


@click.command()
@settings_options
@platform_option("Of several, this machine's counts")
@format_option
@click.option("--all", "every", is_flag=True, help="List packages that are the same, too, as in a pipe.")
@click.option(
    "--tls-ca-file", type=_FILE, metavar="FILE", help="Certificate authority of a tls:// scheduler."
)
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="Client certificate for a tls:// scheduler.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="Key of the client certificate.")
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@click.pass_context
def diff(
    context: click.Context,
    /,
    left: str,
    right: str,
    *,
    output: str,
    every: bool,
    tls_ca_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    **options: object,
) -> None:
    """Compare A and B, package by package.

    Local code is compared by content. Each side is `local` (the environment here), a lock (the file that
    `imagesync lock --format json` printed), an image (nothing is pulled; also oci:DIR[:TAG],
    oci-archive:FILE, docker-archive:FILE), the folder of an environment, or the address of a running
    scheduler, tcp:// or tls://. Sides of two platforms are compared by version. Exit 1 if anything
    critical, exact, nearest or local differs, and 2 if the sides can't be compared.
    """
    try:
        session = session_of(context, options)
        certificates = Certificates(tls_ca_file, tls_cert, tls_key)
        clusters = {
            text: read_scheduler(text, session=session, certificates=certificates)
            for text in (left, right)
            if text.startswith(SCHEMES)
        }
        one, other = find_sides(left, right, session=session, known=clusters)
    except ImagesyncError as error:
        # As with diff(1): 1 says that the sides differ.
        error.exit_code = 2
        raise
    comparison = compare(one, other)
    if output == "json":
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison, every=every)
    context.exit(0 if comparison.matches else 1)


def print_comparison(comparison: Comparison, stream: TextIO | None = None, *, every: bool = False) -> None:
    """Print a comparison, to stdout by default.

    A terminal gets packages that are the same only if *every* package is to be listed.
    """
    short = is_interactive(sys.stdout if stream is None else stream) and not every
    print_sections(comparison_sections(comparison, short=short), stream)


def comparison_sections(comparison: Comparison, *, short: bool = False) -> tuple[Section, ...]:
    """Return the tables of a comparison: differences first, and among them the critical ones."""
    groups = [group for group in _TITLES if not (short and group is Group.SAME)]
    sections = [_group_section(comparison, group) for group in groups]
    if comparison.silent:
        rows = tuple(TableRow((member, why), "warning") for member, why in comparison.silent.items())
        sections.append(
            Section("gave no answer", ("member", "reason"), rows, tone="warning", shared=1, wraps=True)
        )
    return (*(section for section in sections if section.rows), _summary(comparison))


def _group_section(comparison: Comparison, group: Group) -> Section:
    rows = sorted(comparison.of(group), key=lambda row: (not row.counts, row.intended, row.name))
    counting = sum(row.counts for row in rows)
    title = f"{_TITLES[group]} ({len(rows)}"
    title += f", of which {counting} critical, exact, nearest or local code)" if counting else ")"
    tone: Tone = "bad" if counting else "plain"
    headers = ("package", comparison.left, comparison.right, "level", "")
    return Section(title, headers, tuple(_table_rows(rows)), tone=tone, shared=4, optional=(3,), wraps=True)


def _table_rows(rows: Iterable[Row]) -> Iterable[TableRow]:
    for row in rows:
        level = "local code" if row.local else "" if row.level is None else row.level.value
        cells = (row.name, states(row.left), states(row.right), level, "; ".join(row.notes))
        tone: Tone = "plain" if row.group is Group.SAME else "warning"
        yield TableRow(cells, "bad" if row.counts else "quiet" if row.intended else tone)


def _summary(comparison: Comparison) -> Section:
    numbers = {group: len(comparison.of(group)) for group in Group}
    parts = [f"{number} {group.value}" for group, number in numbers.items() if number]
    total = counted(sum(numbers.values()), "package")
    verdict = (
        "Nothing that is critical, exact, nearest or local code differs."
        if comparison.matches
        else "They don't match: something critical, exact, nearest or local differs."
    )
    notes = (f"{total}: {', '.join(parts)}" if parts else total, comparison.platforms_note, verdict)
    return Section("", notes=tuple(filter(None, notes)))
