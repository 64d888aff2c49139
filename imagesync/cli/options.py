"""Options that several commands share, and the session that they describe.

An option that sets a setting is ``None`` or empty by default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from imagesync.core.interruption import Interruption
from imagesync.core.platforms import DEFAULT_PLATFORM, PLATFORMS
from imagesync.core.progress import Progress, Severity
from imagesync.core.terminal import make_progress
from imagesync.core.text import format_duration

if TYPE_CHECKING:
    from imagesync.session import Session

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
LOCK_FILE = "conda-lock.yml"
"""Default name of a lock file."""


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


environment_options = _all(
    click.option("--python", type=PATH, metavar="PATH", help="Use the environment of this interpreter."),
    click.option(
        "--prefix",
        type=PATH,
        metavar="DIR",
        help="Use the environment in this folder; only its files are read.",
    ),
)

format_option = click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Output format.",
)

cache_option = click.option("--cache-dir", type=PATH, metavar="DIR", help="Cache folder.")

settings_options = _all(
    environment_options,
    click.option(
        "--strict", is_flag=True, default=None, help="Fail unless every package has its local version."
    ),
    click.option("--profile", metavar="NAME", help="Profile of critical packages: auto, dask, ray or none."),
    click.option("--ignore", multiple=True, metavar="NAME", help="Leave a package out."),
    click.option(
        "--only", multiple=True, metavar="NAME", help="Include only this package and its dependencies."
    ),
    click.option(
        "--level", "levels", multiple=True, metavar="NAME=LEVEL", help="Set the level of a package."
    ),
    click.option("--add-pip", multiple=True, metavar="REQUIREMENT", help="Add a package to the image alone."),
    click.option(
        "--add-conda", multiple=True, metavar="SPEC", help="Add a conda package to the image alone."
    ),
    click.option(
        "--channel",
        "channels",
        multiple=True,
        metavar="CHANNEL",
        help="Conda channel; by default those of the environment.",
    ),
    click.option(
        "--modified",
        type=click.Choice(["ship", "index", "error"]),
        default=None,
        help="Treatment of packages whose installed files were changed.",
    ),
    click.option(
        "--code",
        type=PATH,
        multiple=True,
        metavar="PATH",
        help="Add a folder or module that belongs to no package.",
    ),
    click.option("--code-max-size", metavar="SIZE", help="Maximum size of --code, such as 50MB."),
    click.option(
        "--no-isolation", multiple=True, metavar="NAME", help="Build a package without build isolation."
    ),
    click.option(
        "--no-build", is_flag=True, default=None, help="Run no build back-end; fail if a package needs one."
    ),
    click.option("--apt", multiple=True, metavar="PACKAGE", help="Install a Debian package in the image."),
    click.option("--base", metavar="REF", help="Root image."),
    click.option(
        "--builder",
        type=click.Choice(["auto", "docker", "oci"]),
        default=None,
        help="Builder of images; oci needs no container engine.",
    ),
    click.option(
        "--skip-scripts",
        is_flag=True,
        default=None,
        help="Without an engine: leave out what post-link scripts of conda packages do.",
    ),
    click.option("--target-python", metavar="VERSION", help="Python version of --base."),
    click.option("--target-glibc", metavar="VERSION", help="glibc version of --base."),
    click.option(
        "--resolver",
        type=click.Choice(["uv", "pip-tools"]),
        default=None,
        help="Resolver of packages from indexes.",
    ),
    click.option(
        "--solver",
        type=click.Choice(["rattler", "conda-lock"]),
        default=None,
        help="Solver of conda packages.",
    ),
    click.option("--cuda", metavar="VERSION", help="CUDA version of the driver on the target machines."),
    click.option(
        "--conda-installer",
        type=click.Choice(["auto", "micromamba", "rattler"]),
        default=None,
        help="Installer of conda packages.",
    ),
    click.option("--micromamba", type=PATH, metavar="PATH", help="Path of the micromamba executable."),
    click.option("--repository", metavar="NAME", help="Name of the image, without a tag."),
    click.option(
        "--templates", type=PATH, metavar="DIR", help="Folder of templates that override the shipped ones."
    ),
    click.option(
        "--allow-inconsistent",
        is_flag=True,
        default=None,
        help="Build although installed packages contradict each other.",
    ),
    cache_option,
)


_selection_options = _all(
    click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="NAME",
        help="Take a dependency group of the lock file, too.",
    ),
    click.option(
        "--extra", "extras", multiple=True, metavar="NAME", help="Take an extra of the lock file, too."
    ),
    click.option(
        "--no-dev", is_flag=True, help="Leave out the lock file's group dev, where it is a default."
    ),
    click.option("--environment", default="", metavar="NAME", help="Take this environment of a pixi.lock."),
)


locked_option = click.option(
    "--locked",
    type=PATH,
    is_flag=False,
    flag_value=LOCK_FILE,
    metavar="[FILE]",
    help=f"Build from a lock file ({LOCK_FILE}) without scanning or solving.",
)


def platform_option(several: str = "Repeatable") -> Callable[[F], F]:
    """Return the option for the platforms of images; *several* says what it means to name more than one."""
    return click.option(
        "--platform",
        "platforms",
        multiple=True,
        type=click.Choice([str(platform) for platform in PLATFORMS]),
        help=f"Platform of the image; {DEFAULT_PLATFORM} by default. {several}.",
    )


from_option = click.option(
    "--from",
    "manifest",
    type=PATH,
    metavar="FILE",
    help="Solve environment.yml, pixi.toml, pyproject.toml or requirements; nothing is scanned.",
)


def selection_options(command: F) -> F:
    """Add options for the part of a lock file to take; the command gets it as ``selection``, if given."""

    @wraps(command)
    def with_selection(
        *args: object,
        groups: tuple[str, ...],
        extras: tuple[str, ...],
        no_dev: bool,
        environment: str,
        **options: object,
    ) -> object:
        if not (groups or extras or no_dev or environment):
            return command(*args, selection=None, **options)
        from imagesync.lock.lockfile.models import Selection

        selection = Selection(groups, extras, no_dev, environment)
        return command(*args, selection=selection, **options)

    return _selection_options(cast("F", with_selection))


class Group(click.Group):
    """A group of commands whose help shows their whole summaries.

    ``headings`` has the names of the commands below each heading of the help.
    """

    headings: Mapping[str, tuple[str, ...]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their summaries, which wrap instead of being cut."""
        width = max(map(len, self.commands))
        for heading, names in (self.headings or {"Commands": tuple(self.list_commands(ctx))}).items():
            rows = [(f"{name:{width}}", _summary(self.commands[name])) for name in names]
            with formatter.section(heading):
                formatter.write_dl(rows)


