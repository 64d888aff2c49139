"""Create an environment from conda packages; runs in the build, in the base image's Python (3.10 and later).

Usage: python3 install_conda.py PREFIX PACKAGES INSTALLER

The folder PACKAGES holds explicit.txt with the path and sha256 of each archive; records.json with the fields
of each prefix record but its files, in the same order; owners.json with the package of each file that
several have, and whether it is executable, or null; and bytecode.txt with the path and sha256 of each
archive of bytecode, as in compile_modules.py.
INSTALLER is micromamba, the one beside this file or else the image's own, or rattler, beside this file or in
/mnt/installer. The result is the same.
"""

# There are tens of thousands of files: os.path is several times as fast as pathlib.
# ruff: noqa: PTH101

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from imagesync.standalone.image.compile_modules import extract_bytecode, remove_orphans
from imagesync.standalone.image.conda_records import (
    Record,
    activation_command,
    bytecode_path,
    file_sha256,
    history,
    library,
    normal_mode,
    read_json,
    rewrite_record,
    variables_script,
    write_entry_points,
)
from imagesync.standalone.image.count_packages import counted
from imagesync.standalone.image.shared_conda_files import Owners, install_shared_files

# Starts to extract bytecode in other processes, and yields the paths of each archive's files.
Extraction = Callable[[], Iterator[list[str]]]

TOOLS = Path(__file__).parent
SCRATCH = Path("/mnt/scratch")
# py-rattler is in an image of its own, or in the build context.
RATTLER = (Path("/mnt/installer"), TOOLS)
# On the prefix's file system, so that files are linked and not copied; removed before the step ends.
CACHE = Path("/opt/.imagesync-packages")
# What a build mounts, or nobody expects in an image.
TEMPORARY = ("proc", "sys", "dev", "mnt", "run", "tmp", "var/tmp", "root/.cache")
# micromamba runs post-link scripts with the first bash of PATH, and ignores how they end. A script gets the
# PATH that it would have had without this.
BASH = """\
#!/bin/sh
export PATH={path}
[ -z "$PREFIX" ] || PATH=$PREFIX/bin:$PATH
{shell} "$@"
code=$?
case "$*" in *-post-link.sh)
    [ $code = 0 ] || printf '%s\\n' "$PKG_NAME" >>{failed} ;;
esac
exit $code
"""


class Archive(NamedTuple):
    """An archive and its expected sha256."""

    path: str
    sha256: str


class Packages(NamedTuple):
    """The packages: micromamba's explicit file, and in its order the archives and their records."""

    explicit: Path
    archives: list[Archive]
    records: list[Record]


