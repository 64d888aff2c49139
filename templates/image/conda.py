"""Make an environment from conda packages; runs in the build, in the base image's Python (3.10 and later).

Usage: python3 conda.py PREFIX PACKAGES INSTALLER

PACKAGES holds explicit.txt, which says where each archive is, with its sha256; records.json, which has what a
prefix record says beside its files, in the same order; and bytecode.txt, which is of archives as bytecode.py
takes them. INSTALLER is micromamba, rattler or auto: the micromamba that lies beside this file, else the
image's own, else py-rattler beside it or in /mnt/installer. The result is the same.
"""

# There are tens of thousands of files, and pathlib takes its time for each.
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

TOOLS = Path(__file__).parent
sys.path.insert(0, str(TOOLS))

import bytecode  # noqa: E402
from conda_records import Record, digest, finish_record, library, read_json, write_entry_points  # noqa: E402

Bring = Callable[[], Iterator[list[str]]]

SCRATCH = Path("/mnt/scratch")
# Where py-rattler may be: an image of its own, or the build context.
RATTLER = (Path("/mnt/installer"), TOOLS)
# On the prefix's file system, so that files are linked and not copied; gone before the step ends.
CACHE = Path("/opt/.imagesync-packages")
EPOCH = "1970-01-01 00:00:00"


class Listed(NamedTuple):
    """A file that a list names, and the sha256 that it has to have."""

    path: str
    sha256: str


class Packages(NamedTuple):
    """What is installed: micromamba's explicit file, and in its order the archives and their records."""

    explicit: Path
    archives: list[Listed]
    records: list[Record]


def read_list(path: Path) -> list[Listed]:
    """Return the files that a list names: lines such as ``file:///mnt/conda/noarch/a-1-0.conda#sha256:ab12``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    parts = (
        line.removeprefix("file://").rpartition("#sha256:") for line in lines if line.startswith("file:")
    )
    return [Listed(place, sha256) for place, _, sha256 in parts]


def check(files: list[Listed], pool: Executor) -> None:
    """End the build unless these files are what the lists say."""
    found = pool.map(digest, [file.path for file in files])
    if wrong := [file.path for file, actual in zip(files, found, strict=True) if actual != file.sha256]:
        sys.exit(f"not the archive that the lock names: {', '.join(Path(path).name for path in wrong)}")


def find_micromamba() -> str | None:
    """Return micromamba's executable: what was given, else the image's own."""
    given = TOOLS / "micromamba"
    return str(given) if given.exists() else shutil.which("micromamba")


def install(prefix: Path, packages: Packages, installer: str, bring: Bring) -> list[str]:
    """Install the packages by the first installer that there is, with the bytecode that came compiled.

    py-rattler doesn't mind what is in the prefix already, so both happen at once. micromamba wants to make
    the prefix itself. Returns where the bytecode is, of which the source may not have come.
    """
    micromamba = find_micromamba()
    if micromamba is not None and installer != "rattler":
        install_by_micromamba(micromamba, prefix, packages.explicit)
        return [path for each in bring() for path in each]
    found = [folder for folder in RATTLER if (folder / "rattler").is_dir()]
    if not found:
        sys.exit("the base image has no micromamba, and none was given (--micromamba)")
    brought = bring()
    install_by_rattler(found[0], prefix, packages)
    return [path for each in brought for path in each]


def install_by_micromamba(executable: str, prefix: Path, explicit: Path) -> None:
    """Let micromamba install from the explicit file; nothing of its own stays behind."""
    surroundings = {
        "PATH": os.environ["PATH"],
        "HOME": str(SCRATCH),
        "MAMBA_ROOT_PREFIX": str(SCRATCH / "root"),
        "CONDA_PKGS_DIRS": str(CACHE),
    }
    command = [executable, "create", "--no-rc", "--yes", "--quiet", "--no-pyc", "--prefix", str(prefix)]
    if is_emulated():
        # Its threads may hang there.
        command += ["--extract-threads", "1"]
    subprocess.run([*command, "--file", str(explicit)], env=surroundings, check=True)


def is_emulated() -> bool:
    """Return whether the processor is another one, on which this image's kind is emulated."""
    return re.search(r"^vendor_id\s*: (GenuineIntel|AuthenticAMD)$", _cpuinfo(), re.MULTILINE) is None


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def install_by_rattler(folder: Path, prefix: Path, packages: Packages) -> None:
    """Let py-rattler, which is in a folder, install the archives."""
    request = {
        "prefix": str(prefix),
        "cache": str(CACHE),
        "archives": [archive.path for archive in packages.archives],
        "records": packages.records,
    }
    # A process of its own: py-rattler's threads may outlive its work.
    command = [sys.executable, "-IB", str(TOOLS / "conda_rattler.py"), str(SCRATCH), str(folder)]
    environ = {**os.environ, "HOME": str(SCRATCH)}
    subprocess.run(command, input=json.dumps(request), encoding="utf-8", env=environ, check=True)
    for left in ("CACHEDIR.TAG", ".messages.txt"):
        (prefix / left).unlink(missing_ok=True)
    shutil.rmtree(prefix / "__clobbers__", ignore_errors=True)


