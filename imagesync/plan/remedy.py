"""Commands that a message can offer, so that they can be pasted as they stand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from imagesync.scan.environment import Environment


def install_command(environment: Environment, requirements: Iterable[str], *options: str) -> str:
    """Return the command that installs *requirements* into *environment*, with uv where it has no pip."""
    return _command(environment, "install", *options, *requirements)


def uninstall_command(environment: Environment, names: Iterable[str]) -> str:
    """Return the command that removes the packages *names* from *environment*."""
    return _command(environment, "uninstall", *names)


def _command(environment: Environment, command: str, *arguments: str) -> str:
    executable = environment.python.executable or "python"
    if any(package.name == "pip" for package in environment.packages):
        return shlex.join([executable, "-m", "pip", command, *arguments])
    return shlex.join(["uv", "pip", command, "--python", executable, *arguments])
