"""The executables conda, mamba and micromamba, for conda-lock."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagesync.errors import LockError

_NAMES = ("mamba", "conda", "micromamba")
_SECONDS = 60


@dataclass(frozen=True)
class CondaExecutable:
    """A program that conda-lock can solve with.

    Parameters
    ----------
    name
        ``conda``, ``mamba`` or ``micromamba``.
    path
        The executable.
    version
        As the program reports it; empty if unknown.
    """

    name: str
    path: Path
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.path})".replace("  ", " ")


def find_conda(environ: Mapping[str, str], *, micromamba: Path | None = None) -> CondaExecutable:
    """Return the program to solve with: the first that can be run.

    Parameters
    ----------
    environ
        With ``PATH``, and the variables that conda and mamba set in a shell.
    micromamba
        The executable of the settings, which takes precedence.

    Raises
    ------
    LockError
        There is none, or that of the settings can't be run.
    """
    if micromamba is not None:
        found = _run(micromamba.expanduser())
        if found is None:
            raise LockError(
                f"{micromamba} can't be run, or isn't conda, mamba or micromamba.",
                hint="Correct --micromamba, IMAGESYNC_MICROMAMBA or `micromamba` in the settings.",
            )
        return found
    for path in _candidates(environ):
        if (executable := _run(path)) is not None:
            return executable
    raise LockError(
        "conda-lock's own solver needs conda, mamba or micromamba, and none of them is on this machine.",
        hint="Install one (https://github.com/conda-forge/miniforge), name a micromamba (--micromamba "
        "PATH), or use the solver that needs none: --solver rattler",
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    search = environ.get("PATH", os.defpath)
    found = [shutil.which(name, path=search) for name in _NAMES]
    found += [environ.get("CONDA_EXE"), environ.get("MAMBA_EXE")]
    yield from dict.fromkeys(Path(path) for path in found if path)


def _run(path: Path) -> CondaExecutable | None:
    """Return the executable at *path* with its version, or ``None`` if it can't be run."""
    name = next((name for name in ("micromamba", "mamba", "conda") if path.stem.startswith(name)), "")
    if not name:
        return None
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    # "conda 24.9.2", "mamba 1.5.8\nconda 24.1.2", "2.3.0"
    version = re.search(rf"^(?:{name}\s+)?(\d+(?:\.\w+)+)", done.stdout, re.MULTILINE)
    return CondaExecutable(name, path, version[1] if version else "")