def bring_bytecode(library: Path, suffix: str, compiled: list[Listed], pool: Executor) -> Iterator[list[str]]:
    """Begin to put what came compiled where its modules are or will be; yields what was written.

    Whether the environment's Python can load it is seen later (conda_bytecode.py): it may not be there yet.
    """
    archives = sorted((file.path for file in compiled), key=os.path.getsize, reverse=True)
    write = partial(bytecode.unpack, site_packages=str(library), magic=b"", suffix=suffix, ahead=True)
    return pool.map(write, archives)


def finish_bytecode(prefix: Path, written: list[str], suffix: str) -> None:
    """See to it that all modules have bytecode that holds, and that nothing else does."""
    bytecode.remove_orphans(written, suffix)
    python = str(prefix / "bin" / "python")
    subprocess.run([python, "-IB", str(TOOLS / "conda_bytecode.py"), str(library(prefix))], check=True)


def finish(record: Record, prefix: Path) -> None:
    """Make of one package what is the same whoever installed it."""
    write_entry_points(prefix, record)
    finish_record(record, prefix)


def python_minor(records: list[Record]) -> str:
    """Return the feature version of the environment's Python, such as 3.12."""
    version = next(record["version"] for record in records if record["name"] == "python")
    return ".".join(version.split(".")[:2])


def write_history(prefix: Path, records: list[Record]) -> None:
    """Write which packages were installed, and which of them somebody asked for, as conda does."""
    names = sorted(f"+{r['channel']}/{r['subdir']}::{r['name']}-{r['version']}-{r['build']}" for r in records)
    wanted = sorted(record["requested_spec"] for record in records if record["requested_spec"])
    lines = [f"==> {EPOCH} <==", "# cmd: imagesync build", *names, f"# update specs: {json.dumps(wanted)}"]
    (prefix / "conda-meta" / "history").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_activation(prefix: Path) -> None:
    """Write what activates the environment: for a command, and for a login shell, which resets PATH."""
    folder = prefix / "share" / "imagesync"
    folder.mkdir(parents=True, exist_ok=True)
    shell = shutil.which("bash") or "/bin/sh"
    script = (TOOLS / "activate.sh").read_text(encoding="utf-8").replace("@PREFIX@", str(prefix))
    (folder / "activate.sh").write_text(script, encoding="utf-8")
    variables = [
        f"export {name}={shlex.quote(value)}\n" for name, value in sorted(own_variables(prefix).items())
    ]
    (folder / "variables.sh").write_text("".join(variables), encoding="utf-8")
    command = folder / "activate"
    command.write_text(
        f"#!{shell}\n"
        "# Run a command in the activated environment; where it is activated already, just run it.\n"
        f'[ "${{CONDA_SHLVL:-0}}" != 0 ] || . {folder}/activate.sh\n'
        'exec "$@"\n',
        encoding="utf-8",
    )
    command.chmod(0o755)
    profile = Path("/etc/profile.d")
    if profile.is_dir():
        (profile / "imagesync.sh").write_text(f". {folder}/activate.sh\n", encoding="utf-8")


def own_variables(prefix: Path) -> dict[str, str]:
    """Return the variables that packages name as such, without a script."""
    variables: dict[str, str] = {}
    for path in sorted((prefix / "etc" / "conda" / "env_vars.d").glob("*.json")):
        variables |= {str(name): str(value) for name, value in read_json(path).items()}
    return {name: value for name, value in variables.items() if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)}


def close_to_others(prefix: Path) -> None:
    """Give everything to root, and let nobody else write: archives may say otherwise, and so may scripts."""
    close(os.fspath(prefix), os.lstat(prefix))
    folders = [os.fspath(prefix)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                close(entry.path, entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def close(path: str, state: os.stat_result) -> None:
    """Give one file or folder to root, and let nobody else write."""
    if (state.st_uid, state.st_gid) != (0, 0):
        os.lchown(path, 0, 0)
    if not stat.S_ISLNK(state.st_mode) and state.st_mode & 0o022:
        os.chmod(path, stat.S_IMODE(state.st_mode) & ~0o022)


def main(prefix: str, packages: str, installer: str) -> None:
    """Install the packages, and leave nothing behind that isn't theirs."""
    root, folder = Path(prefix), Path(packages)
    records: list[Record] = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    explicit = folder / "explicit.txt"
    given = Packages(explicit, read_list(explicit), records)
    compiled = read_list(folder / "bytecode.txt")
    minor = python_minor(records)
    suffix = f".cpython-{minor.replace('.', '')}.pyc"
    SCRATCH.mkdir()
    try:
        with ProcessPoolExecutor() as pool:
            check([*given.archives, *compiled], pool)
            bring = partial(bring_bytecode, root / "lib" / f"python{minor}", suffix, compiled, pool)
            written = install(root, given, installer, bring)
            finish_bytecode(root, written, suffix)
            list(pool.map(partial(finish, prefix=root), records))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{Path(error.cmd[0]).name} ended with {error.returncode}")
    finally:
        shutil.rmtree(CACHE, ignore_errors=True)
    write_history(root, records)
    write_activation(root)
    if failed := read_json(SCRATCH / "failed.json"):
        # The build goes on, as it would on a machine; the check of the image says it.
        (root / "share" / "imagesync" / "failed-scripts.json").write_text(
            json.dumps(failed), encoding="utf-8"
        )
    close_to_others(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
