"""The command line: parse, call, print.

Each command imports what it needs when it runs: a build that hits must not pay for the others.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from imagesync.cli.lazy import LazyGroup
from imagesync.cli.options import (
    LOCK_FILE,
    cache_option,
    environment_options,
    format_option,
    settings_options,
)
from imagesync.cli.session import session_of as _session
from imagesync.errors import ImagesyncError

if TYPE_CHECKING:
    from imagesync.image.image import Image

INTERRUPTED = 130  # what a shell reports for a command that SIGINT ended
TERMINATED = 143  # and for SIGTERM

_path = click.Path(path_type=Path)


def main() -> NoReturn:
    """Run the command line, and turn every error of ours into a message and an exit code."""
    # A terminated process unwinds like an interrupted one, so that it leaves nothing in the engine.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        code = cli(standalone_mode=False)
    except ImagesyncError as error:
        from imagesync.cli.errors import print_error

        print_error(error)
        code = error.exit_code
    except click.ClickException as error:
        from imagesync.cli.guesses import right_word

        error.show()
        if word := right_word(error):
            click.echo(f"hint: {word}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as in `imagesync scan | head`; Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=LazyGroup,
    lazy={name: f"imagesync.cli.{name}" for name in ("cluster", "diff", "lock")},
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


def _record_cache() -> Path:
    from imagesync.errors import UsageError
    from imagesync.settings.load import load_settings
    from imagesync.store.layout import CONDA_RECORDS, default_cache_dir

    try:
        cache_dir = load_settings(cwd=Path.cwd(), environ=os.environ, flags={}).cache_dir
    except UsageError:  # a scan depends on no setting
        cache_dir = None
    return (cache_dir or default_cache_dir()) / CONDA_RECORDS


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@cli.command()
@environment_options
@format_option
@click.pass_context
def scan(context: click.Context, /, python: Path | None, prefix: Path | None, output: str) -> None:
    """Show what is installed here, and where each package came from."""
    from imagesync.core.terminal import make_progress
    from imagesync.scan.discovery import discover
    from imagesync.scan.scan import scan_environment

    progress = make_progress(quiet=context.obj)
    found = discover(python=python, prefix=prefix, environ=os.environ, cwd=Path.cwd())
    for warning in found.warnings:
        progress.line(f"warning: {warning}")
    environment = scan_environment(found, environ=os.environ, cache=_record_cache)
    progress.line(found.describe(environment.python))
    if output == "json":
        _print_json(environment.to_dict())
        return
    from imagesync.cli.tables import print_environment

    print_environment(environment)


@cli.command()
@settings_options
@format_option
@click.option(
    "--fail-on",
    type=click.Choice(["exact", "any"]),
    help="Exit 1 if a critical or exact package (exact), or any at all (any), could differ.",
)
@click.pass_context
def plan(context: click.Context, /, output: str, fail_on: str | None, **options: object) -> None:
    """Show what the image will hold and why; nothing is fetched."""
    from imagesync.plan.checks.drift import possible_drift

    planned = _session(context, options).plan()
    if output == "json":
        _print_json(planned.to_dict())
    else:
        from imagesync.cli.tables import print_plan

        print_plan(planned)
    if fail_on and (drifting := possible_drift(planned, every=fail_on == "any")):
        raise ImagesyncError(
            f"The image could differ in: {', '.join(drifting)}.",
            hint="Pin them with --strict or --level NAME=exact, or leave --fail-on away.",
        )


@cli.command()
@settings_options
@click.option("-o", "--output-dir", type=_path, required=True, metavar="DIR", help="Where it goes.")
@click.pass_context
def render(context: click.Context, /, output_dir: Path, **options: object) -> None:
    """Write the whole build context, which plain `docker build` accepts too."""
    _session(context, options).render(output_dir)
    click.echo(output_dir)


@cli.command()
@settings_options
@click.option("-t", "--tag", "tags", multiple=True, metavar="REF", help="One more name for the image.")
@click.option("--push", is_flag=True, default=None, help="Have it in the registry that --repository names.")
@click.option("--no-cache", is_flag=True, help="Build anew, even if the image exists.")
@click.option(
    "--locked",
    type=_path,
    is_flag=False,
    flag_value=LOCK_FILE,
    metavar="[FILE]",
    help=f"Build what a lock file says ({LOCK_FILE}): nothing is scanned, nothing solved.",
)
@click.option("--metadata-file", type=_path, metavar="FILE", help="Write what was built there, as JSON.")
@click.option("--watch", is_flag=True, help="Build again on every change, until Ctrl-C.")
@click.pass_context
def build(
    context: click.Context,
    /,
    tags: tuple[str, ...],
    metadata_file: Path | None,
    locked: Path | None,
    *,
    no_cache: bool,
    watch: bool,
    **options: object,
) -> None:
    """Build the environment's image, or find it, and print its reference."""

    def answer(image: Image) -> None:
        if metadata_file is not None:
            from imagesync.core.files import write_text

            write_text(metadata_file, json.dumps(image.to_dict(), indent=2) + "\n")
        click.echo(image.reference)

    if not watch:
        answer(_session(context, options).build(tags=tags, no_cache=no_cache, locked=locked))
        return
    if no_cache or locked is not None:
        other = "--no-cache" if no_cache else "--locked"
        raise click.UsageError(f"{other} builds once, and --watch again and again: take one of them.")
    from imagesync.cli.errors import print_error
    from imagesync.cli.watch import rebuild_on_change

    # Ctrl-C is how this ends, so it is no failure.
    with suppress(KeyboardInterrupt):
        for image in rebuild_on_change(
            lambda: _session(context, options),
            build=lambda session: session.build(tags=tags),
            failed=print_error,
        ):
            answer(image)


