"""Print the packages of an image and its faults as JSON; runs in a container of it.

Usage: python image_facts.py PREFIX SECONDS NEW CODE [MODULE ...]

Each MODULE is imported; all of them may take SECONDS. NEW names the distributions whose files are checked,
separated by commas; * stands for all, and for all other files below PREFIX. CODE names modules, separated by
commas, that have to be found and aren't run; the files in PREFIX/code are always checked.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

from imagesync.standalone.compilation import MOST_SOURCE, compiled
from imagesync.standalone.distributions import canonical_name, identity

# Thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH113, PTH118, PTH120, PTH123

CODE = os.path.join(sys.prefix, "code", "")
LIBRARY = os.path.join(sysconfig.get_path("stdlib"), "")
ACTIVATION = os.path.join(sys.prefix, "share", "imagesync", "activate.sh")
# Variables that a shell sets for itself.
SHELL_VARIABLES = {"PWD", "OLDPWD", "SHLVL", "_"}

IMPORT_EACH = """
import importlib, json, sys, traceback
for name in sys.argv[1:]:
    print(json.dumps([name, None]), flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(json.dumps([name, traceback.format_exception_only(type(error), error)[-1].strip()]), flush=True)
"""


def start_imports(names: list[str]) -> subprocess.Popen[bytes]:
    """Start a process that imports modules: a faulty library may crash it, and other checks run meanwhile."""
    command = [sys.executable, "-c", IMPORT_EACH, *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def failed_imports(process: subprocess.Popen[bytes], timeout: float) -> dict[str, str]:
    """Return the reason for each module that can't be imported."""
    try:
        output, errors = process.communicate(timeout=timeout)
        log = errors.decode(errors="replace").strip()[-500:]
        crash = f"the interpreter ended with {process.returncode}: {log}" if process.returncode else None
    except subprocess.TimeoutExpired:
        process.kill()
        output, crash = process.communicate()[0], f"not imported within {timeout:g} s"
    # Modules may print other lines.
    lines = [json.loads(line) for line in output.splitlines() if line.startswith(b'["')]
    failed = {name: reason for name, reason in lines if reason is not None}
    if crash is not None:
        failed[lines[-1][0] if lines else "python"] = crash
    return failed


def installed() -> list[tuple[str, str, importlib.metadata.Distribution]]:
    """Return name, version and object of all distributions that have both."""
    found = [(*identity(distribution), distribution) for distribution in importlib.metadata.distributions()]
    return [(name, version, distribution) for name, version, distribution in found if name and version]


def conda_records(prefix: str) -> list[dict[str, Any]]:
    """Return conda's prefix records of an environment; none if conda didn't create it."""
    folder = os.path.join(prefix, "conda-meta")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
    found = []
    for name in names:
        if name.endswith(".json"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                found.append(json.load(file))
    return found


def conda_files(conda: list[dict[str, Any]], prefix: str) -> dict[str, set[str]]:
    """Return the digests of each file in conda's records; an empty one if a record has none."""
    files: dict[str, set[str]] = {}
    for record in conda:
        for entry in record["paths_data"]["paths"]:
            files.setdefault(f"{prefix}/{entry['_path']}", set()).add(entry.get("sha256_in_prefix", ""))
    return files


def damaged_of_conda(files: dict[str, set[str]]) -> Iterator[str]:
    """Yield the faults of conda's files: missing ones, and those that differ from their records."""
    for path, digests in files.items():
        if not os.path.lexists(path):
            yield f"{path} of a conda package is missing"
        elif "" not in digests:
            with open(path, "rb") as file:
                actual = hashlib.sha256(file.read()).hexdigest()
            if actual not in digests:
                yield f"{path} of a conda package was changed"


def is_of_conda(distribution: importlib.metadata.Distribution, files: dict[str, set[str]]) -> bool:
    """Return True if a distribution is part of a conda package: its metadata are among conda's files."""
    metadata = str(getattr(distribution, "_path", ""))
    return any(f"{metadata}{name}" in files for name in ("/METADATA", "/PKG-INFO", ""))


def records(
    distributions: list[tuple[str, str, importlib.metadata.Distribution]],
    new: set[str] | None,
    conda: dict[str, set[str]],
) -> list[tuple[str, int | None]]:
    """Return path and size of each file in the RECORDs of pip's distributions.

    Of distributions that aren't new, these are only files that they share with a new one. Distributions of
    conda have prefix records: their RECORD describes the machine that built the package.
    """
    files: dict[bool, list[tuple[str, int | None]]] = {True: [], False: []}
    for name, _, distribution in distributions:
        if is_of_conda(distribution, conda):
            continue
        selected = new is None or canonical_name(name) in new
        folder = distribution.locate_file("")
        for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            if row:
                # The build has replaced bytecode of wheels (numpy 1.26 has some).
                is_known = len(row) > 2 and row[2] and not row[0].endswith(".pyc")
                size = int(row[2]) if is_known else None
                files[selected].append((os.path.normpath(f"{folder}/{row[0]}"), size))
    paths = {path for path, _ in files[True]}
    return files[True] + [entry for entry in files[False] if entry[0] in paths]


def not_found(modules: list[str]) -> Iterator[str]:
    """Yield the top-level modules that an import wouldn't find, without running any."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            yield name


def damaged(files: list[tuple[str, int | None]]) -> Iterator[str]:
    """Yield the faults of files: missing ones, and those whose size differs from RECORD.

    A file that several distributions have needs the size of any of them.
    """
    sizes: dict[str, set[int | None]] = {}
    for path, size in files:
        sizes.setdefault(path, set()).add(size)
    for path, recorded in sizes.items():
        try:
            actual = os.stat(path).st_size  # noqa: PTH116
        except OSError:
            yield f"{path} is missing"
            continue
        if not recorded & {actual, None}:
            yield f"{path} has {actual} bytes instead of {' or '.join(str(size) for size in recorded)}"


def without_valid_bytecode(files: list[tuple[str, int | None]]) -> Iterator[str]:
    """Yield the modules that Python would compile at each start."""
    for path, _ in files:
        if not path.endswith(".py") or not ("/site-packages/" in path or path.startswith((CODE, LIBRARY))):
            continue
        try:
            with open(importlib.util.cache_from_source(path), "rb") as file:
                header = file.read(8)
        except OSError:
            header = b""
        # PEP 552: the magic number, then flags; the lowest is "by hash", the next one "checked".
        valid = header[:4] == importlib.util.MAGIC_NUMBER and header[4:5] == b"\x01"
        if not valid and compiles(path):
            yield path


def compiles(path: str) -> bool:
    """Return True if a file is a module that has bytecode; templates and other versions' samples aren't."""
    try:
        with open(path, "rb") as file:
            return compiled(file.read(MOST_SOURCE + 1), path) is not None
    except (OSError, MemoryError):
        return False


def below(prefix: str) -> Iterator[str]:
    """Yield a folder and all folders and files below it."""
    for folder, _, names in os.walk(prefix):
        yield folder
        yield from (os.path.join(folder, name) for name in names)


def with_folders(paths: list[str], prefix: str) -> Iterator[str]:
    """Yield files, their bytecode and their parent folders, up to a prefix."""
    known = {prefix}
    for path in paths:
        yield path
        if path.endswith(".py"):
            yield importlib.util.cache_from_source(path)
        folder = os.path.dirname(path)
        while folder.startswith(prefix) and folder not in known:
            known.add(folder)
            yield folder
            folder = os.path.dirname(folder)
    yield prefix


def writable(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths that this process can write to."""
    for path in paths:
        if not os.path.islink(path) and os.access(path, os.W_OK):  # noqa: PTH114
            yield path


def reported(name: str) -> Any:  # noqa: ANN401  as JSON has it
    """Return what the installation of conda packages reports under *name*; ``None`` if it has nothing."""
    try:
        with open(os.path.join(os.path.dirname(ACTIVATION), f"{name}.json"), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def activation(conda: list[dict[str, Any]]) -> dict[str, str]:
    """Return the variables that activating the environment adds; none if it is active already."""
    if not conda or os.environ.get("CONDA_SHLVL", "0") != "0" or not os.path.exists(ACTIVATION):  # noqa: PTH110
        return {}
    report = "import json, os; print('\\n' + json.dumps(dict(os.environ)))"
    shell = "bash" if os.path.exists("/bin/bash") else "sh"  # noqa: PTH110
    command = [shell, "-c", '. "$1" && exec "$2" -c "$3"', shell, ACTIVATION, sys.executable, report]
    result = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", timeout=60)
    if result.returncode != 0:
        return {}
    after: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return {
        name: value
        for name, value in after.items()
        if name not in SHELL_VARIABLES and os.environ.get(name) != value and not name.startswith("BASH_FUNC_")
    }


def main(prefix: str, seconds: str, selected: str, code: str, *modules: str) -> None:
    """Print the packages and faults."""
    imports = start_imports(list(modules)) if modules else None
    distributions = installed()
    new = None if selected == "*" else set(selected.split(","))
    conda = conda_records(prefix)
    of_conda = conda_files(conda, prefix)
    files = records(distributions, new, of_conda)
    if new is None:
        checked = of_conda
        files += [(path, None) for path, digests in of_conda.items() if digests != {""}]
    else:
        checked = {path: of_conda[path] for path, _ in files if path in of_conda}
    files += [(path, None) for path in below(CODE) if os.path.isfile(path)]
    paths = below(prefix) if new is None else with_folders([path for path, _ in files], prefix)
    named = [(name, version, is_of_conda(found, of_conda)) for name, version, found in distributions]
    facts = {
        "version": platform.python_version(),
        "prefix": sys.prefix,
        "user": os.getuid(),
        "distributions": sorted(named),
        "conda": sorted((r["name"], r["version"], r["build"], r.get("sha256", "")) for r in conda),
        "activation": activation(conda) if new is None else {},
        "failed_scripts": (reported("failed-scripts") or []) if new is None else [],
        "lost_files": reported("lost-files") if new is None else None,
        "not_found": list(not_found([name for name in code.split(",") if name])),
        "damaged": [*damaged(files), *damaged_of_conda(checked)],
        "without_bytecode": list(without_valid_bytecode(files)),
        "writable": list(writable(paths)),
        "failed_imports": failed_imports(imports, float(seconds)) if imports else {},
    }
    print("\n" + json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
