"""``imagesync lock``: the exact artifacts of an image, in a file that others' tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagesync.cli.options import LOCK_FILE, format_option, settings_options

if TYPE_CHECKING:
    from imagesync.lock.lockfile.save import Form
    from imagesync.session import Session

_path = click.Path(path_type=Path)


@click.command()
@settings_options
@format_option
@click.option(
    "-o", "--output-file", type=_path, metavar="FILE", help="Write the lock there, as its name says."
)
@click.option(
    "--export",
    "form",
    type=click.Choice(["conda-lock", "explicit", "requirements", "pylock"]),
    help="The form of the lock; printed where no file is named.",
)
@click.option(
    "--check",
    "checked",
    type=_path,
    is_flag=False,
    flag_value=LOCK_FILE,
    metavar="[FILE]",
    help=f"Exit 1 if the lock in FILE ({LOCK_FILE}) no longer fits the environment.",
)
@click.pass_context
def lock(
    context: click.Context,
    /,
    output: str,
    output_file: Path | None,
    form: Form | None,
    checked: Path | None,
    **options: object,
) -> None:
    """Find the exact artifact of each package for the image.

    With -o FILE it becomes a lock file: conda-lock.yml, pylock.toml (PEP 751), or requirements.txt with
    hashes, by the file's name or --export. Wheels that were made here lie beside it then, in wheels/.
    """
    from imagesync.cli.session import session_of

    if checked is not None and (output_file is not None or form is not None):
        raise click.UsageError("--check reads a lock file, and -o and --export write one: take one of them.")
    session = session_of(context, options)
    if checked is not None:
        _check(session, checked, output)
    elif output_file is None and form is None:
        lock = session.lock()
        if output == "json":
            click.echo(json.dumps(lock.to_dict(), indent=2, ensure_ascii=False))
            return
        from imagesync.cli.tables import print_lock

        print_lock(lock)
    else:
        _write(session, output_file, form, output)


def _write(session: Session, path: Path | None, form: Form | None, output: str) -> None:
    from imagesync.core.text import counted
    from imagesync.errors import UsageError
    from imagesync.lock.lockfile.save import form_of, left_out, named_files, render, require, save

    form = form_of(path) if form is None and path is not None else form
    assert form is not None  # noqa: S101  one of them is given
    # Before minutes of work: what is missing to write it.
    require(form, path)
    frozen = session.freeze()
    files = named_files(frozen, form)
    if missing := left_out(frozen, form):
        session.context.progress.line(f"A lock of the form '{form}' has no place for: {', '.join(missing)}")
    if path is not None:
        save(frozen, path, form)
        if output == "json":
            click.echo(json.dumps(frozen.lock.to_dict(), indent=2, ensure_ascii=False))
            return
        beside = f", and {counted(len(files), 'file')} beside it" if files else ""
        session.context.progress.line(f"Wrote {path}{beside}")
        from imagesync.cli.tables import print_lock

        print_lock(frozen.lock)
        return
    if files:
        raise UsageError(
            f"The lock names {files[0]}{' and others' if len(files) > 1 else ''}, which lies beside it.",
            hint=f"Name a file for the lock: --export {form} -o FILE",
        )
    click.echo(render(frozen, form), nl=False)


def _check(session: Session, path: Path, output: str) -> None:
    from imagesync.core.text import counted
    from imagesync.errors import LockError

    moved = session.check_lock(path)
    if output == "json":
        click.echo(json.dumps([each.to_dict() for each in moved], indent=2, ensure_ascii=False))
    elif moved:
        from imagesync.cli.lock_check_tables import print_moved

        print_moved(moved)
    else:
        click.echo(f"{path} fits the environment")
    if moved:
        raise LockError(
            f"{path} no longer fits the environment: {counted(len(moved), 'package')} moved.",
            hint=f"Lock again: imagesync lock -o {path}",
        )
