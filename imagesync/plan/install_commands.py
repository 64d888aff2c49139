"""Shell commands for messages, quoted so that users can paste them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.names import Level
from imagesync.scan.environment import Environment, Interpreter

if TYPE_CHECKING:
    from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
    from imagesync.plan.profiles import CriticalPackage

# Settings for at most this many packages are spelt out.
_SHOWN = 3


def install_command(installed: Environment | Plan, requirements: Iterable[str], *options: str) -> str:
    """Return the command that installs *requirements* into an environment, with uv where it has no pip."""
    return install_command_for(installed.python, requirements, *options, has_pip=_has_pip(installed))


def install_command_for(
    python: Interpreter, requirements: Iterable[str], *options: str, has_pip: bool
) -> str:
    """Return the command that installs *requirements* for *python*, with uv where it has no pip."""
    return _command(python, "install", *options, *requirements, has_pip=has_pip)


def install_critical(environment: Environment, wanted: Mapping[CriticalPackage, str | None]) -> str:
    """Return the command that installs critical packages, with conda in a conda environment.

    *wanted* has the version of each package, or ``None`` for any.
    """
    if environment.conda:
        specs = [f"{p.conda or p.name}{f'={version}' if version else ''}" for p, version in wanted.items()]
        return shlex.join(["conda", "install", "--prefix", environment.python.prefix, *specs])
    return install_command(environment, [f"{p.name}=={v}" if v else p.name for p, v in wanted.items()])


def levels_that_help(packages: Iterable[PlannedPackage | PlannedConda]) -> str:
    """Return the settings that help if no version of *packages* fits, in words; empty if none does.

    A level can only be loosened: a package with ``exact``, which allows any version, can only be left out.
    """
    limited, unlimited = [], []
    for package in packages:
        if package.level is Level.EXACT:
            unlimited.append(package.name)
        elif package.level is not Level.CRITICAL:
            limited.append(package.name)
    lines = []
    if limited:
        lines.append(
            f"To take the nearest version instead, set {_levels(limited, Level.EXACT)} in [tool.imagesync];"
            ' or "ignore" to go without it.'
        )
    if unlimited:
        lines.append(
            f"Any version of {' and '.join(unlimited[:_SHOWN])} would do, and none fits. To go without, set"
            f" {_levels(unlimited, Level.IGNORE)} in [tool.imagesync]."
        )
    return "\n".join(lines)


def _levels(names: Sequence[str], level: Level) -> str:
    return "levels = { " + ", ".join(f'{name} = "{level.value}"' for name in names[:_SHOWN]) + " }"


def uninstall_command(environment: Environment, names: Iterable[str]) -> str:
    """Return the command that uninstalls the packages *names* from *environment*."""
    return _command(environment.python, "uninstall", *names, has_pip=_has_pip(environment))


def _has_pip(installed: Environment | Plan) -> bool:
    if isinstance(installed, Environment):
        return any(package.name == "pip" for package in installed.packages)
    parts = (installed.packages, installed.left_out, installed.provided)
    return any(package.name == "pip" for part in parts for package in part)


def _command(python: Interpreter, command: str, *arguments: str, has_pip: bool) -> str:
    executable = python.executable or "python"
    if _is_externally_managed(python):
        return _beside_managed(executable, command, arguments, has_pip=has_pip)
    if has_pip:
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
