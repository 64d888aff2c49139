# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH110, PTH112, PTH113, PTH118, PTH120
"""Editable distributions: the source trees that an environment imports from in place.

The reader of the metadata has handled ``direct_url.json`` (PEP 660). This module finds the others: the
``.egg-link`` of ``setup.py develop``, ``.pth`` files, import hooks and symbolic links.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imagesync.core.files import read_bytes
from imagesync.core.names import canonical_name
from imagesync.scan.distributions.folder import Folder
from imagesync.scan.distributions.installed import read_folder
from imagesync.scan.distributions.metadata import read_record
from imagesync.scan.environment import Finding, Package, Severity, Source
from imagesync.scan.pip_commands import Installer

_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_LEVELS_UP = 3
_NOT_IN_IDENTIFIERS = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class PathLine:
    """A folder that a ``.pth`` file puts on ``sys.path``."""

    file: str
    folder: str


def path_lines(folder: str, name: str) -> Iterator[PathLine]:
    """Yield the folders in the ``.pth`` file *name* of *folder*; its import lines are not run."""
    file = os.path.join(folder, name)
    try:
        text = read_bytes(file).decode("utf-8-sig", "surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        if line.strip() and not line.startswith(("#", "import ", "import\t")) and "\0" not in line:
            yield PathLine(file, os.path.normpath(os.path.join(folder, line.rstrip())))


def source_folder(source: Source) -> str | None:
    """Return the folder of an editable's ``file://`` URL, as a path of this machine."""
    if not source.editable or not source.url or not source.url.startswith("file:"):
        return None
    from urllib.parse import unquote, urlsplit

    path = unquote(urlsplit(source.url).path, errors="surrogateescape")
    if os.name == "nt":
        path = path.lstrip("/")
    return os.path.join(path, source.subdirectory) if source.subdirectory else path


def mark_editables(
    packages: Sequence[Package],
    folders: Sequence[Folder],
    findings: list[Finding],
    installer: Installer,
) -> list[Package]:
    """Return *packages* (of all *folders*) with the sources of the editable ones.

    Findings, such as a missing source tree, are appended to *findings*.
    """
    marking = _Marking(list(packages), findings, installer)
    for folder in folders:
        for name in folder.egg_links:
            marking.egg_link(folder.path, name)
        for name in folder.finders:
            marking.finder(folder.path, name)
        for name in folder.links:
            marking.link(folder.path, name)
    found = {os.path.realpath(folder.path): folder for folder in folders}
    for folder in folders:
        for name in folder.pth:
            for line in path_lines(folder.path, name):
                marking.pth_line(folder.path, name, line, found.get(os.path.realpath(line.folder)))
    marking.check_sources()
    return marking.packages


