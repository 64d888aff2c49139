"""``imagesync verify``: whether an image is what its environment or lock file gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagesync.cli.options import locked_option, selection_options, session_of, settings_options
from imagesync.errors import VerifyError

if TYPE_CHECKING:
    from imagesync.lock.lockfile.models import Selection


@click.command()
@settings_options
@locked_option
@selection_options
@click.argument("image")
@click.pass_context
def verify(
    context: click.Context,
    /,
    image: str,
    locked: Path | None,
    *,
    selection: Selection | None,
    **options: object,
) -> None:
    """Build an image again, and compare it with the one that is there.

    IMAGE was built without a container engine: a reference in a registry or of `imagesync build`, or
    oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE. Prints it with its digest if the digests are the
    same; else exits with 1, and names the first file that differs.
    """
    found = session_of(context, options).verify(image, locked=locked, selection=selection)
    if found.difference:
        raise VerifyError(
            f"What was built again differs from {found.reference}: {found.difference}.",
            hint="Another version of imagesync, or of a library that compresses, gives other bytes, too;"
            " `imagesync inspect` shows by which version it was built.",
        )
    click.echo(found.reference)
