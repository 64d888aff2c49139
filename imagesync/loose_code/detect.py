# Paths stay strings: every folder on sys.path is looked at.
# ruff: noqa: PTH118, PTH119, PTH120
"""Detecting loose code that the image would lack: importable modules that belong to no distribution.

Such modules are on ``PYTHONPATH``, in the folders of ``.pth`` files, among the installed packages, and next
to scripts and notebooks. Nothing is imported; files are only read to find the owner of a module.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagesync.core.text import first_of
from imagesync.loose_code.owners import NO_MODULES, Owners, modules_in
from imagesync.scan.distributions.editables import is_inside, source_folder
from imagesync.scan.environment import Environment, Finding, Severity

Kind = Literal["pythonpath", "pth", "site-packages", "folder"]

_SHOWN = 5
# Written by virtualenv, uv and setuptools' editables; the first two are in no RECORD.
_OF_INSTALLERS = re.compile(r"_virtualenv|_distutils_hack|__editable__.*|sitecustomize|usercustomize")


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
        # Of site-packages, only the modules can be added, never the whole folder.
        paths = [_short(path, cwd) for path in (self.modules if self._single else (self.folder,))][:_SHOWN]
        options = " ".join(f"--code {shlex.quote(path)}" for path in paths)
        listed = ", ".join(f'"{path}"' for path in paths)
        return Finding(
            Severity.INFO if self.kind == "folder" else Severity.WARNING,
            f"loose-{self.kind}",
            f"{first_of(names, _SHOWN)} in {self.folder} {_PLACES[self.kind]}, and "
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
    environment: Environment,
    *,
    modules: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path,
    code: Sequence[Path] = (),
) -> tuple[LooseFolder, ...]:
    """Return the folders on ``sys.path`` with modules that belong to no distribution and aren't in *code*.

    Parameters
    ----------
    environment
        The scanned environment.
    modules
        Those beside the installed packages, as their comparison found them.
    environ
        Environment variables, for ``PYTHONPATH``.
    cwd
        The folder at which relative entries of ``PYTHONPATH`` start.
    code
        The paths of the setting ``code``.
    """
    loose = _Loose(environment, code)
    beside: dict[str, dict[str, str]] = {}
    for path in modules:
        beside.setdefault(os.path.dirname(path), {})[os.path.basename(path).partition(".")[0]] = path
    found = [loose.among("site-packages", folder, paths) for folder, paths in beside.items()]
    found += [
        loose.among("pythonpath", folder, _without_tools(modules_in(folder)))
        for folder in _python_path(environ, cwd)
    ]
    locations = {package.location for package in environment.packages}
    known = (*_sources(environment), *locations)
    found += [
        loose.among("pth", folder, _without_tools(modules_in(folder)))
        for folder in environment.path
        if os.path.basename(folder) not in ("site-packages", "dist-packages")
        and not any(is_inside(folder, place) for place in known)
    ]
    return tuple(each for each in found if each.modules)


def find_loose_folder(
    environment: Environment, *, environ: Mapping[str, str], cwd: Path, code: Sequence[Path] = ()
) -> tuple[LooseFolder, ...]:
    """Return *cwd* if it isn't on the path, and scripts and notebooks there can import loose modules.

    The parameters are those of :func:`find_loose_code`. A folder of a package or of the environment has none.
    """
    on_path = (*_python_path(environ, cwd), *environment.path)
    if any(os.path.realpath(folder) == os.path.realpath(cwd) for folder in on_path):
        return ()
    folder = str(cwd)
    if _is_project(environment, _sources(environment), folder):
        return ()
    loose = _Loose(environment, code).among("folder", folder, _without_tools(modules_in(folder)))
    return (loose,) if loose.modules else ()


class _Loose:
    """Finds the modules that belong to no distribution; each folder counts once."""

    def __init__(self, environment: Environment, code: Sequence[Path]) -> None:
        self._environment = environment
        self._code = tuple(map(os.fspath, code))
        self._seen: set[str] = set()

    def among(self, kind: Kind, folder: str, modules: Mapping[str, str]) -> LooseFolder:
        real = os.path.realpath(folder)
        candidates = {
            name: path
            for name, path in modules.items()
            if real not in self._seen
            and not any(is_inside(path, added) for added in self._code)
            and not _OF_INSTALLERS.fullmatch(name)
        }
        self._seen.add(real)
        if candidates and kind != "site-packages":
            owners = Owners(self._environment, {package.name for package in self._environment.packages})
            candidates = {k: path for k, path in candidates.items() if not _owned(owners, k, path)}
        return LooseFolder(kind, folder, tuple(path for _, path in sorted(candidates.items())))


def _owned(owners: Owners, name: str, path: str) -> bool:
    provided = owners.find(name)
    return provided is not None and os.path.realpath(provided.path) == os.path.realpath(path)


def _python_path(environ: Mapping[str, str], cwd: Path) -> list[str]:
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.normpath(os.path.join(cwd, entry)) for entry in entries if entry]


def _sources(environment: Environment) -> list[str]:
    return [source for package in environment.packages if (source := source_folder(package.source))]


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


def _short(path: str, cwd: Path) -> str:
    """Return *path* as the user would write it in *cwd*."""
    relative = os.path.relpath(path, cwd)
    return path if relative.startswith("..") else relative
