"""The part of micromamba that a build uses, `create` from an explicit file; it behaves as micromamba 2.8.1.

- Packages are linked in the order of the file, and each replaces files of those before it.
- `#sha256:` of a line is checked, or `#<md5>`; URLs are `file:///absolute` or a path.
- A post-link script that fails changes nothing, and isn't mentioned. `.messages.txt` stays.
- MAMBA_EXTRACT_THREADS is known, `--extract-threads` isn't.
- Modules are compiled once Python is there, unless `--no-pyc` is given.

Standard library and zstandard only, because it runs in images. Its times say nothing about micromamba's.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

VERSION = "2.8.1"
FLAGS = {"--no-rc", "--yes", "-y", "--quiet", "-q", "--no-pyc"}
OPTIONS = {"--prefix": "prefix", "-p": "prefix", "--file": "file", "-f": "file"}
ENTRY_POINT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == '__main__':
    sys.exit({function}())
"""
Record = dict[str, Any]


def extract(archive: Path, folder: Path) -> None:
    """Extract an archive of either format."""
    if archive.name.endswith(".tar.bz2"):
        with tarfile.open(archive, "r:bz2") as content:
            extract_all(content, folder)
        return
    import zstandard

    with zipfile.ZipFile(archive) as outer:
        for member in outer.namelist():
            if member.endswith(".tar.zst"):
                data = zstandard.ZstdDecompressor().stream_reader(outer.read(member)).read()
                with tarfile.open(fileobj=io.BytesIO(data)) as content:
                    extract_all(content, folder)


def extract_all(content: tarfile.TarFile, folder: Path) -> None:
    """Extract all files with their modes; Python 3.11.2 knows no filters."""
    content.extraction_filter = lambda member, _: member
    content.extractall(folder)


def fetch(line: str, cache: Path) -> tuple[Path, str]:
    """Return the extracted folder of a line's archive, and its URL."""
    url, _, digest = line.partition("#")
    if url.startswith("file:") and not url.startswith("file:///"):
        sys.exit(f"critical libmamba File not found: {url}")
    path = Path(url.removeprefix("file://"))
    algorithm, _, expected = digest.rpartition(":")
    actual = hashlib.new(algorithm or "md5", path.read_bytes()).hexdigest()
    if expected and actual != expected:
        sys.exit(f"error    libmamba File not valid: {algorithm} doesn't match expectation {path}")
    folder = cache / path.name.removesuffix(".conda").removesuffix(".tar.bz2")
    if not folder.exists():
        extract(path, folder)
    return folder, url


