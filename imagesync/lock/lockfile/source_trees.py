"""Source trees that a lock file names: workspace members and path dependencies."""

from __future__ import annotations

from pathlib import Path

from imagesync.core.files import parse_toml
from imagesync.errors import LockError
from imagesync.plan.checks.sources import local_path
from imagesync.scan.environment import Source

_PROJECT_FILES = ("pyproject.toml", "setup.py")


def directory_source(
    lock_file: Path, name: str, path: str, *, editable: bool, subdirectory: str | None = None
) -> Source:
    """Return the source tree at *path*, which starts from the folder of *lock_file*.

    Raises
    ------
    LockError
        It isn't a project's folder, or not named relative to the lock file.
    """
    if "://" in path or Path(path).is_absolute() or "\0" in path:
        raise LockError(
            f"{lock_file}: {name} is the folder {path[:200]!r}, which isn't named relative to the lock file.",
            hint="Lock again with a relative path, which holds on every machine.",
        )
    folder = (lock_file.parent / path / (subdirectory or "")).resolve()
    if not any((folder / file).is_file() for file in _PROJECT_FILES):
        raise LockError(
            f"{lock_file}: {name} is the folder {path}, which has neither a pyproject.toml nor a setup.py.",
            hint=f"Check out the project at {folder}, or lock again.",
        )
    return Source("directory", url=folder.as_uri(), editable=editable)


def static_version(source: Source) -> str:
    """Return the version in a ``pyproject.toml``; empty if only a build knows it."""
    folder = local_path(source)
    try:
        document = parse_toml(Path(folder or "", "pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    project = document.get("project")
    version = project.get("version") if isinstance(project, dict) else None
    return version if isinstance(version, str) else ""
