"""What is known of an image's environment that isn't scanned: its interpreter, and the modules to import."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.plan.levels import load_profiles
from imagesync.scan.environment import Interpreter

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


def critical_imports(names: AbstractSet[NormalizedName]) -> list[str]:
    """Return the modules to import in the image of a lock file that another tool wrote."""
    profiles = load_profiles().values()
    profile = next((each for each in profiles if not names.isdisjoint(each.chosen_by)), None)
    if profile is None:
        return []
    return [critical.import_name for critical in profile.critical if critical.name in names]


def running_interpreter() -> Interpreter:
    """Return the interpreter that runs this."""
    return Interpreter(
        implementation=sys.implementation.name,
        version=platform.python_version(),
        platform=sysconfig.get_platform(),
        abi=f"cp{sys.version_info.major}{sys.version_info.minor}",
        executable=sys.executable,
        prefix=sys.prefix,
        base_prefix=sys.base_prefix,
    )


def target_interpreter(version: str) -> Interpreter:
    """Return the interpreter to build wheels and compile modules with: the running one, if it fits."""
    running = running_interpreter()
    minor = version.split(".")[:2]
    if running.minor.split(".") == minor and running.implementation == "cpython":
        return replace(running, version=version)
    return replace(
        running, implementation="cpython", version=version, abi=f"cp{''.join(minor)}", executable=""
    )
