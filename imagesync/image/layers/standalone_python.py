"""The interpreter of an image from python-build-standalone: the same build that the environment runs.

uv installs these builds. The one of an environment on the image's platform is taken as it is installed; for
another platform uv installs its counterpart, from where the user has told uv to take it.

Source: https://github.com/astral-sh/python-build-standalone, and uv's ``uv python install``.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from imagesync.core.archive_members import zip_member
from imagesync.core.files import read_chunks
from imagesync.core.platforms import runs_on
from imagesync.core.scratch import scratch_folder
from imagesync.errors import BaseImageError
from imagesync.image.layers.entries import Entry, file_entry, symlink_entry, tar_stream, with_parents
from imagesync.image.layers.parts import PartRequest

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.scan.environment import Interpreter
    from imagesync.store.store import Store, StoredFile

PLACE: Final = PurePosixPath("/opt/python")
"""The folder of the interpreter in the image."""
_FORMAT: Final = 1  # raised when the same installation would give other entries
_NAME: Final = re.compile(r"cpython-(?P<version>3\.\d+\.\d+)-(?P<platform>[a-z]+-[a-z0-9_]+-[a-z]+)")
_VARIANT: Final = re.compile(r"[a-z0-9_]+_v\d")
_BUILD: Final = re.compile(r"\d{8}")
# The installed path is in these, where the build had its own.
_TEXTS: Final = (".py", ".pc", ".sh", "Makefile", "-config")
_MODE: Final = 0o755


@dataclass(frozen=True)
class StandalonePython:
    """A build of python-build-standalone that is installed on this machine.

    Parameters
    ----------
    folder
        Its installation.
    version, build
        Of CPython, and the date of the build.
    variant
        The processors that it needs, such as ``x86_64_v3``; empty if all of the platform can run it.
    """

    folder: Path
    version: str
    build: str
    variant: str = ""

    @property
    def minor(self) -> str:
        """Return the feature version, such as ``3.12``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def origin(self) -> str:
        """Return its name, version and variant, for hashes and for people."""
        return f"python-build-standalone {self.version}+{self.build} {self.variant}".rstrip()

    @property
    def library(self) -> PurePosixPath:
        """Return the folder of the standard library in the image."""
        return PLACE / "lib" / f"python{self.minor}"

    def contents_of(self, base: BaseContents) -> BaseContents:
        """Return the contents of a base image that this interpreter is put on."""
        venv = self._modules / "venv"
        scripts = [venv / "__init__.py", *venv.glob("scripts/common/*"), *venv.glob("scripts/posix/*")]
        return replace(
            base,
            python_executable=f"{PLACE}/bin/python3",
            python_target=f"{PLACE}/bin/python{self.minor}",
            python_version=self.version,
            venv={path.relative_to(venv).as_posix(): path.read_bytes() for path in scripts if path.is_file()},
        )

    def modules(self, store: Store) -> StoredFile:
        """Return an archive of the modules below :attr:`library`, to be compiled."""
        key = f"standalone-modules {_FORMAT} {self.origin} {self._state}"
        found = store.recall(key)
        if found is None:
            with scratch_folder("python") as folder:
                target = folder / "modules.zip"
                with zipfile.ZipFile(target, "w") as archive:
                    for path in self._files:
                        if path.suffix == ".py" and path.is_relative_to(self._modules):
                            member = zip_member(path.relative_to(self._modules).as_posix())
                            archive.writestr(member, self._content(path))
                found = store.add_file(target, filename=f"python-{self.version}-{self.build}.whl")
            store.remember(key, found)
        return found

    def request(self, environment: list[Entry], bytecode: StoredFile | None) -> PartRequest:
        """Return the request for the part of the interpreter and of the *environment* that is made of it."""
        digest = bytecode.digest if bytecode is not None else ""
        made = hashlib.sha256()
        for piece in tar_stream(environment):
            made.update(piece)
        key = (
            "standalone python",
            str(_FORMAT),
            self.origin,
            self._state,
            str(PLACE),
            digest,
            made.hexdigest(),
        )
        return PartRequest(f"Python {self.version}", key, lambda: [*self._entries(bytecode), *environment])

    def paths(self) -> list[str]:
        """Return the paths of its files and links in the image."""
        return [self._place(path) for path in self._files]

    @property
    def _modules(self) -> Path:
        """The folder of the standard library on this machine."""
        return self.folder / "lib" / f"python{self.minor}"

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """Return its files and links, sorted: without what ran here has compiled, or pip has installed."""
        found = []
        packages = self._modules / "site-packages"
        scripts = frozenset(_scripts(packages))
        for place, folders, names in os.walk(self.folder):
            folder = Path(place)
            found += [folder / each for each in folders if (folder / each).is_symlink()]
            folders[:] = sorted(f for f in folders if f != "__pycache__" and folder / f != packages)
            found += [folder / name for name in names if not name.endswith(".pyc")]
        return tuple(sorted(path for path in found if path != self.folder / "BUILD" and path not in scripts))

    @cached_property
    def _state(self) -> str:
        """Return a digest that changes when somebody changes the installation."""
        found = hashlib.sha256()
        for path in self._files:
            state = path.lstat()
            found.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="surrogateescape"))
        return found.hexdigest()

    def _entries(self, bytecode: StoredFile | None) -> list[Entry]:
        entries = [self._entry(path) for path in self._files]
        if bytecode is not None:
            library = str(self.library).lstrip("/")
            with zipfile.ZipFile(bytecode.path) as archive:
                names = sorted(archive.namelist())
                entries += [file_entry(f"{library}/{name}", archive.read(name)) for name in names]
        return with_parents(entries)

    def _entry(self, path: Path) -> Entry:
        place, state = self._place(path), path.lstat()
        if stat.S_ISLNK(state.st_mode):
            return symlink_entry(place, self._target(path))
        mode = _MODE if state.st_mode & stat.S_IXUSR else 0o644
        if path.name.endswith(_TEXTS):
            return file_entry(place, self._content(path), mode=mode)
        return Entry(place, mode=mode, size=state.st_size, read=lambda: _chunks(path))

    def _target(self, path: Path) -> str:
        target = str(path.readlink())
        inside = (path.parent / target).resolve()
        if not inside.is_relative_to(self.folder):
            raise BaseImageError(
                f"The Python in {self.folder} has a link that leads out of it: {path} -> {target}",
                hint="Install it again: uv python install --reinstall",
            )
        return os.path.relpath(inside, path.parent.resolve())

    def _content(self, path: Path) -> bytes:
        """Return a text with the image's folder in place of this machine's."""
        return path.read_bytes().replace(os.fsencode(self.folder), os.fsencode(str(PLACE)))

    def _place(self, path: Path) -> str:
        return f"{str(PLACE).lstrip('/')}/{path.relative_to(self.folder).as_posix()}"


