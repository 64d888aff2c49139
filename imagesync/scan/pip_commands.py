"""Commands that change an environment, for hints: with its pip, or with uv if it has none."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesync.scan.environment import Interpreter


@dataclass(frozen=True)
class Installer:
    """The installer of an environment's packages; its commands are quoted so that users can paste them.

    Parameters
    ----------
    python
        The interpreter of the environment.
    has_pip
        Whether pip is installed there; uv takes its place otherwise.
    """

    python: Interpreter
    has_pip: bool

    def install(self, requirements: Iterable[str], *options: str) -> str:
        """Return the command that installs *requirements*.

        For an externally managed interpreter it makes a virtual environment first.
        """
        return self._command("install", *options, *requirements)

    def uninstall(self, names: Iterable[str]) -> str:
        """Return the command that uninstalls the packages *names*."""
        return self._command("uninstall", *names)

    def _command(self, command: str, *arguments: str) -> str:
        executable = self.python.executable or "python"
        if _is_externally_managed(self.python):
            return _beside_managed(executable, command, arguments, has_pip=self.has_pip)
        if self.has_pip:
            return shlex.join([executable, "-m", "pip", command, *arguments])
        return shlex.join(["uv", "pip", command, "--python", executable, *arguments])


def _is_externally_managed(python: Interpreter) -> bool:
    """Return True if installers refuse to change the packages of *python* (PEP 668)."""
    if not python.prefix or python.prefix != python.base_prefix:
        return False
    folders = (Path(python.base_prefix, "lib", f"python{python.minor}"), Path(python.base_prefix, "Lib"))
    return any((folder / "EXTERNALLY-MANAGED").is_file() for folder in folders)


def _beside_managed(executable: str, command: str, arguments: Sequence[str], *, has_pip: bool) -> str:
    """Return the command that replaces *command*, which an externally managed interpreter refuses."""
    if command == "uninstall":
        return f"the system's package manager removes {' and '.join(arguments)}, if it installed it"
    options = "--system-site-packages .venv"
    if has_pip:
        make = f"{shlex.quote(executable)} -m venv {options}"
        install = [".venv/bin/python", "-m", "pip", "install"]
    else:
        make = f"uv venv --python {shlex.quote(executable)} {options}"
        install = ["uv", "pip", "install", "--python", ".venv"]
    return f"{make} && {shlex.join([*install, *arguments])}"
