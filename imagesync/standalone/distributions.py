"""Names and archives of distributions, as several programs need them."""

# Programs start often and see thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH103, PTH118, PTH120, PTH123, PTH211

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution
from typing import BinaryIO

_FIELD = re.compile(r"^(name|version):[ \t]*(.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


def canonical_name(name: str) -> str:
    """Return the name of a distribution as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def identity(distribution: Distribution) -> tuple[str, str]:
    """Return name and version of an installed distribution, as far as its metadata has them."""
    # Parsing it as a message takes ten times as long.
    fields = _FIELD.findall(metadata_text(distribution).partition("\n\n")[0])
    found = {field.lower(): value for field, value in reversed(fields)}
    return found.get("name", ""), found.get("version", "")


def metadata_text(distribution: Distribution) -> str:
    """Return the core metadata of an installed distribution; what isn't UTF-8 is read as Latin-1."""
    for name in ("METADATA", "PKG-INFO", ""):  # an egg-info may be a file
        try:
            text = distribution.read_text(name)
        except UnicodeDecodeError:
            path = os.path.join(str(getattr(distribution, "_path", "")), name)
            with open(path, encoding="latin-1") as file:
                text = file.read()
        if text:
            return text
    return ""


def installed_path(member: str) -> str:
    """Return the path below site-packages of a wheel's member; empty for one that goes elsewhere."""
    first, _, rest = member.partition("/")
    if not first.endswith(".data"):
        return member
    scheme, _, path = rest.partition("/")
    return path if scheme in ("purelib", "platlib") else ""


def extract(archive: str | BinaryIO, folder: str, target: Callable[[str], str] = str) -> list[str]:
    """Extract a ZIP archive with its links, and return the paths of the files.

    Parameters
    ----------
    archive
        Its path, or the open file.
    folder
        Nothing is written outside of it.
    target
        Gives the path below *folder* of a member; an empty one leaves the member out.

    Raises
    ------
    ValueError
        A member leads out of the folder, by its name or through a link of the archive.
    """
    root = os.path.realpath(folder)
    files = []
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            name = target(member.filename)
            if not name or member.is_dir():
                continue
            path = os.path.join(root, name)
            parent = os.path.dirname(path)
            if ".." in name.split("/") or os.path.commonpath([os.path.realpath(parent), root]) != root:
                raise ValueError(f"{member.filename} leads out of the archive")
            os.makedirs(parent, exist_ok=True)
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                os.symlink(content.read(member).decode(), path)
                continue
            with open(path, "wb") as file:
                file.write(content.read(member))
            os.chmod(path, 0o755 if mode & stat.S_IXUSR else 0o644)  # noqa: PTH101
            files.append(path)
    return files
