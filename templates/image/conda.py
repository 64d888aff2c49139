"""Make an environment from conda packages; runs in the build, in the base image's Python (3.10 and later).

Usage: python3 conda.py PREFIX PACKAGES INSTALLER [BYTECODE]

PACKAGES holds the archives as SUBDIR/FILENAME, explicit.txt, which names exactly those with their sha256, and
records.json, which has what a prefix record says beside its files. INSTALLER is micromamba, rattler or auto:
the micromamba that lies beside this file, else the image's own, else py-rattler beside it or in
/mnt/installer. The result is the same. BYTECODE is as bytecode.py takes it.
"""

# There are tens of thousands of files, and pathlib takes its time for each.
# ruff: noqa: PTH101, PTH113, PTH123

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).parent
sys.path.insert(0, str(TOOLS))

import bytecode  # noqa: E402

Record = dict[str, Any]

SCRATCH = Path("/mnt/scratch")
# Where py-rattler may be: an image of its own, or the build context.
RATTLER = (Path("/mnt/installer"), TOOLS)
# On the prefix's file system, so that files are linked and not copied; gone before the step ends.
CACHE = Path("/opt/.imagesync-packages")
EPOCH = "1970-01-01 00:00:00"
# Of modules that every interpreter has in itself.
ASKED = """\
import sys, _frozen_importlib_external as importing
print(importing.MAGIC_NUMBER.hex(), sys.implementation.cache_tag)
"""

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