def _summary(command: click.Command) -> str:
    """Return the first paragraph of a command's help."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


@dataclass
class Invocation:
    """One call of the command line.

    Parameters
    ----------
    started
        When it started, in seconds of ``time.monotonic``.
    least
        The least severe messages that are shown.
    is_timed
        Whether the duration is reported at the end.
    interruption
        The handler of signals that end the command.
    """

    started: float = field(default_factory=time.monotonic)
    least: Severity = Severity.INFO
    is_timed: bool = True
    interruption: Interruption = field(default_factory=Interruption)

    @cached_property
    def progress(self) -> Progress:
        """Return where the command reports."""
        progress = make_progress(least=self.least)
        if Severity.DETAIL.is_shown(self.least):
            from imagesync.cli.trace import report_activity

            report_activity(progress)
        return progress

    def report_duration(self) -> None:
        """Report the duration of a command that had tasks, unless the user's own program was part of it."""
        if self.is_timed and "progress" in vars(self) and self.progress.had_tasks:
            self.progress.line(f"Finished in {format_duration(time.monotonic() - self.started)}")


def invocation_of(context: click.Context, /) -> Invocation:
    """Return the invocation that *context* belongs to."""
    return context.find_root().ensure_object(Invocation)


def session_of(context: click.Context, /, options: Mapping[str, object]) -> Session:
    """Return the session that *options* describe, by default of the active environment or the project's.

    Parameters
    ----------
    context
        The context of the command; its object is the invocation.
    options
        The command's options for settings and the environment, by parameter name.
    """
    # Imports every stage, which a help text doesn't need.
    from imagesync.session import open_session

    settings = {key: value for key, value in options.items() if value not in (None, ())}
    python, prefix = (_optional_path(settings.pop(key, None)) for key in ("python", "prefix"))
    session = open_session(python=python, prefix=prefix, quiet=True, **settings)
    reporting = replace(session.context, progress=invocation_of(context).progress)
    return replace(session, context=reporting, discovers=True)


def _optional_path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None
