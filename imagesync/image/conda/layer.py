"""The conda layer of an image: archives, bytecode, and the installer."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from imagesync.image.conda.uncompiled_modules import library, modules_to_compile
from imagesync.image.conda.wheel_conflicts import refuse_file_conflicts
from imagesync.image_layout import PREFIX, site_packages
from imagesync.lock.conda.archive_files import read_archive_files
from imagesync.lock.conda.locked_records import topological_order
from imagesync.scan.conda.shared_files import EXECUTABLE, NOT_EXECUTABLE, SITE_PACKAGES
from imagesync.standalone.image.conda_records import bytecode_path
from imagesync.wheels.bytecode import compile_bytecode

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.image.conda.conda_installer import CondaInstaller
    from imagesync.lock.conda.archive_files import ArchiveFiles
    from imagesync.lock.lock import Lock
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.scan.environment import Interpreter
    from imagesync.store.store import Store, StoredFile

FOLDER = "/mnt/conda"
"""The folder of archives from the build context."""
BYTECODE_FOLDER = "/mnt/bytecode"
"""The folder of bytecode from the build context."""


@dataclass(frozen=True)
class ArchiveImage:
    """An image of the engine that holds archives.

    Parameters
    ----------
    reference
        Its name in the engine.
    folder
        The path that builds mount it at.
    keys
        The keys of its archives (:func:`archive_key`).
    """

    reference: str
    folder: str
    keys: frozenset[str] = field(repr=False)

    def path_of(self, file: StoredFile) -> str | None:
        """Return the path of a file in a build, or ``None`` if the image doesn't have it."""
        key = archive_key(file)
        return f"{self.folder}/{key}/{file.filename}" if key in self.keys else None


