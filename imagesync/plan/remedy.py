"""Commands that a message can offer, so that they can be pasted as they stand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from imagesync.scan.environment import Environment


def install_command(environment: Environment, requirements: Iterable[str], *options: str) -> str:
    """Return the command that installs *requirements* into *environment*, with uv where it has no pip."""
    executable = environment.python.executable or "python"
    if any(package.name == "pip" for package in environment.packages):
        command = [executable, "-m", "pip", "install"]
    else:
        command = ["uv", "pip", "install", "--python", executable]
    return shlex.join([*command, *options, *requirements])
