"""Saving a lock in one of its forms, with the files that belong to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from imagesync.core.files import copy_file, write_text
from imagesync.errors import UsageError
from imagesync.lock.lockfile.bundle import Frozen

Form = Literal["conda-lock", "explicit", "requirements", "pylock"]
FORMS: tuple[Form, ...] = get_args(Form)

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")  # PEP 751, "File Name"
_NAMES: dict[Form, str] = {
    "conda-lock": "conda-lock.yml",
    "explicit": "explicit.txt",
    "requirements": "requirements.txt",
    "pylock": "pylock.toml",
}


def form_of(path: Path) -> Form:
    """Return the form that a file's name stands for.

    Raises
    ------
    UsageError
        It stands for none.

    >>> form_of(Path("conda-lock.yml")), form_of(Path("pylock.dev.toml")), form_of(Path("requirements.txt"))
    ('conda-lock', 'pylock', 'requirements')
    """
    if path.suffix in (".yml", ".yaml"):
        return "conda-lock"
    if _PYLOCK.fullmatch(path.name):
        return "pylock"
    if path.suffix == ".txt":
        return "requirements"
    raise UsageError(
        f"What kind of lock {path.name} is to be can't be told from its name.",
        hint=f"Say it (--export {'|'.join(FORMS)}), or name it conda-lock.yml, pylock.toml or x.txt.",
    )


def require(form: Form, path: Path | None) -> None:
    """Return if a lock of this form can be written, so that nobody waits for it in vain.

    Raises
    ------
    UsageError
        The file's folder isn't there.
    LockError
        conda-lock isn't installed.
    """
    if path is not None and not path.parent.is_dir():
        raise UsageError(
            f"The folder {path.parent}, where the lock is to go, doesn't exist.",
            hint="Make it, or name another one.",
        )
    if form == "conda-lock":
        from imagesync.lock.lockfile.models import require_conda_lock

        require_conda_lock()


def render(frozen: Frozen, form: Form, *, name: str | None = None) -> str:
    """Return a lock in one of its forms, as text.

    Parameters
    ----------
    name
        Of the file that it goes to; the usual one if not given.
    """
    name = name or _NAMES[form]
    if form == "conda-lock":
        from imagesync.lock.lockfile.models import to_text
        from imagesync.lock.lockfile.write import to_lockfile

        return to_text(to_lockfile(frozen), name=name)
    if form == "requirements":
        from imagesync.lock.requirements import render_requirements

        return render_requirements(frozen.lock)
    from imagesync.lock.lockfile.export import render_explicit, render_pylock

    return render_explicit(frozen, name=name) if form == "explicit" else render_pylock(frozen)


def save(frozen: Frozen, path: Path, form: Form) -> None:
    """Write a lock to *path*, and beside it the files that it names.

    The files come first, so that the lock is never there without them.

    Raises
    ------
    UsageError
        The folder isn't there, or can't be written to.
    """
    text = render(frozen, form, name=path.name)
    for place in sorted(named_files(frozen, form)):
        copy_file(frozen.files[place].path, path.parent / place)
    write_text(path, text)


def named_files(frozen: Frozen, form: Form) -> tuple[str, ...]:
    """Return the files that the *form* refers to by a path relative to it."""
    if form == "requirements":
        return ()
    return tuple(
        place for place in frozen.files if form != "pylock" or place.endswith((".whl", ".tar.gz", ".zip"))
    )


def left_out(frozen: Frozen, form: Form) -> tuple[str, ...]:
    """Return the names of the packages that the *form* has no place for, sorted."""
    conda = [package.name for package in frozen.lock.conda] if form in ("requirements", "pylock") else []
    own = [str(package.name) for package in frozen.lock.vendored] if form == "requirements" else []
    return tuple(sorted((*conda, *own)))
