"""Reading and writing ``conda-lock.yml`` with the models of conda-lock.

conda-lock is imported inside functions, because that takes a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import reason_of
from imagesync.core.installation import own_installation
from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.errors import LockError, UsageError

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile

_HEADER = """\
# Written by `imagesync lock`. conda-lock reads it, and so does micromamba.
#   the image of this lock:   imagesync build --locked {name}
#   an environment of it:     conda-lock install --name YOURENV {name}
"""


def parse_file(path: Path, *, in_order: bool = False) -> Lockfile:
    """Return the content of a lock file of conda-lock, of version 1 or 2.

    Parameters
    ----------
    path
        The file.
    in_order
        Whether its entries stay in their order, in a file of version 1, as imagesync writes it; by default
        dependencies come first.

    Raises
    ------
    UsageError
        The file can't be read, or isn't a lock file.
    LockError
        conda-lock isn't installed.
    """
    module = _conda_lock()
    try:
        return _parse_in_order(path) if in_order else module.parse_conda_lock_file(path)
    except OSError as error:
        raise UsageError(
            f"The lock file {path} can't be read: {error.strerror or 'it is not there'}.",
            hint=f"Write one: imagesync lock -o {path}",
        ) from error
    except Exception as error:
        # YAML's, pydantic's and conda-lock's own errors have no common base.
        # Its assertion about entries has no message.
        reason = reason_of(error) or "two entries are for the same package"
        raise UsageError(
            f"{path} isn't a lock file that conda-lock can read: {reason}",
            hint="Write it again with the newest conda-lock: conda-lock lock --platform "
            f"{DEFAULT_PLATFORM.subdir} --lockfile {path}; or from an environment: imagesync lock -o {path}",
        ) from error


def _parse_in_order(path: Path) -> Lockfile:
    """Return the content as conda-lock's own function does, but with the entries in the file's order."""
    import yaml
    from conda_lock.lockfile.v1.models import Lockfile
    from conda_lock.lockfile.v2prelim.models import lockfile_v1_to_v2

    content = yaml.safe_load(path.read_text("utf-8"))
    if content.pop("version") != 1:
        raise ValueError("it isn't of version 1")
    return lockfile_v1_to_v2(Lockfile.model_validate(content))


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
