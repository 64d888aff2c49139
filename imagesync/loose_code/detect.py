# Paths stay strings: every folder on sys.path is looked at.
# ruff: noqa: PTH112, PTH118, PTH119, PTH208
"""Detecting loose code that the image would lack: importable modules that belong to no distribution.

Such modules are on ``PYTHONPATH``, in the folders of ``.pth`` files, among the installed packages, and next
to scripts and notebooks. Nothing is imported; files are only read to find the owner of a module.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagesync.core.files import read_bytes
from imagesync.loose_code.owners import NO_MODULES, Owners, modules_in
from imagesync.scan.distributions.editables import is_inside, source_folder
from imagesync.scan.environment import Environment, Finding, Severity

Kind = Literal["pythonpath", "pth", "site-packages", "folder"]

_SHOWN = 5
# Written by virtualenv, uv and setuptools' editables; the first two are in no RECORD.
_OF_INSTALLERS = re.compile(r"_virtualenv|_distutils_hack|__editable__.*|sitecustomize|usercustomize")
_CONDA_MODULE = re.compile(rb'site-packages/([A-Za-z_][A-Za-z0-9_]*)[/."]')


@dataclass(frozen=True)
class LooseFolder:
    """A folder with modules that belong to no distribution.

    Parameters
    ----------
    modules
        Their files or folders, sorted.
    """

    kind: Kind
    folder: str
    modules: tuple[str, ...]

    def to_finding(self, cwd: Path) -> Finding:
        """Return the finding, with the setting that adds the modules."""
        names = [os.path.basename(path).partition(".")[0] for path in self.modules]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        # Of site-packages, only the modules can be added, never the whole folder.
        paths = [_short(path, cwd) for path in (self.modules if self._single else (self.folder,))][:_SHOWN]
        options = " ".join(f"--code {shlex.quote(path)}" for path in paths)
        listed = ", ".join(f'"{path}"' for path in paths)
        return Finding(
            Severity.INFO if self.kind == "folder" else Severity.WARNING,
            f"loose-{self.kind}",
            f"{', '.join(names[:_SHOWN])}{more} in {self.folder} {_PLACES[self.kind]}, and "
            f"{'belongs' if len(names) == 1 else 'belong'} to no package, so the image won't have "
            f"{'it' if len(names) == 1 else 'them'}.",
            path=self.folder,
            hint=f"To take {'it' if len(names) == 1 else 'them'} in: {options}, or code = [{listed}] in the "
            "settings.",
        )

    @property
    def _single(self) -> bool:
        return self.kind == "site-packages"


_PLACES: Mapping[Kind, str] = {
    "pythonpath": "can be imported by way of PYTHONPATH",
    "pth": "can be imported by way of a .pth file",
    "site-packages": "lies among the installed packages",
    "folder": "can be imported by what runs in this folder",
}


def find_loose_code(
    environment: Environment, *, environ: Mapping[str, str], cwd: Path, code: Sequence[Path] = ()
) -> tuple[LooseFolder, ...]:
    """Return the folders with importable modules that belong to no distribution and aren't in *code*.

    Parameters
    ----------
    environment
        The scanned environment.
    environ
        Environment variables, for ``PYTHONPATH``.
    cwd
        The folder of the user's scripts and notebooks.
    code
        The paths of the setting ``code``.
    """
    owners = Owners(environment, {package.name for package in environment.packages})
    seen: set[str] = set()
    found = []
    for kind, folder, modules in _candidates(environment, environ, str(cwd)):
        if os.path.realpath(folder) in seen:
            continue
        seen.add(os.path.realpath(folder))
        loose = tuple(
            path
            for name, path in sorted(modules.items())
            if not any(is_inside(path, os.fspath(added)) for added in code)
            and not _OF_INSTALLERS.fullmatch(name)
            and not _owned(owners, name, path)
        )
        if loose:
            found.append(LooseFolder(kind, folder, loose))
    return tuple(found)


def _owned(owners: Owners, name: str, path: str) -> bool:
    provided = owners.find(name)
    return provided is not None and os.path.realpath(provided.path) == os.path.realpath(path)


def _candidates(
    environment: Environment, environ: Mapping[str, str], cwd: str
) -> Iterator[tuple[Kind, str, dict[str, str]]]:
    for entry in environ.get("PYTHONPATH", "").split(os.pathsep):
        if entry:
            folder = os.path.normpath(os.path.join(cwd, entry))
            yield "pythonpath", folder, _without_tools(modules_in(folder))
    locations = {package.location for package in environment.packages}
    sources = [source for package in environment.packages if (source := source_folder(package.source))]
    for folder in environment.path:
        if folder in locations or os.path.basename(folder) in ("site-packages", "dist-packages"):
            yield "site-packages", folder, _unrecorded(environment, folder)
        elif not any(is_inside(folder, place) for place in (*sources, *locations)):
            yield "pth", folder, _without_tools(modules_in(folder))
    if not _is_project(environment, sources, cwd):
        yield "folder", cwd, _without_tools(modules_in(cwd))


def _is_project(environment: Environment, sources: Iterable[str], cwd: str) -> bool:
    """Return True if the folder belongs to an installed project, or is a root or home folder."""
    projects = (*sources, environment.python.prefix)
    roots = (Path(Path(cwd).anchor), Path("~").expanduser())
    return Path(cwd) in roots or any(is_inside(cwd, folder) for folder in projects)


def _without_tools(modules: Mapping[str, str]) -> dict[str, str]:
    """Return *modules* without tests, tools and build outputs, which no module imports."""
    return {
        name: path
        for name, path in modules.items()
        if name not in NO_MODULES and not name.startswith("test_")
    }


def _unrecorded(environment: Environment, folder: str) -> dict[str, str]:
    """Return the modules in *folder* that no list of installed files has.

    Empty if a package lacks such a list, as those of Linux distributions do.
    """
    packages = [package for package in environment.packages if package.location == folder]
    if not all(package.has_record for package in packages):
        return {}
    modules = modules_in(folder)
    for package in packages:
        recorded = _recorded_modules(package.metadata_path)
        modules = {name: path for name, path in modules.items() if name not in recorded}
        if not modules:
            return {}
    conda = os.path.join(environment.python.prefix, "conda-meta")
    if modules and os.path.isdir(conda):
        claimed = _conda_modules(conda)
        modules = {name: path for name, path in modules.items() if name not in claimed}
    return modules


def _recorded_modules(metadata_path: str) -> set[str]:
    """Return the first parts of the paths in a RECORD (or ``installed-files.txt``), without suffixes."""
    for name in ("RECORD", "installed-files.txt"):
        try:
            content = read_bytes(os.path.join(metadata_path, name))
        except OSError:
            continue
        prefix = rb"(?:\.\./)?" if name == "installed-files.txt" else b""
        # A literal in front makes the search much faster than an anchor does.
        names = re.findall(rb'\n"?' + prefix + rb"([^/.,\"\r\n]+)", b"\n" + content)
        return set(map(os.fsdecode, set(names)))
    return set()


def _conda_modules(folder: str) -> set[str]:
    """Return the modules in conda's records, for modules that no RECORD lists."""
    found: set[str] = set()
    for name in os.listdir(folder):
        if name.endswith(".json"):
            try:
                content = read_bytes(os.path.join(folder, name))
            except OSError:
                continue
            found.update(os.fsdecode(module) for module in _CONDA_MODULE.findall(content))
    return found


def _short(path: str, cwd: Path) -> str:
    """Return *path* as the user would write it in *cwd*."""
    relative = os.path.relpath(path, cwd)
    return path if relative.startswith("..") else relative
