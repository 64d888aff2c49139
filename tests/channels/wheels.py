"""Wheels of PyPI, taken apart into what conda packages of them hold."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.channels.archive import PLACEHOLDER, File
from tests.commands import BIN
from tests.environments import run


@dataclass(frozen=True)
class Installed:
    """One wheel as it is installed.

    Parameters
    ----------
    files
        Paths relative to ``site-packages``.
    entry_points
        Its console scripts, ``command = module:function``.
    pure
        Whether it has no compiled modules.
    """

    name: str
    version: str
    files: dict[str, File] = field(repr=False)
    entry_points: tuple[str, ...]
    pure: bool


def take_apart(requirements: Sequence[str], folder: Path, python: str) -> Iterator[Installed]:
    """Install *requirements* (without dependencies) into *folder* by uv, and yield each by itself."""
    command = [BIN / "uv", "--quiet", "pip", "install", "--python", python, "--target", folder, "--no-deps"]
    run([*command, "--only-binary", ":all:", *requirements])
    for metadata in sorted(folder.glob("*.dist-info")):
        yield _installed(folder, metadata)


def _installed(folder: Path, metadata: Path) -> Installed:
    name, _, version = metadata.name.removesuffix(".dist-info").rpartition("-")
    with (metadata / "RECORD").open(newline="") as stream:
        listed = [row[0] for row in csv.reader(stream)]
    files = {
        path: File(folder / path)
        for path in listed
        if not path.startswith(("..", "bin/")) and (folder / path).is_file()
    }
    return Installed(
        canonicalize_name(name),
        version,
        as_conda_leaves(files, metadata.name),
        console_scripts(metadata / "entry_points.txt"),
        pure="Root-Is-Purelib: true" in (metadata / "WHEEL").read_text(),
    )


def as_conda_leaves(files: dict[str, File], metadata: str, *, built_path: bool = True) -> dict[str, File]:
    """Return *files* with the metadata that a build in conda-forge leaves: pip, run in a folder there.

    Parameters
    ----------
    metadata
        The name of the ``.dist-info`` folder.
    built_path
        Whether ``direct_url.json`` names the build machine's folder.
    """
    changed = {
        **files,
        f"{metadata}/INSTALLER": File(b"conda"),
        f"{metadata}/REQUESTED": File(b""),
    }
    if built_path:
        url = (
            f"file:///home/conda/feedstock_root/build_artifacts/{metadata.partition('-')[0]}_1704067200/work"
        )
        changed[f"{metadata}/direct_url.json"] = File(json.dumps({"dir_info": {}, "url": url}).encode())
    record = f"{metadata}/RECORD"
    rows = [_row(path, file.read()) for path, file in sorted(changed.items()) if path != record]
    changed[record] = File("".join([*rows, f"{record},,\n"]).encode())
    return changed


def _row(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(data)}\n"


def console_scripts(path: Path) -> tuple[str, ...]:
    """Return the console scripts that an ``entry_points.txt`` names."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    if path.exists():
        parser.read(path)
    if not parser.has_section("console_scripts"):
        return ()
    return tuple(f"{command} = {target}" for command, target in parser.items("console_scripts"))


def script(entry_point: str) -> File:
    """Return the script of an entry point in a package for one platform."""
    module, _, function = entry_point.partition("=")[2].strip().partition(":")
    text = (
        f"#!{PLACEHOLDER}/bin/python\nimport sys\nfrom {module} import {function}\n\n"
        f'if __name__ == "__main__":\n    sys.exit({function}())\n'
    )
    return File(text.encode(), executable=True)