def digest(path: str | Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        content = hashlib.sha256()
        while piece := file.read(1 << 20):
            content.update(piece)
    return content.hexdigest()


def check(records: list[Record], packages: Path, pool: Executor) -> None:
    """End the build unless the archives are those that the records name."""
    found = list(pool.map(digest, [packages / r["subdir"] / r["fn"] for r in records]))
    if wrong := [r["fn"] for r, actual in zip(records, found, strict=True) if actual != r["sha256"]]:
        sys.exit(f"not the archive that the lock names: {', '.join(wrong)}")


def install(prefix: Path, packages: Path, records: list[Record], installer: str) -> None:
    """Install the packages by the first installer that there is."""
    given = TOOLS / "micromamba"
    micromamba = str(given) if given.exists() else shutil.which("micromamba")
    if micromamba is not None and installer != "rattler":
        install_by_micromamba(micromamba, prefix, packages)
    elif found := [folder for folder in RATTLER if (folder / "rattler").is_dir()]:
        install_by_rattler(found[0], prefix, packages, records)
    else:
        sys.exit("the base image has no micromamba, and none was given (--micromamba)")


def install_by_micromamba(executable: str, prefix: Path, packages: Path) -> None:
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
    subprocess.run([*command, "--file", str(packages / "explicit.txt")], env=surroundings, check=True)


def is_emulated() -> bool:
    """Return whether the processor is another one, on which this image's kind is emulated."""
    return re.search(r"^vendor_id\s*: (GenuineIntel|AuthenticAMD)$", _cpuinfo(), re.MULTILINE) is None


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def install_by_rattler(folder: Path, prefix: Path, packages: Path, records: list[Record]) -> None:
    """Let py-rattler, which is in a folder, install the archives."""
    request = {
        "prefix": str(prefix),
        "cache": str(CACHE),
        "packages": str(packages),
        "records": records,
    }
    # A process of its own: py-rattler's threads may outlive its work.
    command = [sys.executable, "-IB", str(TOOLS / "conda_rattler.py"), str(SCRATCH), str(folder)]
    environ = {**os.environ, "HOME": str(SCRATCH)}
    subprocess.run(command, input=json.dumps(request), encoding="utf-8", env=environ, check=True)
    for left in ("CACHEDIR.TAG", ".messages.txt"):
        (prefix / left).unlink(missing_ok=True)
    shutil.rmtree(prefix / "__clobbers__", ignore_errors=True)


def add_bytecode(prefix: Path, compiled: tuple[str, ...], pool: Executor) -> None:
    """Give all modules their bytecode: what came compiled is put there, and the environment does the rest.

    Here, because the environment's Python may have nothing of its own compiled yet, and starts slowly then.
    """
    python = str(prefix / "bin" / "python")
    answer = subprocess.run([python, "-ISBc", ASKED], check=True, stdout=subprocess.PIPE, encoding="utf-8")
    magic, tag = answer.stdout.split()
    folder = str(library(prefix))
    archives = [path for given in compiled for path in Path(given).iterdir()]
    archives.sort(key=lambda path: path.stat().st_size, reverse=True)
    unpack = partial(bytecode.unpack, site_packages=folder, magic=bytes.fromhex(magic), suffix=f".{tag}.pyc")
    list(pool.map(unpack, map(str, archives)))
    subprocess.run([python, "-IB", str(TOOLS / "conda_bytecode.py"), folder], check=True)


def record_path(prefix: Path, record: Record) -> Path:
    """Return where the prefix record of a package is."""
    return prefix / "conda-meta" / f"{record['name']}-{record['version']}-{record['build']}.json"


def finish_record(record: Record, prefix: Path) -> None:
    """Write the prefix record of a package anew, so that no installer, time or place shows in it.

    What the package was unpacked to is needed no more then, and goes.
    """
    path = record_path(prefix, record)
    written = read_json(path)
    info = Path(written["extracted_package_dir"], "info")
    original = {entry["_path"]: entry for entry in read_json(info / "paths.json").get("paths", ())}
    entries = written["paths_data"]["paths"]
    if record.get("noarch") == "python":
        original, entries = finish_noarch(prefix, original, entries)
    paths = [finish_path(prefix, entry, original.get(entry["_path"], {})) for entry in entries]
    paths.sort(key=lambda entry: entry["_path"])
    finished = {
        **read_json(info / "index.json"),
        **record,
        "files": [entry["_path"] for entry in paths],
        "paths_data": {"paths_version": 1, "paths": paths},
        "link": {"source": "", "type": 1},
        "extracted_package_dir": "",
        "package_tarball_full_path": "",
    }
    # A new file, because the installer's may be readable for its owner alone.
    path.unlink()
    path.write_text(json.dumps(finished, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(written["extracted_package_dir"])


def finish_noarch(
    prefix: Path, original: dict[str, Record], entries: list[Record]
) -> tuple[dict[str, Record], list[Record]]:
    """Return both with paths as installed, and the entries with the bytecode that was made here."""
    folder = (library(prefix) / "site-packages").relative_to(prefix).as_posix()
    original = {installed_path(name, folder): entry for name, entry in original.items()}
    modules = [name for name in original if name.endswith(".py") and name.startswith(folder)]
    entries = [entry for entry in entries if entry["path_type"] != "pyc_file"]
    for cached in map(bytecode_path, modules):
        if cached not in original and (prefix / cached).exists():
            entries.append({"_path": cached, "path_type": "pyc_file"})
    return original, entries


def library(prefix: Path) -> Path:
    """Return the folder of the standard library; beside it conda's Python may have links to it."""
    found = (path.parent for path in (prefix / "lib").glob("python3*/os.py"))
    return next(folder for folder in found if not folder.is_symlink())


def read_json(path: Path) -> Record:
    """Return a file of an extracted package; empty where it has none."""
    try:
        content: Record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content


def installed_path(name: str, folder: str) -> str:
    """Return where a file of a noarch package for Python goes, relative to the prefix."""
    first, _, rest = name.partition("/")
    if first == "python-scripts":
        return f"bin/{rest}"
    return f"{folder}/{rest}" if first == "site-packages" else name


def bytecode_path(module: str) -> str:
    """Return where the bytecode of a module is, by the version in the path of its folder."""
    version = re.search(r"python3\.(\d+)", module)
    folder, _, name = module.rpartition("/")
    return f"{folder}/__pycache__/{name[:-3]}.cpython-3{version[1] if version else ''}.pyc"


def finish_path(prefix: Path, entry: Record, original: Record) -> Record:
    """Return the entry of a file: what the archive says of it, and its digest here where that differs."""
    known = {**entry, **{key: value for key, value in original.items() if key != "_path"}}
    kept = ("path_type", "sha256", "size_in_bytes", "file_mode", "prefix_placeholder", "no_link")
    finished = {"_path": entry["_path"], **{key: known[key] for key in kept if known.get(key)}}
    path = str(prefix / entry["_path"])
    if known["path_type"] in ("hardlink", "unix_python_entry_point") and os.path.isfile(path):
        changed = "prefix_placeholder" in finished or path.endswith(".pyc") or "sha256" not in finished
        if known["path_type"] == "unix_python_entry_point":
            finished.update(sha256=digest(path), size_in_bytes=os.stat(path).st_size)  # noqa: PTH116
        finished["sha256_in_prefix"] = digest(path) if changed else finished["sha256"]
    return finished


def write_entry_points(prefix: Path, record: Record) -> None:
    """Write the scripts of a noarch package, which each installer words a little differently."""
    if record.get("noarch") != "python":
        return
    info = Path(read_json(record_path(prefix, record))["extracted_package_dir"], "info")
    for point in read_json(info / "link.json").get("noarch", {}).get("entry_points", ()):
        command, _, target = (part.strip() for part in point.partition("="))
        module, _, function = (part.strip() for part in target.partition(":"))
        text = ENTRY_POINT.format(
            python=prefix / "bin" / "python",
            module=module,
            import_name=function.partition(".")[0],
            function=function,
        )
        path = prefix / "bin" / command
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


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


def main(prefix: str, packages: str, installer: str, *compiled: str) -> None:
    """Install the packages, and leave nothing behind that isn't theirs."""
    root, folder = Path(prefix), Path(packages)
    records: list[Record] = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    SCRATCH.mkdir()
    try:
        with ProcessPoolExecutor() as pool:
            check(records, folder, pool)
            install(root, folder, records, installer)
            add_bytecode(root, compiled, pool)
            for record in records:
                write_entry_points(root, record)
            list(pool.map(partial(finish_record, prefix=root), records))
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
