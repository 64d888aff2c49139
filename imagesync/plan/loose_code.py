"""Loose code, modules that belong to no package, as values: its files and their paths in the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from imagesync.core.digests import sha256_of
from imagesync.scan.environment import Finding

_FORMAT = 1  # raised when the same files begin to give another layer
MODULE_SUFFIXES = (".py", ".so", ".pyd")


class CodeFile(NamedTuple):
    """One file of the loose code.

    Parameters
    ----------
    path
        Relative to the image's folder of code, with ``/``.
    source
        The local file; for a link to a file, the linked file.
    size
        In bytes.
    modified
        The modification time in nanoseconds since the epoch.
    link
        The target of a link to a folder, relative to the link's own folder. Otherwise empty.
    executable
        Whether its owner may execute it.
    """

    path: str
    source: str
    size: int
    modified: int = 0
    link: str = ""
    executable: bool = False


@dataclass(frozen=True)
class CodePath:
    """The files of one path of the setting ``code`` that the image gets.

    Parameters
    ----------
    path
        The path of the setting, absolute.
    root
        The folder for ``sys.path``: *path*, or the folder that contains it.
    files
        The files.
    digest
        ``sha256:<hex>`` over names, executable bits, bytes and links.
    left_out
        Names in *path* that the image doesn't get, with the reason. Files that git ignores aren't listed.
    """

    path: str
    root: str
    files: tuple[CodeFile, ...]
    digest: str
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Return the bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the top-level modules that can be imported from it, sorted."""
        return tuple(sorted(top_level_modules(file.path for file in self.files)))

    def to_dict(self) -> dict[str, Any]:
        """Return the path as documented JSON."""
        return {
            "path": self.path,
            "modules": list(self.modules),
            "files": [{"path": file.path, "size": file.size} for file in self.files],
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
        }


@dataclass(frozen=True)
class Code:
    """All loose code of the image; false if there is none.

    Parameters
    ----------
    paths
        In the order of ``sys.path``.
    findings
        Findings about the code.
    """

    paths: tuple[CodePath, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __bool__(self) -> bool:
        return any(path.files for path in self.paths)

    @property
    def files(self) -> Iterator[CodeFile]:
        """Yield the files of all paths."""
        for path in self.paths:
            yield from path.files

    @property
    def size(self) -> int:
        """Return the bytes of all files together."""
        return sum(path.size for path in self.paths)

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the top-level modules that can be imported, sorted."""
        return tuple(sorted({module for path in self.paths for module in path.modules}))

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over everything that reaches the image; empty without files."""
        if not self:
            return ""
        parts = [str(_FORMAT), *(path.digest for path in self.paths if path.files)]
        return sha256_of("\0".join(parts))

    def to_dict(self) -> dict[str, Any]:
        """Return the code as documented JSON."""
        return {
            "digest": self.digest or None,
            "files": sum(len(path.files) for path in self.paths),
            "size": self.size,
            "modules": list(self.modules),
            "paths": [path.to_dict() for path in self.paths],
        }


def top_level_modules(paths: Iterable[str]) -> set[str]:
    """Return the names of the modules in a folder on ``sys.path`` that contains *paths*.

    A folder counts if it directly contains a module; without an ``__init__.py`` it is a namespace package.

    >>> sorted(top_level_modules(["a.py", "b/__init__.py", "c/d.py", "data/x.csv", "my-script.py", "e/f/g"]))
    ['a', 'b', 'c']
    """
    found = set()
    for path in paths:
        first, _, rest = path.partition("/")
        if not path.endswith(MODULE_SUFFIXES) or "/" in rest:
            continue
        name = first if rest else first.partition(".")[0]
        if name.isidentifier() and name not in ("__init__", "__main__"):
            found.add(name)
    return found
