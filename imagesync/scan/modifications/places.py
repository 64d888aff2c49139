# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH112, PTH113, PTH118, PTH119
"""The folders of an environment that hold installed files, and the status of each file in them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from imagesync.core.stat_cache import Stat, stat_of
from imagesync.scan.assemble_environment import conda_prefix
from imagesync.scan.environment import Environment

# What an environment holds besides site-packages. The rest of conda's prefix holds caches and environments.
_VIRTUAL = ("bin", "Scripts", "share", "etc", "include", "Include")
_CONDA = (*_VIRTUAL, "lib", "libexec", "sbin", "ssl", "Lib", "Library", "DLLs", "conda-meta")


@dataclass(frozen=True)
class Places:
    """The folders to look at, without links.

    Parameters
    ----------
    prefix
        The environment's folder.
    conda
        The prefix of its conda packages; empty if it has none.
    sites
        The folders on ``sys.path`` that hold packages with a RECORD, and those of the environment itself.
    unlisted
        Those of *sites* in which a package has no list of its files, as those of Linux distributions have.
    roots
        The folders to walk.
    has_own_prefix
        Whether nothing but the environment is in *prefix*: it is a virtual environment, or conda's.
    identity
        What the comparison depends on besides the files, as a JSON value.
    """

    prefix: str
    conda: str
    sites: tuple[str, ...]
    unlisted: frozenset[str]
    roots: tuple[str, ...]
    has_own_prefix: bool
    identity: object

    @classmethod
    def of(cls, environment: Environment) -> Places:
        """Return the folders of *environment*."""
        python = environment.python
        prefix = os.path.realpath(python.prefix)
        conda = ""
        if environment.conda:
            conda = os.path.realpath(conda_prefix(environment.path, python.prefix, python.base_prefix))
        is_virtual = os.path.isfile(os.path.join(prefix, "pyvenv.cfg"))
        locations = {package.location for package in environment.packages if package.has_record}
        if is_virtual or prefix == conda:
            locations |= {
                folder
                for folder in environment.path
                if os.path.basename(folder) == "site-packages" and is_inside(os.path.realpath(folder), prefix)
            }
        sites = tuple(sorted({os.path.realpath(folder) for folder in locations if os.path.isdir(folder)}))
        roots = [os.path.join(conda, name) for name in _CONDA] if conda else []
        if prefix != conda:
            roots += [os.path.join(prefix, name) for name in (_VIRTUAL if is_virtual else _VIRTUAL[:2])]
        # On file systems that ignore case, two names may be one folder.
        roots = list(dict.fromkeys(folder for folder in roots if os.path.isdir(folder)))
        roots += [site for site in sites if not any(is_inside(site, root) for root in roots)]
        return cls(
            prefix,
            conda,
            sites,
            frozenset(
                os.path.realpath(p.location)
                for p in environment.packages
                if not p.has_record and not p.source.editable
            ),
            tuple(roots),
            is_virtual or prefix == conda,
            [
                [[p.name, p.version, p.location, p.conda, p.has_record] for p in environment.packages],
                [[record.name, record.version, record.build] for record in environment.conda],
                [record.name for record in environment.replaced],
            ],
        )


def walk(roots: tuple[str, ...]) -> dict[str, Stat]:
    """Return the status of each file below *roots* by path; a link to a file has the status of the file."""
    stats: dict[str, Stat] = {}
    waiting = list(roots)
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:  # nothing imports what can't be read
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name != "__pycache__":
                        waiting.append(entry.path)
                elif not name.endswith(".pyc"):
                    try:
                        stats[entry.path] = stat_of(entry.stat())
                    except OSError:  # a link that leads nowhere
                        continue
    return stats


def is_inside(path: str, folder: str) -> bool:
    """Return True if *path* is *folder*, or below it."""
    return path == folder or path.startswith(folder + os.sep)