def archive_key(file: StoredFile) -> str:
    """Return the name of a file's folder in an image, which identifies its content and its name."""
    return hashlib.sha256(f"{file.digest} {file.filename}".encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class CondaPackages:
    """The conda packages of an image, with all that installing them needs.

    Parameters
    ----------
    packages, archives
        The packages in topological order, and their archives in the same order.
    contents
        The files of each package, by its conda name.
    bytecode
        Archives of compiled modules, for packages without bytecode; members relative to the library.
    scripts
        The names of packages with a post-link script.
    activates
        Whether packages have activation scripts or variables.
    owners
        The package that each file is installed from that several packages have, by path below the prefix.
    executables
        Those of these paths whose mode is known, and whether they are executable.
    """

    packages: tuple[LockedConda, ...]
    archives: tuple[StoredFile, ...]
    contents: Mapping[str, ArchiveFiles] = field(default_factory=dict, repr=False)
    bytecode: tuple[StoredFile, ...] = ()
    scripts: tuple[str, ...] = ()
    activates: bool = False
    owners: Mapping[str, str] = field(default_factory=dict)
    executables: Mapping[str, bool] = field(default_factory=dict)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the fields of the prefix records in the image, without the files."""
        return [
            _record(package, archive) for package, archive in zip(self.packages, self.archives, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class CondaLayer(CondaPackages):
    """The inputs of the build step that installs conda packages.

    Parameters
    ----------
    installer
        Installs the archives.
    images
        Images of the engine that together have all archives and all bytecode; empty if the build context
        has them.
    """

    installer: CondaInstaller
    images: tuple[ArchiveImage, ...] = ()

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Return all archives and all bytecode."""
        return (*self.archives, *self.bytecode)

    def explicit(self) -> str:
        """Return micromamba's explicit file: the path of each archive in the build, and its sha256."""
        lines = [
            self._line(archive, f"{FOLDER}/{package.subdir}")
            for package, archive in zip(self.packages, self.archives, strict=True)
        ]
        return "\n".join(("@EXPLICIT", *lines)) + "\n"

    def compiled(self) -> str:
        """Return the same list of the archives of bytecode."""
        return "".join(f"{self._line(archive, BYTECODE_FOLDER)}\n" for archive in self.bytecode)

    def _line(self, file: StoredFile, folder: str) -> str:
        """Return the URL of a file in the build with its sha256; *folder* is that of the context's files."""
        paths = (image.path_of(file) for image in self.images)
        path = next(filter(None, paths), f"{folder}/{file.filename}")
        return f"file://{path}#{file.digest}"

    def owners_json(self) -> str:
        """Return the package of each shared file as JSON, and whether it is executable, if that is known."""
        files = {path: [name, self.executables.get(path)] for path, name in self.owners.items()}
        return json.dumps(files, indent=1, sort_keys=True) + "\n"

    def records_json(self) -> str:
        """Return the records as JSON."""
        return json.dumps(self.records, indent=1, sort_keys=True) + "\n"


def make_layer(packages: CondaPackages, installer: CondaInstaller, *, progress: Progress) -> CondaLayer:
    """Return the layer of *packages*, which *installer* installs; *progress* names those with a script."""
    for name in packages.scripts:
        progress.line(f"The conda package {name} has a script that runs in the build, without a network")
    return CondaLayer(
        **{each.name: getattr(packages, each.name) for each in fields(CondaPackages)}, installer=installer
    )


def conda_packages(
    lock: Lock,
    archives: Sequence[StoredFile],
    *,
    wheels: Sequence[StoredFile],
    python: Interpreter,
    store: Store,
    progress: Progress,
    shared_files: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    all_bytecode: bool = False,
    known: Mapping[str, ArchiveFiles] = MappingProxyType({}),
    check_scripts: Callable[[tuple[str, ...]], None] | None = None,
) -> CondaPackages:
    """Return the conda packages of *lock*.

    Parameters
    ----------
    lock
        Names the conda packages.
    archives
        In the order of ``lock.conda``.
    wheels
        The wheels of pip's layers, which lie above this one.
    python
        The scanned interpreter, which compiles modules without bytecode if its version is the target's.
    store
        Keeps the bytecode.
    progress
        Shows what is compiled.
    shared_files
        The files that several conda packages have locally; see
        :func:`~imagesync.scan.conda.shared_files.shared_files`.
    all_bytecode
        Whether bytecode that packages bring is converted, too, for an image that no container makes.
    known
        The files of packages, by their conda names, whose archives aren't here because others have installed
        them: nothing of these is compiled.
    check_scripts
        Called with the names of packages with a post-link script, before anything is compiled; it may raise.

    Raises
    ------
    LockError
        A wheel would change a file of a conda package, or an archive can't be read.
    """
    minor = lock.target.minor
    packages = topological_order(lock.conda)
    by_name = dict(zip((package.name for package in lock.conda), archives, strict=True))
    archives = [by_name[package.name] for package in packages]
    here = [(p, archive) for p, archive in zip(packages, archives, strict=True) if p.name not in known]
    packages_here, archives_here = [package for package, _ in here], [archive for _, archive in here]
    read = read_archive_files(packages_here, archives_here, minor=minor, store=store)
    found = {**known, **dict(zip((package.name for package in packages_here), read, strict=True))}
    contents = {package.name: found[package.name] for package in packages}
    scripts = tuple(name for name, each in contents.items() if each.has_post_link)
    if check_scripts is not None:
        check_scripts(scripts)
    installed = _in_image(shared_files, minor=minor)
    owners = owners_of_shared(contents, installed)
    refuse_file_conflicts(contents, wheels, minor=minor, owners=owners)
    modules = modules_to_compile(
        packages_here, archives_here, minor=minor, store=store, with_bytecode=all_bytecode
    )
    return CondaPackages(
        packages=tuple(packages),
        archives=tuple(archives),
        contents=contents,
        owners=owners,
        executables={
            path: installed[path] == EXECUTABLE
            for path in owners
            if installed.get(path) in {EXECUTABLE, NOT_EXECUTABLE}
        },
        bytecode=compile_bytecode(
            modules,
            python=python,
            target=lock.target,
            site_packages=library(minor),
            store=store,
            progress=progress,
            converts=all_bytecode,
        )
        if modules
        else (),
        scripts=scripts,
        activates=any(each.has_activation for each in contents.values()),
    )


def _in_image(shared_files: Mapping[str, tuple[str, ...]], *, minor: str) -> dict[str, str]:
    """Return whose file is installed locally, by its path below the image's prefix."""
    modules = site_packages(minor).relative_to(PREFIX).as_posix()
    return {
        f"{modules}/{path.removeprefix(SITE_PACKAGES)}" if path.startswith(SITE_PACKAGES) else path: names[0]
        for path, names in shared_files.items()
    }


def owners_of_shared(contents: Mapping[str, ArchiveFiles], installed: Mapping[str, str]) -> dict[str, str]:
    """Return the package that each file is installed from that several packages have, by its path.

    It is the package whose file is installed locally, else the last one: conda links the packages in this
    order, and each replaces files of those before it. Bytecode that the installer replaces together with its
    module isn't listed if its module is.

    Parameters
    ----------
    contents
        The content of each package by name, in topological order.
    installed
        The package whose file is installed locally, for files that several packages have there.
    """
    packages: defaultdict[str, list[str]] = defaultdict(list)
    for name, content in contents.items():
        for path in content.files:
            packages[path].append(name)
    shared = {path: names for path, names in packages.items() if len(names) > 1}
    owners: dict[str, str] = {}
    # Modules come before their bytecode.
    for path in sorted(shared, key=lambda path: (bool(_module_of(path)), path)):
        names, module = shared[path], _module_of(path)
        if module in shared and path == bytecode_path(module):
            continue  # it goes with its module
        owner = owners.get(module) or installed.get(path, "")
        owners[path] = owner if owner in names else names[-1]
    return owners


def _module_of(path: str) -> str:
    """Return the path of the module that bytecode belongs to; empty for other files.

    >>> _module_of("lib/python3.12/site-packages/demo/__pycache__/core.cpython-312.pyc")
    'lib/python3.12/site-packages/demo/core.py'
    """
    folder, _, name = path.rpartition("/")
    if not (folder.endswith("__pycache__") and name.endswith(".pyc")):
        return ""
    return f"{folder.removesuffix('__pycache__')}{name.partition('.')[0]}.py"


def _record(package: LockedConda, archive: StoredFile) -> dict[str, Any]:
    """Return the fields of a prefix record that the lock knows, with conda's names and values."""
    record: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": package.build_number,
        "channel": package.channel,
        "subdir": package.subdir,
        "fn": archive.filename,
        "url": package.artifact.url,
        "sha256": archive.digest.removeprefix("sha256:"),
        "size": archive.size,
        "depends": list(package.depends),
        "constrains": list(package.constrains),
        "requested_spec": _requested(package),
    }
    if package.md5:
        record["md5"] = package.md5
    if package.noarch:
        record["noarch"] = package.noarch
    return record


def _requested(package: LockedConda) -> str:
    planned = package.planned
    if planned is None:
        return ""
    if planned.record is not None:
        return planned.record.requested_spec
    return f"{planned.name} {planned.specifier}".strip() if planned.requested else ""
