"""Facts that conda-lock's format has no field for, as ``custom_metadata``, which conda-lock preserves.

One line for each package, so that a diff of lock files shows the changed packages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imagesync.core.names import Level
from imagesync.lock.lock import Deviation, Lock, LockedConda
from imagesync.plan.plan import Plan, PlannedPackage

FORMAT = 1
HEAD = "imagesync"
# Keys of a locked conda package that an entry of conda-lock has no field for.
_CONDA_KEYS = ("subdir", "channel", "build_number", "noarch", "constrains", "distributions")


def to_metadata(plan: Plan, lock: Lock) -> dict[str, str]:
    """Return the facts of *lock* and *plan* that the entries of the lock file have no field for."""
    target = lock.target
    head = {
        "format": FORMAT,
        "digest": lock.digest,
        "python": target.python_version,
        "glibc": ".".join(map(str, target.glibc)),
        "interpreter": plan.interpreter,
        "profile": plan.profile,
        "critical_imports": list(plan.critical_imports),
        "resolver": lock.resolver,
    }
    lines: dict[str, Any] = {HEAD: head}
    lines |= {f"{HEAD}.conda.{package.name}": _conda(package) for package in lock.conda}
    for package in lock.packages:
        lines[f"{HEAD}.pip.{package.name}"] = {
            **_level(package.planned),
            **({"size": package.artifact.size} if package.artifact.size is not None else {}),
        }
    for vendored in lock.vendored:
        source = vendored.planned.source
        lines[f"{HEAD}.pip.{vendored.name}"] = {
            **_level(vendored.planned),
            "content": vendored.content,
            # Not its URL, which is a path of this machine.
            "source": source.kind,
            **({"repacked": vendored.repacked} if vendored.repacked else {}),
        }
    lines |= {f"{HEAD}.deviation.{each.name}": each.to_dict() for each in lock.deviations}
    return {key: json.dumps(value, separators=(",", ":")) for key, value in sorted(lines.items()) if value}


def _conda(package: LockedConda) -> dict[str, Any]:
    document = package.to_dict()
    level = package.planned.level.value if package.planned is not None else None
    known = {**{key: document[key] for key in _CONDA_KEYS}, "size": package.artifact.size, "level": level}
    return {key: value for key, value in known.items() if value not in ("", [], None)}


def _level(planned: PlannedPackage | None) -> dict[str, str]:
    return {} if planned is None else {"level": planned.level.value}


class CustomMetadata:
    """The ``custom_metadata`` of a lock file; empty for a lock file of another tool."""

    def __init__(self, metadata: Mapping[str, str] | None) -> None:
        known = {k: v for k, v in (metadata or {}).items() if k == HEAD or k.startswith(f"{HEAD}.")}
        lines = {key: json.loads(value) for key, value in known.items()}
        head = lines.get(HEAD, {})
        self._lines: dict[str, dict[str, Any]] = lines if head.get("format") == FORMAT else {}
        self.head: dict[str, Any] = head if self._lines else {}
        self._changed = False

    @property
    def is_ours(self) -> bool:
        """Return True if imagesync wrote the lock file, and its packages are unchanged."""
        return bool(self.head) and not self._changed

    def changed(self) -> CustomMetadata:
        """Return the metadata without the packages, for a file whose packages another tool has changed."""
        metadata = CustomMetadata({HEAD: json.dumps(self.head)})
        metadata._changed = True
        return metadata

    def conda_package(self, name: str) -> dict[str, Any]:
        """Return the keys of :meth:`LockedConda.from_dict` for a conda package, and its ``size``."""
        known = self.package("conda", name)
        return {key: known[key] for key in (*_CONDA_KEYS, "size") if key in known}

    def package(self, manager: str, name: str) -> dict[str, Any]:
        """Return the facts about a package; empty if there are none."""
        return self._lines.get(f"{HEAD}.{manager}.{name}", {})

    def level(self, manager: str, name: str) -> Level:
        """Return the level of a package, which is exact in a lock file of another tool."""
        return Level(self.package(manager, name).get("level", Level.EXACT.value))

    def deviations(self) -> tuple[Deviation, ...]:
        """Return the deviations from the locked environment."""
        found = [v for k, v in sorted(self._lines.items()) if k.startswith(f"{HEAD}.deviation.")]
        return tuple(map(Deviation.from_dict, found))
