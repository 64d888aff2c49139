"""``imagesync run``: a command in the environment's image."""

from __future__ import annotations

import click

from imagesync.cli.options import invocation_of, session_of, settings_options


@click.command()
@settings_options
@click.option(
    "-e", "--env", "variables", multiple=True, metavar="NAME[=VALUE]", help="Set an environment variable."
)
@click.option(
    "-p", "--publish", "ports", multiple=True, metavar="PORT[:PORT]", help="Publish a port on loopback."
)
@click.argument("command", nargs=-1)
@click.pass_context
def run(
    context: click.Context,
    /,
    command: tuple[str, ...],
    variables: tuple[str, ...],
    ports: tuple[str, ...],
    **options: object,
) -> None:
    """Run COMMAND in the environment's image.

    This folder is mounted at /workspace. The image is built if it is missing. Put -- before a command that
    has options of its own. The exit code is the command's. A port is given as [HOST:]CONTAINER.
    """
    # The duration would be that of the command.
    invocation_of(context).is_timed = False
    context.exit(session_of(context, options).run(command, variables=variables, ports=ports))