def _scripts(packages: Path) -> Iterator[Path]:
    """Yield the files outside of the folder *packages* that belong to the distributions in it."""
    for record in packages.glob("*.dist-info/RECORD"):
        with suppress(OSError, ValueError, csv.Error), record.open(encoding="utf-8", newline="") as file:
            names = (row[0] for row in csv.reader(file) if row)
            yield from (Path(os.path.normpath(packages / name)) for name in names if name.startswith("../"))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from read_chunks(file)


def find_standalone(python: Interpreter) -> StandalonePython | None:
    """Return the build that an environment's interpreter is, on this machine's platform; else ``None``."""
    if python.implementation != "cpython" or not python.base_prefix:
        return None
    folder = Path(python.base_prefix).resolve()  # uv's name for a feature version is a link
    match = _NAME.fullmatch(folder.name)
    try:
        build = (folder / "BUILD").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if match is None or match["version"] != python.version or not _BUILD.fullmatch(build):
        return None
    variant = _VARIANT.search(match["platform"])
    return StandalonePython(folder, python.version, build, variant[0] if variant else "")


def for_image(
    found: StandalonePython,
    python: Interpreter,
    *,
    platform: Platform,
    cache: Path,
    environ: Mapping[str, str],
) -> StandalonePython:
    """Return the counterpart of a build for an image's platform: itself, or one that uv installs.

    Parameters
    ----------
    found
        As :func:`find_standalone` gives it.
    python
        The interpreter that it is.
    platform
        The image's.
    cache
        The folder that it is installed in, for another platform.
    environ
        The environment variables, by which uv finds its cache and the mirror (``UV_PYTHON_CACHE_DIR``,
        ``UV_PYTHON_INSTALL_MIRROR``).

    Raises
    ------
    BaseImageError
        uv can't install it, or only another build.
    """
    if runs_on(platform, local=python.platform, libc=python.libc):
        return found
    from uv import find_uv_bin

    # It runs on all processors of that platform, whatever this machine has.
    found = replace(found, variant="")
    name = f"cpython-{found.version}-{platform.sysconfig_name}-gnu"
    root = cache / found.build
    folder = (root / name).resolve()
    if (folder / "BUILD").exists():
        return replace(found, folder=folder)
    options = ["--no-bin", "--no-registry", "--install-dir", str(root)]
    command = [find_uv_bin(), "python", "install", *options, name]
    pinned = {**environ, "UV_PYTHON_CPYTHON_BUILD": found.build}
    done = subprocess.run(command, env=pinned, capture_output=True, check=False)
    if done.returncode != 0 or not (folder / "BUILD").exists():
        raise BaseImageError(
            f"uv can't install {found.origin} for {platform}:\n"
            + done.stderr.decode(errors="replace").strip()[-2000:],
            hint="Set UV_PYTHON_INSTALL_MIRROR, or take the base image's Python: python = 'base'.",
        )
    return replace(found, folder=folder)
