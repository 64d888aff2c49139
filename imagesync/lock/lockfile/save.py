"""Saving a lock in one of its forms, with its local files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from imagesync.core.files import copy_file, write_text
from imagesync.errors import UsageError
from imagesync.lock.lockfile.bundle import Bundle

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
    """Return the form of a lock file by its name.

    Raises
    ------
    UsageError
        The name is that of no form.

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
    """Check early that a lock of this form can be written.

    Raises
    ------
    UsageError
        The folder of *path* doesn't exist.
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


def render(bundle: Bundle, form: Form, *, name: str | None = None) -> str:
    """Return a lock in one of its forms, as text.

    *name* is that of the file, for its comments.
    """
    name = name or _NAMES[form]
    if form == "conda-lock":
        from imagesync.lock.lockfile.models import to_text
        from imagesync.lock.lockfile.write import to_lockfile

        return to_text(to_lockfile(bundle), name=name)
    if form == "requirements":
        from imagesync.lock.lockfile.export import render_requirements

        return render_requirements(bundle.lock)
    from imagesync.lock.lockfile.export import render_explicit, render_pylock

    return render_explicit(bundle, name=name) if form == "explicit" else render_pylock(bundle)


def save(bundle: Bundle, path: Path, form: Form) -> None:
    """Write a lock to *path*, and the files that it names beside it.

    The files are written first, so that the lock never exists without them.

    Raises
    ------
    UsageError
        The folder doesn't exist, or can't be written to.
    """
    text = render(bundle, form, name=path.name)
    for name in sorted(named_files(bundle, form)):
        copy_file(bundle.files[name].path, path.parent / name)
    write_text(path, text)


def named_files(bundle: Bundle, form: Form) -> tuple[str, ...]:
    """Return the files that a lock of this *form* refers to, by path relative to it."""
    if form == "requirements":
        return ()
    return tuple(
        path for path in bundle.files if form != "pylock" or path.endswith((".whl", ".tar.gz", ".zip"))
    )


def left_out(bundle: Bundle, form: Form) -> tuple[str, ...]:
    """Return the names of the packages that the *form* can't express, sorted."""
    conda = [package.name for package in bundle.lock.conda] if form in ("requirements", "pylock") else []
    local = [str(package.name) for package in bundle.lock.vendored] if form == "requirements" else []
    return tuple(sorted((*conda, *local)))