class Prefix:
    """The environment that packages are linked into."""

    def __init__(self, path: Path, records: list[Record]) -> None:
        self.path = path
        version = next((record["version"] for record in records if record["name"] == "python"), "0.0")
        self.minor = ".".join(version.split(".")[:2])

    def link(self, record: Record, folder: Path) -> None:
        """Link the files of a package, run its post-link script, and write its record."""
        noarch = read_json(folder / "info" / "link.json").get("noarch", {})
        is_python = noarch.get("type") == "python"
        entries = []
        for entry in paths_of(folder):
            path = self.installed_path(entry["_path"]) if is_python else entry["_path"]
            entries.append(self.link_file(folder / entry["_path"], path, entry))
        for point in noarch.get("entry_points", ()) if is_python else ():
            command, target = (part.strip() for part in point.split("="))
            module, function = target.split(":")
            self.write_entry_point(f"bin/{command}", module, function)
            entries.append({"_path": f"bin/{command}", "path_type": "unix_python_entry_point"})
        self.run_script(record)
        record = {
            **record,
            "files": [entry["_path"] for entry in entries],
            "paths_data": {"paths": entries, "paths_version": 1},
            "extracted_package_dir": str(folder),
            "link": {"source": str(folder), "type": 1},
        }
        meta = self.path / "conda-meta" / f"{record['name']}-{record['version']}-{record['build']}.json"
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text(json.dumps(record, indent=4))

    def installed_path(self, path: str) -> str:
        """Return the path of a file of a noarch package."""
        path = re.sub("^python-scripts/", "bin/", path)
        return re.sub("^site-packages/", f"lib/python{self.minor}/site-packages/", path)

    def link_file(self, source: Path, path: str, entry: Record) -> Record:
        """Link a file, in the place of any that is there, and return its entry."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        entry = {**entry, "_path": path}
        if source.is_symlink():
            target.symlink_to(source.readlink())
            return entry
        if placeholder := entry.get("prefix_placeholder", "").encode():
            target.write_bytes(replaced(source.read_bytes(), placeholder, os.fsencode(self.path), entry))
            shutil.copymode(source, target)
        else:
            try:
                target.hardlink_to(source)
            except OSError:
                shutil.copy2(source, target)
        return {**entry, "sha256_in_prefix": hashlib.sha256(target.read_bytes()).hexdigest()}

    def write_entry_point(self, path: str, module: str, function: str) -> None:
        """Write the script of an entry point."""
        target = self.path / path
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        python = self.path / "bin" / "python"
        name = function.partition(".")[0]
        target.write_text(ENTRY_POINT.format(python=python, module=module, name=name, function=function))
        target.chmod(0o775)

    def run_script(self, record: Record) -> None:
        """Run the post-link script of a package, however it ends."""
        script = self.path / "bin" / f".{record['name']}-post-link.sh"
        if not script.exists():
            return
        print(f"warning  libmamba Executing post-link script for package '{record['name']}'.", flush=True)
        environ = {
            **os.environ,
            "PREFIX": str(self.path),
            "PKG_NAME": record["name"],
            "PKG_VERSION": record["version"],
            "PKG_BUILDNUM": str(record["build_number"]),
            "PATH": f"{script.parent}:{os.environ['PATH']}",
        }
        shell = shutil.which("bash") or "sh"
        subprocess.run([shell, "-x", script], env=environ, cwd=script.parent, check=False)
        messages = self.path / ".messages.txt"
        if messages.exists():
            print(messages.read_text())

    def compile(self, record: Record) -> None:
        """Compile the modules of a noarch package, as far as there is a Python already."""
        python = self.path / "bin" / "python"
        if record.get("noarch") == "python" and python.exists():
            meta = self.path / "conda-meta" / f"{record['name']}-{record['version']}-{record['build']}.json"
            modules = [self.path / name for name in read_json(meta)["files"] if name.endswith(".py")]
            command = [python, "-Wi", "-m", "compileall", "-q", "-l", "-i", "-"]
            subprocess.run(command, input="\n".join(map(str, modules)), text=True, check=False)


def paths_of(folder: Path) -> list[Record]:
    """Return the entries of a package's files; older ones have three lists instead of paths.json."""
    if paths := read_json(folder / "info" / "paths.json").get("paths"):
        return list(paths)
    names = (folder / "info" / "files").read_text().split("\n")
    prefixes = {}
    if (listed := folder / "info" / "has_prefix").exists():
        for line in filter(None, listed.read_text().split("\n")):
            placeholder, mode, name = line.split(" ")
            prefixes[name] = {"prefix_placeholder": placeholder, "file_mode": mode}
    return [
        {
            "_path": name,
            "path_type": "softlink" if (folder / name).is_symlink() else "hardlink",
            **prefixes.get(name, {}),
        }
        for name in names
        if name
    ]


def replaced(data: bytes, placeholder: bytes, prefix: bytes, entry: Record) -> bytes:
    """Return the content of a file with the prefix in it."""
    if entry.get("file_mode") != "binary":
        return data.replace(placeholder, prefix)
    found = re.finditer(re.escape(placeholder) + rb"[^\0]*\0", data)
    for match in found:
        text = match[0].replace(placeholder, prefix)
        data = data[: match.start()] + text + bytes(len(match[0]) - len(text)) + data[match.end() :]
    return data


def read_json(path: Path) -> Record:
    """Return the content of a JSON file; empty if there is none."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def create(prefix: Path, lines: list[str], *, compiles: bool) -> None:
    """Create an environment from the lines of an explicit file."""
    cache = Path(os.environ.get("CONDA_PKGS_DIRS") or prefix.parent / "pkgs")
    cache.mkdir(parents=True, exist_ok=True)
    packages = [fetch(line, cache) for line in lines if line and not line.startswith(("#", "@"))]
    records = [{**read_json(folder / "info" / "index.json"), "url": url} for folder, url in packages]
    made = Prefix(prefix, records)
    for record, (folder, _) in zip(records, packages, strict=True):
        made.link(record, folder)
        if compiles:
            made.compile(record)
    (prefix / "conda-meta" / "history").write_text("==> now <==\n# cmd: micromamba create\n")


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    if arguments == ["--version"]:
        print(VERSION)
        return
    values: dict[str, str] = {}
    words = iter(arguments[1:])
    for word in words:
        if word in OPTIONS:
            values[OPTIONS[word]] = next(words)
        elif word not in FLAGS:
            print(f"The following argument was not expected: {word}\nRun with --help for more information.")
            sys.exit(109)
    prefix = Path(values["prefix"])
    lines = Path(values["file"]).read_text().splitlines()
    create(prefix, lines, compiles="--no-pyc" not in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
