"""``imagesync completion``: completion of commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, shell: str) -> None:
    """Print the completion script of SHELL.

    For bash: eval "$(imagesync completion bash)"
    """
    completer = get_completion_class(shell)
    if completer is not None:
        root = context.find_root().command
        click.echo(completer(root, {}, "imagesync", "_IMAGESYNC_COMPLETE").source())