def read_explicit(path: Path) -> list[Archive]:
    """Return the archives of an explicit file: lines such as ``file:///mnt/conda/noarch/a-1-0.conda#sha256:ab12``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    parts = (
        line.removeprefix("file://").rpartition("#sha256:") for line in lines if line.startswith("file:")
    )
    return [Archive(path, sha256) for path, _, sha256 in parts]


def check_digests(archives: list[Archive], pool: Executor) -> None:
    """End the build unless all archives have their expected sha256."""
    found = pool.map(file_sha256, [archive.path for archive in archives])
    if wrong := [a.path for a, sha256 in zip(archives, found, strict=True) if sha256 != a.sha256]:
        sys.exit(f"not the archive that the lock names: {', '.join(Path(path).name for path in wrong)}")


def find_micromamba() -> str | None:
    """Return micromamba's executable: the one beside this file, else the image's own."""
    beside = TOOLS / "micromamba"
    return str(beside) if beside.exists() else shutil.which("micromamba")


def install_packages(
    prefix: Path, packages: Packages, installer: str, start_extraction: Extraction
) -> list[str]:
    """Install the packages and the precompiled bytecode, and return the paths of the bytecode.

    py-rattler installs into a prefix that has files already, so both happen at once. micromamba has to create
    the prefix itself. Some of the bytecode may have no source.
    """
    if installer == "micromamba":
        micromamba = find_micromamba()
        if micromamba is None:
            sys.exit("the base image has no micromamba, and none was given (--micromamba)")
        with counted(len(packages.records), partial(installed_records, prefix)):
            install_by_micromamba(micromamba, prefix, packages.explicit)
        return [path for paths in start_extraction() for path in paths]
    found = [folder for folder in RATTLER if (folder / "rattler").is_dir()]
    extracted = start_extraction()
    with counted(len(packages.records), partial(installed_records, prefix)):
        install_by_rattler(found[0], prefix, packages)
    return [path for paths in extracted for path in paths]


def installed_records(prefix: Path) -> Iterator[str]:
    """Yield name and version of each package that has a prefix record, such as ``numpy-2.1.0``."""
    for path in prefix.glob("conda-meta/*.json"):
        yield path.stem.rpartition("-")[0]


def install_by_micromamba(executable: str, prefix: Path, explicit: Path) -> None:
    """Install the explicit file by micromamba, and write the packages whose script failed to failed.json."""
    failed = SCRATCH / "failed.txt"
    environ = {
        "PATH": f"{write_bash(failed)}:{os.environ['PATH']}",
        "HOME": str(SCRATCH),
        "MAMBA_ROOT_PREFIX": str(SCRATCH / "root"),
        "CONDA_PKGS_DIRS": str(CACHE),
    }
    command = [executable, "create", "--no-rc", "--yes", "--quiet", "--no-pyc", "--prefix", str(prefix)]
    if is_emulated():
        # Its threads may hang under emulation.
        environ["MAMBA_EXTRACT_THREADS"] = "1"
    subprocess.run([*command, "--file", str(explicit)], env=environ, check=True)
    names = failed.read_text(encoding="utf-8").split() if failed.exists() else []
    for name in names:
        print(f"WARNING: the post-link script of {name} failed", flush=True)
    (SCRATCH / "failed.json").write_text(json.dumps(sorted(names)), encoding="utf-8")


def write_bash(failed: Path) -> Path:
    """Write a bash that adds the packages whose post-link script fails to a file, and return its folder."""
    path = os.environ["PATH"]
    shell = shutil.which("bash") or "/bin/sh"
    folder = SCRATCH / "shell"
    folder.mkdir()
    text = BASH.format(path=shlex.quote(path), shell=shlex.quote(shell), failed=shlex.quote(str(failed)))
    (folder / "bash").write_text(text, encoding="utf-8")
    (folder / "bash").chmod(0o755)
    return folder


def is_emulated() -> bool:
    """Return True if this image's architecture is emulated on another processor."""
    return re.search(r"^vendor_id\s*: (GenuineIntel|AuthenticAMD)$", _cpuinfo(), re.MULTILINE) is None


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def install_by_rattler(folder: Path, prefix: Path, packages: Packages) -> None:
    """Install the archives by the py-rattler in a folder."""
    request = {
        "prefix": str(prefix),
        "cache": str(CACHE),
        "archives": [archive.path for archive in packages.archives],
        "records": packages.records,
    }
    # A separate process, because py-rattler's threads may outlive the installation.
    command = [sys.executable, "-IB", str(TOOLS / "rattler_install.py"), str(SCRATCH), str(folder)]
    environ = {**os.environ, "HOME": str(SCRATCH)}
    subprocess.run(command, input=json.dumps(request), encoding="utf-8", env=environ, check=True)
    (prefix / "CACHEDIR.TAG").unlink(missing_ok=True)
    shutil.rmtree(prefix / "__clobbers__", ignore_errors=True)


def show_messages(prefix: Path) -> None:
    """Print what post-link scripts have to say, and remove the file in which they say it, as conda does."""
    path = prefix / ".messages.txt"
    if path.exists():
        print(path.read_text(encoding="utf-8", errors="replace"), flush=True)
        path.unlink()


def scripts_of(prefix: Path) -> list[str]:
    """Return the names of the installed packages that have a post-link script."""
    names = (path.name for path in (prefix / "bin").glob(".*-post-link.sh"))
    return sorted(name.removeprefix(".").removesuffix("-post-link.sh") for name in names)


