"""conda's pip in a lock file, which isn't in the image.

conda-lock and micromamba install pip's part by the pip of the environment that they made.
"""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.platforms import Platform
from imagesync.lock.conda.locked_records import from_record
from imagesync.lock.conda.solver import CondaRequest, CondaSolver, virtual_packages
from imagesync.scan.conda.prefix_records import read_record_file

if TYPE_CHECKING:
    from imagesync.lock.lock import Lock
    from imagesync.lock.locked_packages import LockedConda

_NAME = re.compile(r"[\w.-]+")
_SECONDS = 30.0


def needs_pip(lock: Lock) -> bool:
    """Return True if *lock* has conda's Python and packages of pip, but not conda's pip."""
    names = {package.name for package in lock.conda}
    return "python" in names and "pip" not in names and bool(lock.packages or lock.vendored)


def find_pip(lock: Lock, *, prefix: str, solver: CondaSolver) -> tuple[LockedConda, ...]:
    """Return conda's pip and what it needs besides the conda packages of *lock*, sorted by name.

    Parameters
    ----------
    lock
        The lock.
    prefix
        The local environment, whose pip is taken if it holds for the image's platform.
    solver
        Finds pip in the channels otherwise.

    Raises
    ------
    LockError
        The channels have no pip beside these packages, or don't answer.
    """
    present = {package.name for package in lock.conda}
    found = _installed(prefix, present, solver.platform)
    if not found:
        machine_has = virtual_packages(lock.target, cuda=solver.cuda)
        specs = ("pip", *sorted(present))
        found = solver.solve(CondaRequest(specs, machine_has, frozen=lock.conda, timeout=_SECONDS))
    added = (package for package in found if package.name not in present)
    return tuple(sorted(added, key=lambda package: package.name))


def _installed(prefix: str, present: Container[str], platform: Platform) -> tuple[LockedConda, ...]:
    """Return the installed pip and what it needs, or nothing if a part isn't for the image's platform."""
    found: dict[str, LockedConda] = {}
    wanted = ["pip"]
    while wanted:
        name = wanted.pop()
        if name in found or name in present or name.startswith("__"):
            continue
        package = _record(prefix, name, platform)
        if package is None:
            return ()
        found[name] = package
        wanted += (match[0] for line in package.depends if (match := _NAME.match(line)))
    return tuple(found.values())


def _record(prefix: str, name: str, platform: Platform) -> LockedConda | None:
    for path in sorted(Path(prefix, "conda-meta").glob(f"{name}-*.json")):
        try:
            record = read_record_file(str(path)).record
        except (OSError, ValueError, RecursionError):
            continue
        if record.name == name and record.subdir in platform.subdirs and record.url and record.sha256:
            return from_record(record)
    return None
