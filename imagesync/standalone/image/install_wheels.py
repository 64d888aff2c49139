"""Install a few wheels with their bytecode; runs in the build, in the environment's interpreter.

Usage: python install_wheels.py REQUIREMENTS WHEELS [BYTECODE]

REQUIREMENTS has one line for each wheel, ``name==version --hash=sha256:<hex>``; the folder WHEELS holds
exactly those wheels. BYTECODE is a folder as for compile_modules.py. PyPA's installer lies beside this file.
"""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

from imagesync.standalone.distributions import installed_path
from imagesync.standalone.image.compile_modules import (
    compile_module,
    extract_bytecode,
    remove_stale_bytecode,
    site_packages_folder,
)
from imagesync.standalone.image.restore_conflicts import conflicting_files, has_content, resolve_conflicts

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.records import Hash, RecordEntry
from installer.sources import WheelFile
from installer.utils import Scheme, copyfileobj_with_hashing


@dataclass
class Destination(SchemeDictionaryDestination):
    """The environment as the destination of a wheel; a conflicting file that has its content already stays.

    Parameters
    ----------
    conflicts
        The sha256 of each file that several packages have, by its path below site-packages.
    """

    conflicts: Mapping[str, str] = field(default_factory=dict)

    def write_to_fs(self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool) -> RecordEntry:
        """Write a file, and return its entry of RECORD, which describes the wheel's file in any case."""
        target = Path(self.scheme_dict[scheme], path)
        if scheme in ("purelib", "platlib") and has_content(target, self.conflicts.get(path, "")):
            digest, size = copyfileobj_with_hashing(stream, BytesIO(), self.hash_algorithm)
            return RecordEntry(path, Hash(self.hash_algorithm, digest), size)
        return super().write_to_fs(scheme, path, stream, is_executable)


def check_hashes(requirements: Path, wheels: list[Path]) -> None:
    """End the build unless the wheels are those that the requirements name."""
    named = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements.read_text(encoding="utf-8")))
    found = {hashlib.sha256(wheel.read_bytes()).hexdigest(): wheel.name for wheel in wheels}
    if surplus := sorted(found[digest] for digest in set(found) - named):
        sys.exit(f"no hash of the requirements fits: {', '.join(surplus)}")
    if missing := sorted(named - set(found)):
        sys.exit(f"no wheel has the hash: {', '.join(missing)}")


def install_wheel(wheel: Path, conflicts: Mapping[str, str]) -> list[str]:
    """Install a wheel into this interpreter's environment, and return the paths of its modules."""
    with WheelFile.open(wheel) as source, ZipFile(wheel) as archive:
        headers = Path(sys.prefix, "include", "site", f"python{sysconfig.get_python_version()}")
        scheme = {**sysconfig.get_paths(), "headers": str(headers / source.distribution)}
        destination = Destination(
            scheme,
            interpreter=sys.executable,
            script_kind="posix",
            overwrite_existing=True,
            conflicts=conflicts,
        )
        install(source, destination, {"INSTALLER": b"installer\n"})
        paths = [installed_path(name) for name in archive.namelist()]
    return [str(Path(scheme["purelib"], path)) for path in paths if path.endswith(".py")]


def main(requirements: str, wheels: str, *archives: str) -> None:
    """Install the wheels, extract their bytecode, and compile modules that have none."""
    files = sorted(Path(wheels).glob("*.whl"))
    check_hashes(Path(requirements), files)
    conflicts = conflicting_files(Path(requirements))
    modules = []
    for number, wheel in enumerate(files, start=1):
        modules += install_wheel(wheel, conflicts)
        print(f"[{number}/{len(files)}] {' '.join(wheel.name.split('-')[:2])}", flush=True)
    site_packages = site_packages_folder()
    resolve_conflicts(conflicts, files, Path(site_packages))
    for archive in sorted(path for folder in archives for path in Path(folder).iterdir()):
        extract_bytecode(str(archive), site_packages=site_packages)
    for module in modules:
        if not remove_stale_bytecode(module):
            compile_module(module)


if __name__ == "__main__":
    main(*sys.argv[1:])
