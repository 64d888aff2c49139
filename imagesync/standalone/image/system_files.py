# ruff: noqa: PERF203, PTH118, PTH120, PTH123, PTH207, PTH208
"""Print as JSON which shared libraries and programs a system has; runs in containers of base images."""

from __future__ import annotations

import glob
import json
import os

_DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")


def library_folders(configuration: str = "/etc/ld.so.conf") -> list[str]:
    """Return the folders that the dynamic linker searches, by its configuration and its defaults."""
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    waiting = [configuration]
    read = set()
    while waiting:
        path = waiting.pop()
        if path in read:
            continue
        read.add(path)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    waiting += glob.glob(os.path.join(os.path.dirname(path), pattern))
            else:
                folders += words
    return [*folders, *_DEFAULT]


def _names(folders: list[str]) -> set[str]:
    names: set[str] = set()
    for folder in dict.fromkeys(folders):
        try:
            names.update(os.listdir(folder))
        except OSError:
            continue
    return names


def system_files() -> dict[str, list[str]]:
    """Return the names of the libraries that the dynamic linker finds, and of the programs on ``PATH``."""
    libraries = {name for name in _names(library_folders()) if ".so" in name}
    programs = _names(os.environ.get("PATH", os.defpath).split(os.pathsep))
    return {"libraries": sorted(libraries), "programs": sorted(programs)}


if __name__ == "__main__":
    print(json.dumps(system_files()))
