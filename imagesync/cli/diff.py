"""``imagesync diff``: where two environments differ, package by package."""

from __future__ import annotations

import json
from pathlib import Path

import click

from imagesync.cli.options import format_option, settings_options

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@settings_options
@format_option
@click.option("--tls-ca-file", type=_FILE, metavar="FILE", help="Whose certificates a tls:// scheduler has.")
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="The certificate to show a tls:// scheduler.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="The key of that certificate.")
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
    tls_ca_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    **options: object,
) -> None:
    """Show where A and B differ, package by package; local code is compared by content.

    Each is `local` (the environment here), a lock (the file that `imagesync lock --format json` printed), an
    image (nothing is pulled), the folder of an environment, or the address of a running scheduler, tcp:// or
    tls://. Exit 1 if anything critical, exact or local differs.
    """
    from imagesync.cli.session import session_of
    from imagesync.cluster.agreement.connection import Certificates
    from imagesync.cluster.agreement.running import SCHEMES, read_scheduler
    from imagesync.diff.sources import find_side
    from imagesync.inventory.comparison import compare

    session = session_of(context, options)
    certificates = Certificates(tls_ca_file, tls_cert, tls_key)
    one, other = (
        read_scheduler(text, session=session, certificates=certificates)
        if text.startswith(SCHEMES)
        else find_side(text, session=session)
        for text in (left, right)
    )
    comparison = compare(one, other)
    if output == "json":
        click.echo(json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False))
    else:
        from imagesync.cli.comparison_tables import print_comparison

        print_comparison(comparison)
    context.exit(0 if comparison.matches else 1)
