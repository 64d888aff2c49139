"""The entry point: the group of commands, and exit codes for the errors they raise."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import click

from imagesync.cli.options import Group, Invocation, invocation_of
from imagesync.cli.output import print_error
from imagesync.cli.suggestions import hint_for
from imagesync.core.credentials import redact
from imagesync.core.interruption import INTERRUPTED, Interruption
from imagesync.core.progress import Severity
from imagesync.errors import ImagesyncError

_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
# What the SDK has ssh run on the engine's machine: clean-up removes containers by it.
_ENGINE_CONNECTION: Final = "docker system dial-stdio"

# The groups of commands in the help.
HEADINGS: Final = {
    "Look": ("scan", "plan", "diff", "inspect", "verify"),
    "Build": ("lock", "build", "push", "render"),
    "Run": ("run",),
    "Cluster": ("cluster",),
    "Maintain": ("doctor", "init", "cache", "completion"),
}
# The summary of each command, which is a function of the same name in a module of the same name.
SUMMARIES: Final = {
    "build": "Build or find the environment's image, and print its reference.",
    "cache": "Show the size of the cache folder, or prune it.",
    "cluster": "Start, list and end Dask clusters that outlive a script.",
    "completion": "Print the completion script of SHELL.",
    "diff": "Compare A and B, package by package.",
    "doctor": "Check what a build needs, and how to fix what is missing.",
    "init": "Write commented settings to pyproject.toml or imagesync.toml.",
    "inspect": "Show the environment, the layers and the base of an image.",
    "lock": "Find the exact artifact of each package for the image.",
    "plan": "Show the packages of the image, and the reasons.",
    "push": "Push an image that was built without an engine to a registry.",
    "render": "Write the build context, which `docker build` accepts too.",
    "run": "Run COMMAND in the environment's image.",
    "scan": "Show the installed packages and the source of each.",
    "verify": "Build an image again, and compare it with the one that is there.",
}


def main() -> NoReturn:
    """Run the command line, and exit with the code of its command or of the error that ended it."""
    interruption = Interruption(connection=_ENGINE_CONNECTION)
    interruption.install()
    _open_closed_streams()
    code = _run(Invocation(interruption=interruption), interruption)
    if interruption.code is not None and code != 0:
        # Not by `sys.exit`, which would wait for the threads of what was interrupted.
        interruption.end(interruption.code)
    sys.exit(code)


def _run(invocation: Invocation, interruption: Interruption) -> int:
    """Run the command, report the error that ended it, and return the exit code."""
    try:
        code = cli(standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        invocation.report_duration()
    except (Exception, KeyboardInterrupt) as error:
        if interruption.code is None and not isinstance(error, (KeyboardInterrupt, click.Abort)):
            return _report(error, invocation)
        with suppress(OSError):
            click.echo("interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _report(error: Exception, invocation: Invocation) -> int:
    """Print an error, and return the exit code; what isn't expected is raised again."""
    if isinstance(error, ImagesyncError):
        print_error(error)
        return error.exit_code
    if isinstance(error, click.ClickException):
        error.show()
        if hint := hint_for(error):
            click.echo(f"hint: {hint}", err=True)
        return 2
    if not isinstance(error, OSError):
        raise error
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        # As in `imagesync scan | head`.
        _discard_output()
        return 0
    if invocation.least is Severity.TRACE:
        import traceback

        traceback.print_exception(error)
    print_error(_system_error(error))
    return ImagesyncError.exit_code


def _open_closed_streams() -> None:
    """Open the standard streams that the parent process has closed (``>&-``).

    Otherwise the next file to be opened would become the output of every program that is run. stdout is
    opened for reading, so that an answer written to it is an error rather than lost; messages are dropped.
    """
    for name, descriptor, flags in (
        ("stdin", 0, os.O_RDONLY),
        ("stdout", 1, os.O_RDONLY),
        ("stderr", 2, os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, flags), descriptor)
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def _reader_is_gone() -> bool:
    """Return True if stdout is a pipe that nobody reads; other pipes and sockets break, too."""
    import select

    if sys.platform == "win32":  # it has no poll
        return True
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _discard_output() -> None:
    """Send what is left of the output nowhere, so that Python doesn't report it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _system_error(error: OSError) -> ImagesyncError:
    """Return the error for what the system refuses: a write to stdout, the working folder, a file."""
    reason = error.strerror or str(error)
    with suppress(OSError):
        sys.stdout.flush()
    _discard_output()
    try:
        Path.cwd()
    except OSError:
        hint = "Change to a folder that exists: cd"
        return ImagesyncError(f"The working folder can't be used: {reason}.", hint=hint)
    if error.errno == errno.EBADF:
        return ImagesyncError(
            "The output can't be written: stdout is closed.", hint="Send it to a file, or to /dev/null."
        )
    if error.errno in _WRITE_ERRORS:
        hint = "Check where stdout is redirected to, and the disks of the cache folder and of TMPDIR."
        return ImagesyncError(f"The output or a file can't be written: {reason}.", hint=hint)
    where = f"{error.filename}: " if error.filename else ""
    return ImagesyncError(redact(f"{where}{reason}."), hint="`imagesync -vv` shows where that happened.")


class _LazyGroup(Group):
    """A group that imports a command's module only to run the command or show its help."""

    headings = HEADINGS

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
@click.option("-q", "--quiet", is_flag=True, help="Print only the result, warnings and deviations.")
@click.option(
    "-v", "--verbose", count=True, help="Print requests and commands, too; -vv their answers and output."
)
@click.pass_context
def cli(context: click.Context, /, *, quiet: bool, verbose: int) -> None:
    """Your local Python environment becomes an OCI image.

    scan and plan show what would go into it, build makes it, run uses it.
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    invocation = invocation_of(context)
    if quiet:
        invocation.least = Severity.DEVIATION
    elif verbose:
        invocation.least = Severity.DETAIL if verbose == 1 else Severity.TRACE
