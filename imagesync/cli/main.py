"""The entry point: the group of commands, and exit codes for the errors they raise."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from imagesync.cli.output import print_error
from imagesync.cli.suggestions import hint_for
from imagesync.errors import ImagesyncError

INTERRUPTED = 130  # what a shell reports for a command that SIGINT ended
TERMINATED = 143  # and for SIGTERM

# The summary of each command, which is a function of the same name in a module of the same name.
SUMMARIES: Final = {
    "build": "Build or find the environment's image, and print its reference.",
    "cache": "Show the size of the cache folder, or prune it.",
    "cluster": "Start, list and end Dask clusters that outlive a script.",
    "completion": "Print the completion script of SHELL.",
    "diff": "Compare A and B, package by package.",
    "doctor": "Check what a build needs, and how to fix what is missing.",
    "init": "Write commented settings to pyproject.toml or imagesync.toml.",
    "lock": "Find the exact artifact of each package for the image.",
    "plan": "Show the packages of the image, and the reasons.",
    "render": "Write the build context, which `docker build` accepts too.",
    "run": "Run COMMAND in the environment's image.",
    "scan": "Show the installed packages and the source of each.",
}


def main() -> NoReturn:
    """Run the command line, and exit with the code of its command or of the error that ended it."""
    # Unwind on SIGTERM as on an interrupt, so that nothing is left in the engine.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        code = cli(standalone_mode=False)
    except ImagesyncError as error:
        print_error(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        if hint := hint_for(error):
            click.echo(f"hint: {hint}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe, as in `imagesync scan | head`; keep Python from reporting it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


class _LazyGroup(click.Group):
    """A group that imports a command's module only to run the command or show its help."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None:
            command = getattr(import_module(f"imagesync.cli.{name}"), name)
        return name, command, rest


@click.group(
    cls=_LazyGroup,
    commands=[click.Command(name, help=summary) for name, summary in SUMMARIES.items()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(None, "-V", "--version", package_name="imagesync", message="%(package)s %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="Print only the result, without progress and notes.")
@click.pass_context
def cli(context: click.Context, /, *, quiet: bool) -> None:
    """Your local Python environment becomes an OCI image.

    scan and plan show what would go into it, build makes it, run uses it.
    """
    context.obj = quiet
