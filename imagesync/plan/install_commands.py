"""Shell commands for messages, quoted so that users can paste them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from imagesync.scan.environment import Environment, Interpreter

if TYPE_CHECKING:
    from imagesync.plan.profiles import CriticalPackage


def install_command(environment: Environment, requirements: Iterable[str], *options: str) -> str:
    """Return the command that installs *requirements* into *environment*, with uv where it has no pip."""
    return install_command_for(environment.python, requirements, *options, has_pip=_has_pip(environment))


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


def uninstall_command(environment: Environment, names: Iterable[str]) -> str:
    """Return the command that uninstalls the packages *names* from *environment*."""
    return _command(environment.python, "uninstall", *names, has_pip=_has_pip(environment))


def _has_pip(environment: Environment) -> bool:
    return any(package.name == "pip" for package in environment.packages)


def _command(python: Interpreter, command: str, *arguments: str, has_pip: bool) -> str:
    executable = python.executable or "python"
    if has_pip:
        return shlex.join([executable, "-m", "pip", command, *arguments])
    return shlex.join(["uv", "pip", command, "--python", executable, *arguments])
