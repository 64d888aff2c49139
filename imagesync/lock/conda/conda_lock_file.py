"""Reading and writing ``conda-lock.yml`` with the models of conda-lock, and its custom metadata.

``custom_metadata`` has the facts that the format has no field for; conda-lock preserves it. It has one line
for each package, so that a diff of lock files shows the changed packages.

conda-lock is imported inside functions, because that takes a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.installation import own_installation
from imagesync.core.names import Level
from imagesync.errors import LockError, UsageError
from imagesync.lock.lock import Deviation, Lock
from imagesync.lock.locked_packages import LockedConda
from imagesync.plan.plan import Plan, PlannedPackage

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile

_HEADER = """\
# Written by `imagesync lock`. conda-lock reads it, and so does micromamba.
#   the image of this lock:   imagesync build --locked {name}
#   an environment of it:     conda-lock install --name YOURENV {name}
"""
FORMAT = 1
HEAD = "imagesync"
SHARED_FILES = "shared_files"
# Keys of a locked conda package that an entry of conda-lock has no field for.
_CONDA_KEYS = ("subdir", "channel", "build_number", "noarch", "constrains", "distributions")


def parse_file(path: Path) -> Lockfile:
    """Return the content of a lock file of conda-lock, of version 1 or 2.

    Raises
    ------
    UsageError
        The file can't be read, or isn't a lock file.
    LockError
        conda-lock isn't installed.
    """
    module = _conda_lock()
    try:
        return module.parse_conda_lock_file(path)
    except OSError as error:
        raise UsageError(
            f"The lock file {path} can't be read: {error.strerror or 'it is not there'}.",
            hint=f"Write one: imagesync lock -o {path}",
        ) from error
    except Exception as error:
        # YAML's, pydantic's and conda-lock's own errors have no common base.
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path} isn't a lock file that conda-lock can read: {reason[:300]}",
            hint="Write it again, or with the newest conda-lock.",
        ) from error


def make_file(*, entries: list[dict[str, Any]], metadata: dict[str, Any]) -> Lockfile:
    """Return a lock file of *entries* in their order, validated by conda-lock."""
    _conda_lock()
    from conda_lock.lockfile.v2prelim.models import LockedDependency, Lockfile, LockMeta

    lockfile = Lockfile(
        package=[LockedDependency(**entry) for entry in entries], metadata=LockMeta(**metadata)
    )
    for package in lockfile.package:
        package.dependencies = dict(sorted(package.dependencies.items()))
    return lockfile


def to_text(lockfile: Lockfile, *, name: str) -> str:
    """Return *lockfile* as text, always the same for the same lock.

    *name* is that of the file, for its comments.
    """
    import yaml

    content = lockfile.to_v1().dict_for_output()
    text: str = yaml.safe_dump(content, sort_keys=False, width=10_000, allow_unicode=True)
    return _HEADER.format(name=name) + text


def require_conda_lock() -> None:
    """Check that conda-lock is installed, without importing it.

    Raises
    ------
    LockError
        It isn't installed.
    """
    from importlib.util import find_spec

    if find_spec("conda_lock") is None:
        raise _missing()


def _missing() -> LockError:
    return LockError(
        "conda-lock, which reads and writes this file, isn't installed.",
        hint=f"Install it beside imagesync: {own_installation().add_extra('conda-lock')}",
    )


def _conda_lock() -> Any:  # noqa: ANN401  conda-lock has no types
    try:
        import conda_lock.lockfile as module
    except ImportError as error:
        raise _missing() from error
    return module


def to_metadata(plan: Plan, lock: Lock, *, not_in_image: Sequence[str] = ()) -> dict[str, str]:
    """Return the facts of *lock* and *plan* that the entries of the lock file have no field for.

    *not_in_image* are the conda packages that the file has for other tools.
    """
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
        **({"not_in_image": list(not_in_image)} if not_in_image else {}),
        **({SHARED_FILES: shared} if (shared := _shared_files(plan)) else {}),
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
            **({"modified": True} if vendored.planned.as_installed else {}),
        }
    lines |= {f"{HEAD}.deviation.{each.name}": each.to_dict() for each in lock.deviations}
    return {key: json.dumps(value, separators=(",", ":")) for key, value in sorted(lines.items()) if value}


def _shared_files(plan: Plan) -> dict[str, list[str]]:
    from imagesync.scan.conda.shared_files import shared_files

    records = [package.record for package in plan.conda if package.record is not None]
    return {path: list(names) for path, names in shared_files(records, plan.python).items()}


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

    @property
    def shared_conda_files(self) -> Mapping[str, tuple[str, ...]] | None:
        """Return the files that several conda packages had locally; ``None`` in a file of another tool.

        See :func:`~imagesync.scan.conda.shared_files.shared_files`.
        """
        found = self.head.get(SHARED_FILES, {})
        if not self.head or not isinstance(found, dict):
            return None
        return {
            path: tuple(map(str, names)) for path, names in found.items() if names and isinstance(names, list)
        }

    @property
    def not_in_image(self) -> frozenset[str]:
        """Return the names of the conda packages that the file has for other tools."""
        names = self.head.get("not_in_image")
        return frozenset(map(str, names)) if isinstance(names, list) else frozenset()

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
