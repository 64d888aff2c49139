"""The libraries and programs of a base image, as its layers tell: nothing runs.

Source: ld.so(8) and ldconfig(8).
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from imagesync.image.layers.base_contents import BaseContents

_DEFAULT: Final = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_CONFIGURATION: Final = "etc/ld.so.conf"


def system_files(base: BaseContents, variables: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of the libraries that the dynamic linker finds, and of the programs on ``PATH``.

    Parameters
    ----------
    base
        The contents of the base image.
    variables
        The environment variables of its processes.
    """
    tree = base.tree
    linked: dict[str, list[str]] = {}
    for path in tree.links:
        folder, _, name = path.rpartition("/")
        linked.setdefault(folder, []).append(name)

    def names(folders: Iterator[str]) -> set[str]:
        found: set[str] = set()
        for folder in dict.fromkeys(tree.resolve(each.strip("/")) for each in folders if each):
            found.update(tree.files.get(folder, ()), linked.get(folder, ()))
        return found

    libraries = names(_library_folders(base, variables.get("LD_LIBRARY_PATH", "")))
    programs = names(iter(variables.get("PATH", os.defpath).split(":")))
    return {"libraries": sorted(name for name in libraries if ".so" in name), "programs": sorted(programs)}


def _library_folders(base: BaseContents, variable: str) -> Iterator[str]:
    yield from variable.split(":")
    waiting, read = [_CONFIGURATION], set[str]()
    while waiting:
        path = waiting.pop()
        if path in read:
            continue
        read.add(path)
        for line in base.linker.get(path, b"").decode(errors="replace").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                patterns = [posixpath.join("etc", word).lstrip("/") for word in words[1:]]
                waiting += [name for name in base.linker for each in patterns if fnmatch.fnmatch(name, each)]
            else:
                yield from words
    yield from _DEFAULT
