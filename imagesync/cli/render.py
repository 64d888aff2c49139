"""``imagesync render``: the build context of an image, as a folder."""

from __future__ import annotations

from pathlib import Path

import click

from imagesync.cli.options import PATH, platform_option, session_of, settings_options


@click.command()
@settings_options
@platform_option("Not repeatable")
@click.option("-o", "--output-dir", type=PATH, required=True, metavar="DIR", help="Folder to write to.")
@click.pass_context
def render(context: click.Context, /, output_dir: Path, **options: object) -> None:
    """Write the build context, which `docker build` accepts too."""
    session_of(context, options).render(output_dir)
    click.echo(output_dir)
