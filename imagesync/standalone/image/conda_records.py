"""Rewrite the prefix records and entry points of conda packages; part of install_conda.py.

Installers differ in details. The result is the same for all of them, and holds no time and no path of the
build.
"""

# There are tens of thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH113, PTH123

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

Record = dict[str, Any]

EPOCH = "1970-01-01 00:00:00"

ENTRY_POINT = """\
#!{python}
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {import_name}

if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file in hexadecimal; empty if there is no such file."""
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        content = hashlib.sha256()
        while piece := file.read(1 << 20):
            content.update(piece)
    return content.hexdigest()


def record_path(prefix: Path, record: Record) -> Path:
    """Return the path of a package's prefix record."""
    return prefix / "conda-meta" / f"{record['name']}-{record['version']}-{record['build']}.json"


def rewrite_record(record: Record, prefix: Path, shared: Mapping[str, str]) -> None:
    """Rewrite the prefix record of a package without traces of installer, time and path.

    The folder that the package was extracted to is removed. Of the files that other packages have, too
    (*shared*), the record has the digest in the archive and that of the installed file.
    """
    path = record_path(prefix, record)
    written = read_json(path)
    info = Path(written["extracted_package_dir"], "info")
    original = {entry["_path"]: entry for entry in read_json(info / "paths.json").get("paths", ())}
    # py-rattler moves files of this package out of the way of another's.
    entries = [
        {**entry, "_path": entry.get("original_path") or entry["_path"]}
        for entry in written["paths_data"]["paths"]
    ]
    if record.get("noarch") == "python":
        original, entries = noarch_paths(prefix, original, entries)
    bytecode = {bytecode_path(name) for name in shared if name.endswith(".py")}
    paths = [
        path_entry(prefix, entry, original.get(entry["_path"], {}), shared=entry["_path"] in shared)
        for entry in entries
        if entry["_path"] not in bytecode or (prefix / entry["_path"]).exists()
    ]
    paths.sort(key=lambda entry: entry["_path"])
    rewritten = {
        **read_json(info / "index.json"),
        **record,
        "files": [entry["_path"] for entry in paths],
        "paths_data": {"paths_version": 1, "paths": paths},
        "link": {"source": "", "type": 1},
        "extracted_package_dir": "",
        "package_tarball_full_path": "",
    }
    # A new file, because the installer's may be readable only by its owner.
    path.unlink()
    path.write_text(json.dumps(rewritten, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(written["extracted_package_dir"])


def noarch_paths(
    prefix: Path, original: dict[str, Record], entries: list[Record]
) -> tuple[dict[str, Record], list[Record]]:
    """Return both with installed paths, and the entries with the bytecode that was compiled in the build."""
    folder = (library(prefix) / "site-packages").relative_to(prefix).as_posix()
    original = {noarch_path(name, folder): entry for name, entry in original.items()}
    # Archives from before conda-build 3 have no paths.json.
    names = list(original) or [entry["_path"] for entry in entries]
    modules = [name for name in names if name.endswith(".py") and name.startswith(folder)]
    entries = [entry for entry in entries if entry["path_type"] != "pyc_file"]
    for cached in map(bytecode_path, modules):
        if cached not in names and (prefix / cached).exists():
            entries.append({"_path": cached, "path_type": "pyc_file"})
    return original, entries


def library(prefix: Path) -> Path:
    """Return the folder of the standard library; conda's Python may have links to it beside it."""
    found = (path.parent for path in (prefix / "lib").glob("python3*/os.py"))
    return next(folder for folder in found if not folder.is_symlink())


def read_json(path: Path) -> Record:
    """Return the content of a JSON file; empty if there is no such file."""
    try:
        content: Record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content


def noarch_path(name: str, folder: str) -> str:
    """Return the path, relative to the prefix, of a file of a noarch Python package."""
    first, _, rest = name.partition("/")
    if first == "python-scripts":
        return f"bin/{rest}"
    return f"{folder}/{rest}" if first == "site-packages" else name


def bytecode_path(module: str) -> str:
    """Return the path of a module's bytecode; the Python version comes from the path of its folder."""
    version = re.search(r"python3\.(\d+)", module)
    folder, _, name = module.rpartition("/")
    return f"{folder}/__pycache__/{name[:-3]}.cpython-3{version[1] if version else ''}.pyc"


def path_entry(prefix: Path, entry: Record, original: Record, *, shared: bool) -> Record:
    """Return the entry of a file: the archive's fields, and the digest of the installed file.

    A *shared* file may be installed from another package.
    """
    known = {**entry, **{key: value for key, value in original.items() if key != "_path"}}
    kept = ("path_type", "sha256", "size_in_bytes", "file_mode", "prefix_placeholder", "no_link")
    result = {"_path": entry["_path"], **{key: known[key] for key in kept if known.get(key)}}
    if not original:
        result.pop("size_in_bytes", None)  # only some installers record it
    path = str(prefix / entry["_path"])
    if known["path_type"] in ("hardlink", "unix_python_entry_point") and os.path.isfile(path):
        changed = shared or "prefix_placeholder" in result or path.endswith(".pyc") or "sha256" not in result
        if known["path_type"] == "unix_python_entry_point":
            result["sha256"] = file_sha256(path)
        if not original:  # of an archive without paths.json
            result["size_in_bytes"] = os.stat(path).st_size  # noqa: PTH116
        result["sha256_in_prefix"] = file_sha256(path) if changed else result["sha256"]
    return result


def entry_points(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield command, module and function of each entry point of a package in a folder."""
    for point in read_json(folder / "info" / "link.json").get("noarch", {}).get("entry_points", ()):
        command, _, target = (part.strip() for part in point.partition("="))
        module, _, function = (part.strip() for part in target.partition(":"))
        yield command, module, function


def write_entry_points(prefix: Path, record: Record, owners: Mapping[str, str]) -> None:
    """Write the scripts of a noarch package, whose text differs slightly between installers.

    Those of other *owners* are left alone.
    """
    if record.get("noarch") != "python":
        return
    for command, module, function in entry_points(
        Path(read_json(record_path(prefix, record))["extracted_package_dir"])
    ):
        if owners.get(f"bin/{command}", record["name"]) != record["name"]:
            continue
        path = prefix / "bin" / command
        path.write_text(entry_point_script(prefix, module, function), encoding="utf-8")
        path.chmod(0o755)


def entry_point_script(prefix: str | PurePath, module: str, function: str) -> str:
    """Return the script of an entry point."""
    import_name = function.partition(".")[0]
    return ENTRY_POINT.format(
        python=f"{prefix}/bin/python", module=module, import_name=import_name, function=function
    )


def normal_mode(mode: int) -> int:
    """Return a mode with which only root can change a file, and everybody can read it."""
    return (mode | (0o555 if mode & 0o100 else 0o444)) & ~0o022


def history(records: list[Record]) -> str:
    """Return conda's history: the packages that were installed, and the specs that the user requested."""
    names = sorted(f"+{r['channel']}/{r['subdir']}::{r['name']}-{r['version']}-{r['build']}" for r in records)
    wanted = sorted(record["requested_spec"] for record in records if record["requested_spec"])
    lines = [f"==> {EPOCH} <==", "# cmd: imagesync build", *names, f"# update specs: {json.dumps(wanted)}"]
    return "\n".join(lines) + "\n"


def activation_command(folder: str, shell: str) -> str:
    """Return the script that runs a command in the activated environment; *folder* has ``activate.sh``."""
    return (
        f"#!{shell}\n"
        "# Run a command in the activated environment; where it is activated already, just run it.\n"
        f'[ "${{CONDA_SHLVL:-0}}" != 0 ] || . {folder}/activate.sh\n'
        'exec "$@"\n'
    )


def variables_script(declared: Iterable[Record]) -> str:
    """Return the script that sets the variables that packages declare in ``env_vars.d``, in their order."""
    variables: dict[str, str] = {}
    for each in declared:
        variables |= {str(name): str(value) for name, value in each.items()}
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in sorted(variables.items())
        if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
    )
