"""Shell commands for messages, quoted so that users can paste them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from imagesync.core.names import Level
from imagesync.scan.environment import Environment
from imagesync.scan.pip_commands import Installer

if TYPE_CHECKING:
    from imagesync.plan.levels import CriticalPackage
    from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
    from imagesync.scan.environment import Package

# Settings for at most this many packages are spelt out.
_SHOWN = 3


def install_command(installed: Environment | Plan, requirements: Iterable[str], *options: str) -> str:
    """Return the command that installs *requirements* into an environment, with uv where it has no pip."""
    return _installer(installed).install(requirements, *options)


def install_critical(environment: Environment, wanted: Mapping[CriticalPackage, str | None]) -> str:
    """Return the command that installs critical packages, with conda in a conda environment.

    *wanted* has the version of each package, or ``None`` for any.
    """
    if environment.conda:
        specs = [f"{p.conda or p.name}{f'={version}' if version else ''}" for p, version in wanted.items()]
        return shlex.join(["conda", "install", "--prefix", environment.python.prefix, *specs])
    return install_command(environment, [f"{p.name}=={v}" if v else p.name for p, v in wanted.items()])


def levels_that_help(
    packages: Iterable[PlannedPackage | PlannedConda], *, loosen_critical: bool = False
) -> str:
    """Return the settings that help if no version of *packages* fits, in words; empty if none does.

    A level can only be loosened: a package that takes the nearest version of all can only be left out.
    Critical packages are passed over unless *loosen_critical*, for a remedy that is known to work.
    """
    limited, unlimited = [], []
    for package in packages:
        if package.takes_nearest:
            unlimited.append(package.name)
        elif loosen_critical or package.level is not Level.CRITICAL:
            limited.append(package.name)
    lines = []
    if limited:
        lines.append(
            f"To take the nearest version instead: {_levels(limited, Level.NEAREST)} in [tool.imagesync];"
            ' or "ignore" to go without it.'
        )
    if unlimited:
        lines.append(
            f"No version of {' or '.join(unlimited[:_SHOWN])} fits. To go without:"
            f" {_levels(unlimited, Level.IGNORE)} in [tool.imagesync]."
        )
    return "\n".join(lines)


def _levels(names: Sequence[str], level: Level) -> str:
    """Return the option, which overrides whatever set the level, and the setting."""
    options = " ".join(f"--level {name}={level.value}" for name in names[:_SHOWN])
    settings = ", ".join(f'{name} = "{level.value}"' for name in names[:_SHOWN])
    return f"{options}, or levels = {{ {settings} }}"


def uninstall_command(environment: Environment, names: Iterable[str]) -> str:
    """Return the command that uninstalls the packages *names* from *environment*."""
    return _installer(environment).uninstall(names)


def _installer(installed: Environment | Plan) -> Installer:
    parts: Iterable[Iterable[Package | PlannedPackage | LeftOut]]
    if isinstance(installed, Environment):
        parts = (installed.packages,)
    else:
        parts = (installed.packages, installed.left_out, installed.provided)
    has_pip = any(package.name == "pip" for part in parts for package in part)
    return Installer(installed.python, has_pip)
