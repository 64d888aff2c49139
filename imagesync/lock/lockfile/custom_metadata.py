"""What conda-lock's format has no place for: as ``custom_metadata``, which it keeps as it is.

One line a package, so that a changed lock file shows what has changed.
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


def to_metadata(plan: Plan, lock: Lock) -> dict[str, str]:
    """Return everything of *lock* and of its plan that an entry of the lock file can't say."""
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
    for made in lock.vendored:
        source = made.planned.source
        lines[f"{HEAD}.pip.{made.name}"] = {
            **_level(made.planned),
            "content": made.content,
            # Not where it is from: that is a path of this machine.
            "source": source.kind,
            **({"repacked": made.repacked} if made.repacked else {}),
        }
    lines |= {f"{HEAD}.deviation.{each.name}": each.to_dict() for each in lock.deviations}
    return {key: json.dumps(value, separators=(",", ":")) for key, value in sorted(lines.items()) if value}


def _conda(package: LockedConda) -> dict[str, Any]:
    known = {
        "subdir": package.subdir,
        "channel": package.channel,
        "build_number": package.build_number,
        "noarch": package.noarch,
        "constrains": list(package.constrains),
        "distributions": list(package.distributions),
        "size": package.artifact.size,
        "level": package.planned.level.value if package.planned is not None else None,
    }
    return {key: value for key, value in known.items() if value not in ("", [], None)}


def _level(planned: PlannedPackage | None) -> dict[str, str]:
    return {} if planned is None else {"level": planned.level.value}


class Companion:
    """The ``custom_metadata`` of a lock file, read; empty for a lock file that another tool wrote."""

    def __init__(self, metadata: Mapping[str, str] | None) -> None:
        known = {k: v for k, v in (metadata or {}).items() if k == HEAD or k.startswith(f"{HEAD}.")}
        lines = {key: json.loads(value) for key, value in known.items()}
        head = lines.get(HEAD, {})
        self._lines: dict[str, dict[str, Any]] = lines if head.get("format") == FORMAT else {}
        self.head: dict[str, Any] = head if self._lines else {}
        self._changed = False

    @property
    def is_ours(self) -> bool:
        """Return whether imagesync wrote the lock file, and nobody has changed its packages since."""
        return bool(self.head) and not self._changed

    def changed(self) -> Companion:
        """Return what still holds where another tool has changed the packages: nothing of any package."""
        left = Companion({HEAD: json.dumps(self.head)})
        left._changed = True
        return left

    def package(self, manager: str, name: str) -> dict[str, Any]:
        """Return what is known of a package beside its entry."""
        return self._lines.get(f"{HEAD}.{manager}.{name}", {})

    def level(self, manager: str, name: str) -> Level:
        """Return the level of a package; everything in a lock file of others is as exact as its entry."""
        return Level(self.package(manager, name).get("level", Level.EXACT.value))

    def deviations(self) -> tuple[Deviation, ...]:
        """Return what differs from the environment that was locked."""
        found = [v for k, v in sorted(self._lines.items()) if k.startswith(f"{HEAD}.deviation.")]
        return tuple(Deviation(**{**each, "level": Level(each["level"])}) for each in found)