@cli.command()
@settings_options
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME[=VALUE]", help="Set a variable.")
@click.option("-p", "--publish", "ports", multiple=True, metavar="PORT[:PORT]", help="Publish on loopback.")
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
    """Run COMMAND in the environment's image, with this folder mounted.

    The image is built if it is missing. Put -- before a command that has options of its own. The
    exit code is the command's. A port is published as [OUTSIDE:]INSIDE.
    """
    context.exit(_session(context, options).run(command, variables=variables, ports=ports))


@cli.group()
def cache() -> None:
    """Look at the cache folder, or make room in it."""


@cache.command("info")
@format_option
@cache_option
@click.pass_context
def cache_info(context: click.Context, /, output: str, **options: object) -> None:
    """Show where the cache folder is and how large."""
    usage = _session(context, options).context.store.usage()
    if output == "json":
        _print_json(usage.to_dict())
        return
    from imagesync.cli.cache_tables import print_usage

    print_usage(usage)


@cache.command("prune")
@click.option("--older-than", type=click.IntRange(min=0), metavar="DAYS", help="Spare what was used since.")
@format_option
@cache_option
@click.pass_context
def cache_prune(context: click.Context, /, output: str, older_than: int | None, **options: object) -> None:
    """Remove artifacts, cached answers and logs; what is needed again is fetched again."""
    seconds = None if older_than is None else older_than * 86_400
    pruned = _session(context, options).context.store.prune(older_than=seconds)
    if output == "json":
        _print_json(pruned.to_dict())
        return
    from imagesync.cli.cache_tables import print_pruned

    print_pruned(pruned)


@cli.command()
@settings_options
@format_option
@click.pass_context
def doctor(context: click.Context, /, output: str, **options: object) -> None:
    """Say what is there and what is missing, and how to mend it."""
    from imagesync.cli.doctor import diagnose, healthy

    session = _session(context, options)
    checks = diagnose(
        session.context.settings,
        environ=session.context.environ,
        scan=session.scan,
        progress=session.context.progress,
    )
    if output == "json":
        _print_json([check.to_dict() for check in checks])
    else:
        from imagesync.cli.tables import print_checks

        print_checks(checks)
    context.exit(0 if healthy(checks) else 1)


@cli.command()
def init() -> None:
    """Write commented settings into this folder's pyproject.toml, or into imagesync.toml."""
    from imagesync.cli.init import write_settings

    click.echo(write_settings(Path.cwd()))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    For bash: eval "$(imagesync completion bash)"
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is not None:
        click.echo(completer(cli, {}, "imagesync", "_IMAGESYNC_COMPLETE").source())
