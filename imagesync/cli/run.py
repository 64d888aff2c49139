"""``imagesync run``: a command in the environment's image."""

from __future__ import annotations

import click

from imagesync.cli.options import invocation_of, platform_option, session_of, settings_options


# Everything after the command belongs to the command.
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-e", "--env", "variables", multiple=True, metavar="NAME[=VALUE]", help="Set an environment variable."
)
@click.option(
    "-p",
    "--publish",
    "ports",
    multiple=True,
    metavar="[HOST:]PORT",
    help="Publish a port of the container on loopback.",
)
@click.option(
    "-v",
    "--volume",
    "--mount",
    "mounts",
    multiple=True,
    metavar="SOURCE:TARGET[:ro]",
    help="Mount a folder or volume; also in the form type=bind,source=SOURCE,target=TARGET.",
)
@click.option("-u", "--user", default="", metavar="UID[:GID]", help="User; by default yours.")
@click.option("--network", default="", metavar="NAME", help="Network of the container.")
@click.option("--gpus", default="", metavar="GPUS", help="GPUs: all, a number, or device=IDS.")
@click.option("--shm-size", default="", metavar="SIZE", help="Size of /dev/shm; 1g by default.")
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open, as is always done.")
@click.option(
    "-t", "--tty", is_flag=True, default=None, help="Require a terminal; by default used if there is one."
)
@settings_options
@platform_option("Of several, the engine's counts")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    command: tuple[str, ...],
    variables: tuple[str, ...],
    ports: tuple[str, ...],
    mounts: tuple[str, ...],
    user: str,
    network: str,
    gpus: str,
    shm_size: str,
    tty: bool | None,
    **options: object,
) -> None:
    """Run COMMAND in the environment's image.

    This folder is mounted at /workspace. The image is built if it is missing. What follows COMMAND belongs
    to it, options included. The exit code is the command's.
    """
    # The duration would be that of the command.
    invocation_of(context).is_timed = False
    options.pop("interactive")
    session = session_of(context, options)
    code = session.run(
        command,
        variables=variables,
        ports=ports,
        mounts=mounts,
        user=user,
        network=network,
        gpus=gpus,
        shm_size=shm_size,
        tty=tty,
    )
    context.exit(code)
