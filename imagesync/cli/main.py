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

# The summary of each command, which stands in the module of its name, under its name.
SUMMARIES: Final = {
    "build": "Build the environment's image, or find it, and print its reference.",
    "cache": "Look at the cache folder, or make room in it.",
    "cluster": "Start Dask clusters that outlive a script, look at them, end them.",
    "completion": "Print the completion script of SHELL.",
    "diff": "Show where A and B differ, package by package; local code is compared by content.",
    "doctor": "Say what is there and what is missing, and how to mend it.",
    "init": "Write commented settings into this folder's pyproject.toml, or into imagesync.toml.",
    "lock": "Find the exact artifact of each package for the image.",
    "plan": "Show what the image will hold and why; nothing is fetched.",
    "render": "Write the whole build context, which plain `docker build` accepts too.",
    "run": "Run COMMAND in the environment's image, with this folder mounted.",
    "scan": "Show what is installed here, and where each package came from.",
}


def main() -> NoReturn:
    """Run the command line, and exit with the code of its command or of the error that ended it."""
    # A terminated process unwinds like an interrupted one, so that it leaves nothing in the engine.
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
        # The reader has gone, as in `imagesync scan | head`; Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


class _LazyGroup(click.Group):
    """A group that imports a command when it is called; until then its summary stands for it."""

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
@click.option("-q", "--quiet", is_flag=True, help="Print the answer alone: no progress, no remarks.")
@click.pass_context
def cli(context: click.Context, /, *, quiet: bool) -> None:
    """Your local Python environment becomes an OCI image.

    scan and plan show what would go into it, build makes it, run uses it.
    """
    context.obj = quiet
