"""conda packages, written as conda-build writes them: ``.conda`` and ``.tar.bz2``."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import marshal
import struct
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from conda_package_streaming.create import conda_builder

# What conda-build compiles with as its prefix, so long that any real prefix fits into its place.
PLACEHOLDER = ("/home/conda/feedstock_root/build_artifacts/imagesync/_h_env" + "_placehold" * 20)[:255]
TIMESTAMP = 1704067200  # 2024-01-01, in seconds; the same content gives the same bytes


@dataclass(frozen=True)
class File:
    """One file of a package.

    Parameters
    ----------
    content
        Its bytes, or the file that has them.
    link
        The target of a symbolic link, which has no content.
    """

    content: bytes | Path = b""
    executable: bool = False
    link: str = ""

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass(frozen=True)
class CondaPackage:
    """One package of a channel.

    Parameters
    ----------
    files
        Path in the package to file. Of a ``noarch="python"`` package the distributions are below
        ``site-packages/`` and scripts in ``python-scripts/``.
    entry_points
        ``command = module:function``; for ``noarch="python"``.
    depends, constrains
        Match specs.
    site_packages
        Of Python itself: where noarch packages go, such as ``lib/python3.11/site-packages``.
    archive
        The archive's format.
    """

    name: str
    version: str
    build: str = "0"
    subdir: str = "noarch"
    build_number: int = 0
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    noarch: Literal["", "python", "generic"] = ""
    files: Mapping[str, File] = field(default_factory=dict, repr=False)
    entry_points: tuple[str, ...] = ()
    license: str = "BSD-3-Clause"
    site_packages: str = ""
    archive: Literal["conda", "tar.bz2"] = "conda"

    @property
    def filename(self) -> str:
        """Return the archive's name."""
        return f"{self.stem}.{self.archive}"

    @property
    def stem(self) -> str:
        """Return name, version and build."""
        return f"{self.name}-{self.version}-{self.build}"


def bytecode(source: bytes, path: str) -> bytes:
    """Return bytecode of a module of a package that the module's time and size validate (PEP 552)."""
    code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
    return importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, TIMESTAMP, len(source)) + code


def write_package(package: CondaPackage, channel: Path) -> Path:
    """Write *package* into its subdir of the folder *channel*, and return the archive."""
    folder = channel / package.subdir
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.filename
    with _opened(package, folder) as archive:
        paths = []
        for name, file in sorted(package.files.items()):
            data = file.read()
            paths.append(_path_entry(name, file, data))
            archive.addfile(_tar_info(name, file, len(data)), None if file.link else io.BytesIO(data))
        for name, document in _info(package, paths).items():
            data = document.encode()
            archive.addfile(_tar_info(f"info/{name}", File(), len(data)), io.BytesIO(data))
    return path


@contextmanager
def _opened(package: CondaPackage, folder: Path) -> Iterator[tarfile.TarFile]:
    if package.archive == "conda":
        # The lowest level: a channel for tests is read once or twice.
        with conda_builder(package.stem, folder, compression_level=1, compression_threads=1) as archive:
            yield archive
        return
    with tarfile.open(folder / package.filename, "w:bz2") as archive:
        yield archive


def _tar_info(name: str, file: File, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = TIMESTAMP
    info.mode = 0o755 if file.executable else 0o644
    if file.link:
        info.type, info.linkname = tarfile.SYMTYPE, file.link
    else:
        info.size = size
    return info


def _path_entry(name: str, file: File, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "_path": name,
        "path_type": "softlink" if file.link else "hardlink",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_in_bytes": len(data),
    }
    if PLACEHOLDER.encode() in data:
        entry["prefix_placeholder"] = PLACEHOLDER
        entry["file_mode"] = "binary" if b"\0" in data else "text"
    return entry


def _info(package: CondaPackage, paths: list[dict[str, Any]]) -> dict[str, str]:
    """Return the files of the package's ``info`` folder and their text (CEP 34, CEP 26)."""
    platform, _, architecture = package.subdir.partition("-")
    index = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": package.build_number,
        "subdir": package.subdir,
        "arch": {"64": "x86_64"}.get(architecture, architecture) or None,
        "platform": platform if architecture else None,
        "depends": list(package.depends),
        "constrains": list(package.constrains),
        "license": package.license,
        "timestamp": TIMESTAMP * 1000,
    }
    if package.noarch:
        index["noarch"] = package.noarch
    if package.site_packages:
        index["python_site_packages_path"] = package.site_packages
    documents = {
        "index.json": index,
        "paths.json": {"paths": paths, "paths_version": 1},
        "about.json": {"license": package.license, "summary": f"{package.name}, for tests"},
    }
    if package.noarch:
        noarch: dict[str, Any] = {"type": package.noarch}
        if package.noarch == "python":
            noarch["entry_points"] = list(package.entry_points)
        documents["link.json"] = {"noarch": noarch, "package_metadata_version": 1}
    files = {name: json.dumps(document, indent=2, sort_keys=True) for name, document in documents.items()}
    return {**files, "files": "".join(f"{entry['_path']}\n" for entry in paths)}
