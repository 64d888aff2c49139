"""``imagesync build``: the image of an environment, once or again on every change."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagesync.cli.by_platform import for_each
from imagesync.cli.options import (
    LOCK_FILE,
    PATH,
    from_option,
    invocation_of,
    locked_option,
    platform_option,
    selection_options,
    session_of,
    settings_options,
)
from imagesync.cli.output import print_error
from imagesync.core.files import write_text

if TYPE_CHECKING:
    from imagesync.errors import ImagesyncError
    from imagesync.image.built_image import Image
    from imagesync.lock.lockfile.models import Selection
    from imagesync.session import Session


@click.command()
@settings_options
@platform_option()
@click.option("-t", "--tag", "tags", multiple=True, metavar="REF", help="Add a name to the image.")
@click.option("--push", is_flag=True, default=None, help="Push the image to the registry in --repository.")
@click.option("--cache-from", metavar="REPO", help="Take layers that others have pushed to a repository.")
@click.option(
    "--attest", is_flag=True, default=None, help="Attach an SBOM and provenance to the pushed image."
)
@click.option("--no-cache", is_flag=True, help="Build even if the image exists.")
@locked_option
@from_option
@selection_options
@click.option(
    "--metadata-file", type=PATH, metavar="FILE", help="Write a description of the image to a file, as JSON."
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="PLACE",
    help="Also put the image in oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker or registry.",
)
@click.option("--watch", is_flag=True, help="Rebuild on every change, until Ctrl-C.")
@click.pass_context
def build(
    context: click.Context,
    /,
    tags: tuple[str, ...],
    outputs: tuple[str, ...],
    metadata_file: Path | None,
    locked: Path | None,
    *,
    manifest: Path | None,
    selection: Selection | None,
    no_cache: bool,
    watch: bool,
    **options: object,
) -> None:
    """Build or find the environment's image, and print its reference."""
    if locked is not None and manifest is not None:
        raise click.UsageError("--from makes a lock file, and --locked names one: take one of them.")
    if not watch:
        session = session_of(context, options)
        if manifest is not None:
            locked, selection = _lock_beside(session, manifest, selection), None
        image = session.build(
            tags=tags, no_cache=no_cache, locked=locked, selection=selection, outputs=outputs
        )
        _print_image(image, metadata_file)
        return
    if no_cache or locked is not None or manifest is not None:
        other = "--no-cache" if no_cache else "--locked" if manifest is None else "--from"
        raise click.UsageError(f"{other} builds once, and --watch again and again: take one of them.")
    watched = session_of(context, options).context
    if (configured := watched.settings.locked) is not None:
        raise click.UsageError(
            f"--watch follows the environment, and `locked` in the settings names a lock file, {configured}."
        )
    invocation_of(context).is_timed = False
    from imagesync.cli.watch import rebuild_on_change

    images = rebuild_on_change(
        lambda: session_of(context, options),
        build=lambda session: session.build(tags=tags, outputs=outputs),
        on_error=_print_and_wait,
    )
    # Ctrl-C is the normal way to end this loop.
    with suppress(KeyboardInterrupt):
        for image in images:
            _print_image(image, metadata_file)


def _lock_beside(session: Session, path: Path, selection: Selection | None) -> Path:
    """Return the lock file beside the manifest at *path*, which is solved now for each platform.

    Raises
    ------
    UsageError
        Another tool's lock file is there.
    """
    from imagesync.errors import UsageError
    from imagesync.lock.lockfile.read import is_ours
    from imagesync.lock.lockfile.save import form_of, require, save
    from imagesync.lock.manifest_files import read_manifest

    sessions = session.for_platforms(scans=False)
    wanted = {
        platform: read_manifest(path, selection, platform=platform) for platform in session.context.platforms
    }
    beside = path.parent / (LOCK_FILE if any(each.conda for each in wanted.values()) else "pylock.toml")
    if beside.is_file() and not is_ours(beside):
        raise UsageError(
            f"{beside} is there, and another tool wrote it.",
            hint=f"Build from it (imagesync build --locked {beside}), or lock into another file: "
            f"imagesync lock --from {path} -o FILE",
        )
    form = form_of(beside)
    require(form, beside)
    solved = for_each(
        sessions,
        lambda each: each.solve(wanted[each.context.platform], with_pip=form == "conda-lock"),
        what="Lock",
    )
    save(tuple(solved.values()), beside, form)
    session.context.progress.line(f"Wrote {beside}")
    return beside


def _print_and_wait(error: ImagesyncError) -> None:
    print_error(error)
    click.echo("Waiting for changes; press Ctrl-C to stop.", err=True)


def _print_image(image: Image, metadata_file: Path | None) -> None:
    if metadata_file is not None:
        write_text(metadata_file, json.dumps(image.to_dict(), indent=2) + "\n")
    click.echo(image.reference)
