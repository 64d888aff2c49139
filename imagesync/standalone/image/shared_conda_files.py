"""Install the right one of the files that several conda packages have; part of install_conda.py.

Each installer keeps one of them: micromamba that of the package linked last, py-rattler that of the last one
in an order of its own. Which package's file it has to be is decided before the build, for all installers.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from imagesync.standalone.image.conda_records import (
    Record,
    bytecode_path,
    entry_points,
    library,
    read_json,
    record_path,
)

Owners = dict[str, str]


def install_shared_files(
    prefix: Path, owners: Owners, records: list[Record], executables: Mapping[str, bool]
) -> None:
    """Install each file from the archive of its owner, as extracted by the installer.

    Parameters
    ----------
    prefix
        The environment.
    owners
        The name of a package for each path, relative to *prefix*, that several packages have. Bytecode goes
        with its module and isn't named.
    records
        Those of all packages.
    executables
        Whether a file is executable; elsewhere it has the mode of its owner's.
    """
    by_name = {record["name"]: record for record in records}
    paths: dict[str, list[str]] = {}
    for path, name in sorted(owners.items()):
        paths.setdefault(name, []).append(path)
    for name, owned in paths.items():
        package = _Package(prefix, by_name[name])
        for path in owned:
            package.install(path)
            if path in executables:
                # Not linked to the installer's cache: it was just written.
                (prefix / path).chmod(0o755 if executables[path] else 0o644)


class _Package:
    """A package in the installer's cache."""

    def __init__(self, prefix: Path, record: Record) -> None:
        self._prefix = prefix
        self._name = record["name"]
        self._is_python = record.get("noarch") == "python"
        written = read_json(record_path(prefix, record))
        self._folder = Path(written["extracted_package_dir"])
        # Archives from before conda-build 3 have no paths.json.
        self._recorded = {
            entry.get("original_path") or entry["_path"]: entry for entry in written["paths_data"]["paths"]
        }
        paths = read_json(self._folder / "info" / "paths.json").get("paths", ())
        self._entries = {entry["_path"]: entry for entry in paths}
        self._commands = {f"bin/{command}" for command, *_ in entry_points(self._folder)}

    def install(self, path: str) -> None:
        """Install a file, and the bytecode that the package has for it."""
        target = self._prefix / path
        source = self._source(path)
        if os.path.lexists(source):
            self._write(source, path)
        elif path in self._commands:
            target.unlink(missing_ok=True)  # the scripts of entry points are written later
        else:
            sys.exit(f"{path} isn't in the conda package {self._name}")
        if path.endswith(".py"):
            cached = bytecode_path(path)
            (self._prefix / cached).unlink(missing_ok=True)
            if self._source(cached).is_file():
                self._write(self._source(cached), cached)

    def _source(self, path: str) -> Path:
        if self._is_python:
            modules = (library(self._prefix) / "site-packages").relative_to(self._prefix).as_posix()
            if path.startswith(f"{modules}/"):
                return self._folder / "site-packages" / path[len(modules) + 1 :]
            if os.path.lexists(script := self._folder / "python-scripts" / path.removeprefix("bin/")):
                return script
        return self._folder / path

    def _write(self, source: Path, path: str) -> None:
        """Write a file as installers do; not in place, because the installer may have linked it."""
        target = self._prefix / path
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))  # noqa: PTH115  a Path drops a slash at the end
            return
        shutil.copy2(source, target)
        name = source.relative_to(self._folder).as_posix()
        entry = self._entries.get(name) or self._recorded.get(path, {})
        if placeholder := entry.get("prefix_placeholder"):
            replace = replace_in_binary if entry.get("file_mode") == "binary" else bytes.replace
            data = source.read_bytes()
            target.write_bytes(replace(data, placeholder.encode(), os.fsencode(self._prefix)))


def replace_in_binary(data: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    """Replace the placeholder in strings that end with a null byte; they are padded to their length."""

    def padded(match: re.Match[bytes]) -> bytes:
        return match[0].replace(placeholder, prefix).ljust(len(match[0]), b"\0")

    return re.sub(re.escape(placeholder) + rb"[^\0]*\0", padded, data)
