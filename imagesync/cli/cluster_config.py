"""``imagesync cluster config``: configuration that starts Dask elsewhere, in the environment's image."""

from __future__ import annotations

from pathlib import Path

import click

from imagesync.cli.options import PATH, session_of, settings_options
from imagesync.core.files import write_text
from imagesync.deploy.configuration import (
    TARGETS,
    Target,
    environment_image,
    make_shape,
    pinned,
    render_configuration,
)
from imagesync.deploy.update import update_image
from imagesync.errors import UsageError
from imagesync.session import Session

_WIDTH = max(map(len, TARGETS))
# A backspace keeps click from filling the lines.
_TARGETS = "\b\nTargets:\n" + "\n".join(f"  {name:{_WIDTH}}  {each.what}" for name, each in TARGETS.items())


@click.command("config", epilog=_TARGETS)
@settings_options
@click.option("--image", metavar="REF", help="The image; by default that of the environment here.")
@click.option("--push", is_flag=True, default=None, help="Have the image in the registry first.")
@click.option("--name", metavar="NAME", default="dask", show_default=True, help="What to call the cluster.")
@click.option("-n", "--workers", type=click.IntRange(min=0), default=2, show_default=True, help="How many.")
@click.option("--nthreads", type=click.IntRange(min=1), default=1, show_default=True, help="Of each worker.")
@click.option("--memory-limit", metavar="SIZE", default="4GiB", show_default=True, help="Of each worker.")
@click.option("--pull-secret", metavar="NAME", help="Kubernetes' secret with the registry's credentials.")
@click.option("-o", "--output-file", type=PATH, metavar="FILE", help="Write it there.")
@click.option("--update", type=PATH, metavar="FILE", help="Change the image in this file, and nothing else.")
@click.option("--replacing", metavar="IMAGE", help="With --update: what stands there now, if not this one.")
@click.argument("target", type=click.Choice(list(TARGETS)), metavar="TARGET")
@click.pass_context
def config(  # noqa: PLR0917  click passes what the options say
    context: click.Context,
    /,
    target: str,
    image: str | None,
    name: str,
    workers: int,
    nthreads: int,
    memory_limit: str,
    pull_secret: str | None,
    output_file: Path | None,
    update: Path | None,
    replacing: str | None,
    **options: object,
) -> None:
    """Print what starts Dask on TARGET, in the environment's image by its digest.

    The image is built if it is missing.
    """
    if replacing is not None and update is None:
        raise click.UsageError("--replacing says what --update replaces: give that, too.")
    if update is not None and output_file is not None:
        raise click.UsageError("--update writes into its own file: take it or --output-file.")
    shape = make_shape(name=name, workers=workers, threads=nthreads, memory=memory_limit)
    before = None if update is None else _read(update)
    session = session_of(context, options)
    reference = _image(session, TARGETS[target], image)
    if update is not None and before is not None:
        _update(update, before, reference, replacing)
        return
    text = render_configuration(
        TARGETS[target],
        image=reference,
        shape=shape,
        pull_secret=pull_secret,
        templates=session.context.settings.templates,
    )
    if output_file is None:
        click.echo(text, nl=False)
        return

    write_text(output_file, text)
    click.echo(output_file)


def _image(session: Session, target: Target, image: str | None) -> str:
    if image is not None:
        return pinned(image, progress=session.context.progress)
    return environment_image(session, push=session.context.settings.push, local=target.local)


def _read(path: Path) -> str:
    try:
        # As bytes, because reading text would translate line endings.
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} isn't UTF-8: {error.reason}.") from error


def _update(path: Path, before: str, image: str, replacing: str | None) -> None:
    after = update_image(before, image, replacing=replacing, where=str(path))
    if after != before:
        write_text(path, after)
    click.echo(image)