def changed_outside(prefix: str, since: int, root: str = "/") -> Iterator[str]:
    """Yield the files outside of the environment that were written or changed since a time (ctime, ns).

    Only the environment is copied to the image.
    """
    excluded = {prefix, str(CACHE), *(f"{root.rstrip('/')}/{name}" for name in TEMPORARY)}
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.path in excluded or entry.name == "__pycache__" or os.path.ismount(entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.stat(follow_symlinks=False).st_ctime_ns > since:
                    yield entry.path


def extract_precompiled(
    library: Path, suffix: str, archives: list[Archive], pool: Executor, owners: Owners
) -> Iterator[list[str]]:
    """Start to extract precompiled bytecode, and yield the paths of each archive's files.

    The environment's Python may not be installed yet: convert_bytecode.py checks later that it can load them.
    Modules that several packages have are left out, because only one of them is installed.
    """
    folder = f"lib/{library.name}/"
    shared = (bytecode_path(path).removeprefix(folder) for path in owners if path.endswith(".py"))
    largest_first = sorted((archive.path for archive in archives), key=os.path.getsize, reverse=True)
    write = partial(
        extract_bytecode,
        site_packages=str(library),
        excluded=frozenset(shared),
        magic=b"",
        suffix=suffix,
        before_sources=True,
    )
    return pool.map(write, largest_first)


def complete_bytecode(prefix: Path, extracted: list[str], suffix: str) -> None:
    """Write valid bytecode for all modules, and remove bytecode without a module."""
    remove_orphans(extracted, suffix)
    python = str(prefix / "bin" / "python")
    subprocess.run([python, "-IB", str(TOOLS / "convert_bytecode.py"), str(library(prefix))], check=True)


def normalize_packages(prefix: Path, records: list[Record], owners: Owners, pool: Executor) -> None:
    """Write the entry points and prefix records of all packages, which differ between installers."""
    list(pool.map(partial(write_entry_points, prefix, owners=owners), records))
    list(pool.map(partial(rewrite_record, prefix=prefix, shared=owners), records))


def python_minor(records: list[Record]) -> str:
    """Return the feature version of the environment's Python, such as 3.12."""
    version = next(record["version"] for record in records if record["name"] == "python")
    return ".".join(version.split(".")[:2])


def write_history(prefix: Path, records: list[Record]) -> None:
    """Write conda's history."""
    (prefix / "conda-meta" / "history").write_text(history(records), encoding="utf-8")


def write_activation(prefix: Path) -> None:
    """Write the scripts that activate the environment."""
    folder = prefix / "share" / "imagesync"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(TOOLS / "activate.sh", folder / "activate.sh")
    declared = sorted((prefix / "etc" / "conda" / "env_vars.d").glob("*.json"))
    variables = variables_script(map(read_json, declared))
    (folder / "variables.sh").write_text(variables, encoding="utf-8")
    command = folder / "activate"
    shell = shutil.which("bash") or "/bin/sh"
    command.write_text(activation_command(str(folder), shell), encoding="utf-8")
    command.chmod(0o755)


def normalize_modes(prefix: Path) -> None:
    """Make root the owner of all files, which only root can change, and everybody can read.

    Archives and scripts may differ, and installers leave files the mode that they have in an archive.
    """
    normalize_mode(os.fspath(prefix), os.lstat(prefix))
    folders = [os.fspath(prefix)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                normalize_mode(entry.path, entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def normalize_mode(path: str, state: os.stat_result) -> None:
    """Make root the owner of a file or folder, and give it its mode."""
    if (state.st_uid, state.st_gid) != (0, 0):
        os.lchown(path, 0, 0)
    mode = stat.S_IMODE(state.st_mode)
    if not stat.S_ISLNK(state.st_mode) and mode != normal_mode(mode):
        os.chmod(path, normal_mode(mode))


def main(prefix: str, packages: str, installer: str) -> None:
    """Create the environment, and leave nothing else behind."""
    root, folder = Path(prefix), Path(packages)
    records: list[Record] = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    explicit = folder / "explicit.txt"
    contents = Packages(explicit, read_explicit(explicit), records)
    compiled = read_explicit(folder / "bytecode.txt")
    shared = read_json(folder / "owners.json")
    owners: Owners = {path: name for path, (name, _) in shared.items()}
    executables = {path: flag for path, (_, flag) in shared.items() if flag is not None}
    minor = python_minor(records)
    suffix = f".cpython-{minor.replace('.', '')}.pyc"
    SCRATCH.mkdir()
    started = SCRATCH.stat().st_ctime_ns
    try:
        with ProcessPoolExecutor() as pool:
            check_digests([*contents.archives, *compiled], pool)
            modules = root / "lib" / f"python{minor}"
            start = partial(extract_precompiled, modules, suffix, compiled, pool, owners)
            extracted = install_packages(root, contents, installer, start)
            show_messages(root)
            install_shared_files(root, owners, records, executables)
            complete_bytecode(root, extracted, suffix)
            normalize_packages(root, records, owners, pool)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{Path(error.cmd[0]).name} ended with {error.returncode}")
    finally:
        shutil.rmtree(CACHE, ignore_errors=True)
    write_history(root, records)
    write_activation(root)
    # The build goes on, as an installation does; the verification of the image reports it.
    scripts = scripts_of(root)
    outside = sorted(changed_outside(prefix, started)) if scripts else []
    lost = {"scripts": scripts, "files": outside} if outside else {}
    for name, found in (("failed-scripts", read_json(SCRATCH / "failed.json")), ("lost-files", lost)):
        if found:
            path = root / "share" / "imagesync" / f"{name}.json"
            path.write_text(json.dumps(found), encoding="utf-8")
    normalize_modes(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
