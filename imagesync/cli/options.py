"""Options that several commands share, and the session that they describe.

An option that sets a setting is ``None`` or empty by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

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
    click.option("--python", type=PATH, metavar="PATH", help="Whose environment: this interpreter's."),
    click.option("--prefix", type=PATH, metavar="DIR", help="Whose environment: this folder's, files only."),
)

format_option = click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print the answer.",
)

cache_option = click.option("--cache-dir", type=PATH, metavar="DIR", help="Where artifacts are kept.")

settings_options = _all(
    environment_options,
    click.option("--strict", is_flag=True, default=None, help="Every package exact, or no image."),
    click.option("--profile", metavar="NAME", help="What is critical: auto, dask, ray or none."),
    click.option("--ignore", multiple=True, metavar="NAME", help="Leave this package out."),
    click.option("--only", multiple=True, metavar="NAME", help="Take this package, with what it needs."),
    click.option("--level", "levels", multiple=True, metavar="NAME=LEVEL", help="How closely it must match."),
    click.option("--add-pip", multiple=True, metavar="REQUIREMENT", help="A package for the cluster only."),
    click.option("--add-conda", multiple=True, metavar="SPEC", help="A conda package for the cluster only."),
    click.option(
        "--channel", "channels", multiple=True, metavar="CHANNEL", help="Where conda packages are from."
    ),
    click.option(
        "--modified",
        type=click.Choice(["ship", "index", "error"]),
        default=None,
        help="What to do with packages whose installed files were changed.",
    ),
    click.option("--code", type=PATH, multiple=True, metavar="PATH", help="Code that no package owns."),
    click.option("--code-max-size", metavar="SIZE", help="How large --code may be, such as 50MB."),
    click.option("--no-isolation", multiple=True, metavar="NAME", help="Build it with what is installed."),
    click.option(
        "--no-build", is_flag=True, default=None, help="Run no build back-end; refuse what needs one."
    ),
    click.option("--apt", multiple=True, metavar="PACKAGE", help="A system package for the image."),
    click.option("--base", metavar="REF", help="The image to start from."),
    click.option("--target-python", metavar="VERSION", help="The Python that --base has."),
    click.option("--target-glibc", metavar="VERSION", help="The C library that --base has."),
    click.option("--resolver", type=click.Choice(["uv", "pip-tools"]), default=None, help="Who resolves."),
    click.option(
        "--solver", type=click.Choice(["rattler", "conda-lock"]), default=None, help="Who solves for conda."
    ),
    click.option("--cuda", metavar="VERSION", help="Solve for a machine with this CUDA."),
    click.option(
        "--conda-installer",
        type=click.Choice(["auto", "micromamba", "rattler"]),
        default=None,
        help="Who installs conda packages.",
    ),
    click.option("--micromamba", type=PATH, metavar="PATH", help="The micromamba that does."),
    click.option("--repository", metavar="NAME", help="The image's name, before the colon."),
    click.option("--templates", type=PATH, metavar="DIR", help="Your templates, before the shipped ones."),
    click.option("--allow-inconsistent", is_flag=True, default=None, help="Build despite contradictions."),
    cache_option,
)


def session_of(context: click.Context, /, options: Mapping[str, object]) -> Session:
    """Return the session that *options* describe, by default of the active environment or the project's.

    Parameters
    ----------
    context
        The context of the command; its object says whether to be quiet.
    options
        The command's options for settings and the environment, by parameter name.
    """
    # Help texts must not wait for it: it imports every stage.
    from imagesync.session import open_session

    settings = {key: value for key, value in options.items() if value not in (None, ())}
    python, prefix = (_optional_path(settings.pop(key, None)) for key in ("python", "prefix"))
    session = open_session(python=python, prefix=prefix, quiet=context.obj, **settings)
    return replace(session, discovers=True)


def _optional_path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None