class _Marking:
    """The packages while editables are marked."""

    def __init__(self, packages: list[Package], findings: list[Finding], installer: Installer) -> None:
        self.packages = packages
        self._findings = findings
        self._installer = installer

    def egg_link(self, folder: str, name: str) -> None:
        """Handle an ``.egg-link`` of setuptools: a folder, and the relative path to its project."""
        file = os.path.join(folder, name)
        package_name = canonical_name(name[: -len(".egg-link")])
        try:
            lines = read_bytes(file).decode("utf-8", "surrogateescape").splitlines()
        except OSError:
            lines = []
        target = os.path.normpath(os.path.join(folder, lines[0].strip())) if lines else ""
        if not os.path.isdir(target):
            self._findings.append(_source_missing(package_name, target or "nothing", file, self._installer))
            return
        root = os.path.normpath(os.path.join(target, lines[1].strip() if len(lines) > 1 else "."))
        index = self._at(package_name, target)
        if index is None:  # linked, but on no .pth: pip lists it all the same
            linked = read_folder(target)
            self._findings.extend(linked.findings)
            self.packages += [package for package in linked.packages if package.name == package_name]
            index = self._at(package_name, target)
        if index is not None:
            self._mark(index, root)

    def finder(self, folder: str, name: str) -> None:
        """Handle an import hook of setuptools, ``__editable___<name>_<version>_finder.py``."""
        identity = _identifier(name[len("__editable__") : -len("_finder.py")])
        for index, package in enumerate(self.packages):
            if package.location == folder and _identifier(f"{package.name}-{package.version}") == identity:
                if package.source.kind == "index":
                    for target in _mapped_folders(os.path.join(folder, name)):
                        self._mark(index, project_root(target))
                        break
                return

    def link(self, folder: str, name: str) -> None:
        """Handle a module that is a symbolic link into a project (``flit install --symlink``)."""
        target = os.path.realpath(os.path.join(folder, name))
        index = self._recorded(folder, name)
        if index is None:
            return
        if not os.path.exists(target):
            package = self.packages[index]
            self._findings.append(
                _source_missing(package.name, target, os.path.join(folder, name), self._installer)
            )
        if _has_project(target) or not os.path.exists(target):  # uv can link single files to its cache
            self._mark(index, project_root(target))

    def pth_line(self, folder: str, name: str, line: PathLine, content: Folder | None) -> None:
        """Handle a folder that a ``.pth`` file names, with the content that was read from it, if any."""
        if line.folder.endswith(".egg") or is_inside(line.folder, folder):
            return
        index = self._owner(folder, name, line.folder)
        exists = os.path.exists(line.folder)
        if index is not None:
            if exists or self.packages[index].source.kind == "index":
                self._mark(index, project_root(line.folder))
            return
        if not exists:
            self._findings.append(_pth_missing(line))
            return
        if content is None or not content.packages:
            self._findings.append(_pth_unowned(line, self._installer))
            return
        # An easy-install.pth whose .egg-link is gone still makes the source tree importable.
        for package in content.packages:
            if package.metadata_path.endswith(".egg-info") and _has_project(line.folder):
                at = self._at(package.name, package.location)
                if at is not None:
                    self._mark(at, project_root(line.folder))

    def check_sources(self) -> None:
        """Find the editables whose source tree is gone."""
        known = {finding.package for finding in self._findings if finding.code == "editable-source-missing"}
        for package in self.packages:
            folder = source_folder(package.source)
            if folder is not None and package.name not in known and not os.path.isdir(folder):
                self._findings.append(
                    _source_missing(package.name, folder, package.metadata_path, self._installer)
                )

    def _mark(self, index: int, root: str) -> None:
        package = self.packages[index]
        if package.source.kind == "index":
            source = Source(kind="directory", url=Path(root).absolute().as_uri(), editable=True)
            self.packages[index] = replace(package, source=source, requested=True)

    def _at(self, name: str, location: str) -> int | None:
        place = os.path.realpath(location)
        for index, package in enumerate(self.packages):
            if package.name == name and os.path.realpath(package.location) == place:
                return index
        return None

    def _owner(self, folder: str, name: str, target: str) -> int | None:
        """Return the index of the package that a ``.pth`` file belongs to, by name, source or RECORD."""
        identity = _identifier(name[: -len(".pth")].removeprefix("__editable__"))
        for index, package in enumerate(self.packages):
            if package.location != folder:
                continue
            if (
                name.startswith("__editable__")
                and _identifier(f"{package.name}-{package.version}") == identity
            ):
                return index
            root = source_folder(package.source)
            if root is not None and is_inside(target, root):
                return index
        return self._recorded(folder, name)

    def _recorded(self, folder: str, name: str) -> int | None:
        """Return the index of the package in *folder* whose RECORD lists the file *name*."""
        encoded = os.fsencode(name)
        for index, package in enumerate(self.packages):
            if package.location != folder or not package.has_record:
                continue
            record = os.path.join(package.metadata_path, "RECORD")
            # The bytes rule out nearly every package before its RECORD is parsed.
            if not os.path.isfile(record) or encoded not in read_bytes(record):
                continue
            if any(
                path == name or path.startswith(name + "/")
                for path, _, _ in read_record(package.metadata_path)
            ):
                return index
        return None


def project_root(path: str) -> str:
    """Return the nearest folder at or above *path* with a project, or *path* itself."""
    folder = path if not os.path.isfile(path) else os.path.dirname(path)
    start = folder
    for _ in range(_LEVELS_UP + 1):
        if any(os.path.isfile(os.path.join(folder, name)) for name in _PROJECT_FILES):
            return folder
        folder = os.path.dirname(folder)
    return start


def _has_project(path: str) -> bool:
    return any(os.path.isfile(os.path.join(project_root(path), name)) for name in _PROJECT_FILES)


def _identifier(name: str) -> str:
    """Return a name and version normalised for comparison with file names of setuptools."""
    return _NOT_IN_IDENTIFIERS.sub("-", name).strip("-").lower()


def is_inside(path: str, folder: str) -> bool:
    """Return True if *path* is *folder* or lies in it, links resolved."""
    return os.path.join(os.path.realpath(path), "").startswith(os.path.join(os.path.realpath(folder), ""))


def _mapped_folders(file: str) -> tuple[str, ...]:
    """Return the paths in the ``MAPPING`` of a setuptools finder, which isn't run."""
    import ast

    try:
        tree = ast.parse(read_bytes(file))
    except (OSError, SyntaxError, ValueError):
        return ()
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == "MAPPING" for target in targets):
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            if isinstance(value, ast.Dict):
                constants = [item.value for item in value.values if isinstance(item, ast.Constant)]
                return tuple(item for item in constants if isinstance(item, str))
    return ()


def _source_missing(name: str, target: str, path: str, installer: Installer) -> Finding:
    return Finding(
        Severity.ERROR,
        "editable-source-missing",
        f"{name} is installed editable from {target}, which doesn't exist",
        path=path,
        package=name,
        hint=f"Bring the source tree back, or uninstall it: {installer.uninstall([name])}",
    )


def _pth_missing(line: PathLine) -> Finding:
    return Finding(
        Severity.WARNING,
        "pth-folder-missing",
        f"{line.file} puts {line.folder} on sys.path, which doesn't exist",
        path=line.file,
        hint="Delete the line, or the file if it has no other.",
    )


def _pth_unowned(line: PathLine, installer: Installer) -> Finding:
    return Finding(
        Severity.WARNING,
        "pth-folder-unowned",
        f"{line.file} makes the modules in {line.folder} importable, but they belong to no package, "
        "so they won't be in the image",
        path=line.file,
        hint=f"Take them into the image as they are (--code {line.folder}), or give them a pyproject.toml "
        f"and install them: {installer.install([line.folder], '--editable')}",
    )
