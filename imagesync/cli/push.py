"""``imagesync push``: an image that was built without an engine, to a registry."""

from __future__ import annotations

import click

from imagesync.cli.options import cache_option, session_of
from imagesync.core.text import format_size


@click.command()
@cache_option
@click.option("--repository", metavar="NAME", help="Repository to push to, without a tag.")
@click.argument("image")
@click.argument("target", required=False, default="")
@click.pass_context
def push(context: click.Context, /, image: str, target: str, **options: object) -> None:
    """Push an image that was built without an engine to a registry.

    IMAGE is what `imagesync build --builder oci` printed, or oci:DIR[:TAG], oci-archive:FILE,
    docker-archive:FILE. TARGET is the reference in the registry, by default IMAGE itself or --repository.
    Only layers that the registry lacks are sent. Prints the reference with its digest.
    """
    from imagesync.pipeline.local_images import push_local_image

    session = session_of(context, options)
    pushed = push_local_image(image, target, context=session.context)
    progress = session.context.progress
    if pushed.was_there:
        progress.line("The registry has it already.")
    else:
        mounted = f", mounted {format_size(pushed.mounted)}" if pushed.mounted else ""
        progress.line(f"Sent {format_size(pushed.sent)}{mounted}")
    click.echo(pushed.reference)
