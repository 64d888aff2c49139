"""Install a few wheels, with their bytecode; runs in the build, in the environment's own interpreter.

Usage: python install.py REQUIREMENTS WHEELS [BYTECODE]

REQUIREMENTS has one line a wheel, ``name==version --hash=sha256:<hex>``; the wheels in the folder WHEELS are
exactly those. BYTECODE is as bytecode.py takes it. PyPA's installer lies beside this file.
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

TOOLS = Path(__file__).parent
sys.path.insert(0, str(TOOLS))

import bytecode  # noqa: E402
import contested  # noqa: E402
from installer import install  # noqa: E402
from installer.destinations import SchemeDictionaryDestination  # noqa: E402
from installer.records import Hash, RecordEntry  # noqa: E402
from installer.sources import WheelFile  # noqa: E402
from installer.utils import Scheme, copyfileobj_with_hashing  # noqa: E402


@dataclass
class Destination(SchemeDictionaryDestination):
    """Where a wheel goes; a file of several packages that is there as it is wanted stays.

    Parameters
    ----------
    wanted
        The sha256 of such files, by their path below site-packages.
    """

    wanted: Mapping[str, str] = field(default_factory=dict)

    def write_to_fs(self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool) -> RecordEntry:
        """Write a file, and return the line for RECORD, which is about the wheel's own in any case."""
        place = Path(self.scheme_dict[scheme], path)
        if scheme in ("purelib", "platlib") and contested.is_there(place, self.wanted.get(path, "")):
            digest, size = copyfileobj_with_hashing(stream, BytesIO(), self.hash_algorithm)
            return RecordEntry(path, Hash(self.hash_algorithm, digest), size)
        return super().write_to_fs(scheme, path, stream, is_executable)


def check(requirements: Path, wheels: list[Path]) -> None:
    """End the build unless the wheels are those that the requirements name."""
    named = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements.read_text(encoding="utf-8")))
    found = {hashlib.sha256(wheel.read_bytes()).hexdigest(): wheel.name for wheel in wheels}
    if surplus := sorted(found[digest] for digest in set(found) - named):
        sys.exit(f"no hash of the requirements fits: {', '.join(surplus)}")
    if missing := sorted(named - set(found)):
        sys.exit(f"no wheel has the hash: {', '.join(missing)}")


def install_wheel(wheel: Path, wanted: Mapping[str, str]) -> list[str]:
    """Install a wheel into this interpreter's environment, and return its modules."""
    with WheelFile.open(wheel) as source, ZipFile(wheel) as archive:
        headers = Path(sys.prefix, "include", "site", f"python{sysconfig.get_python_version()}")
        scheme = {**sysconfig.get_paths(), "headers": str(headers / source.distribution)}
        destination = Destination(
            scheme, interpreter=sys.executable, script_kind="posix", overwrite_existing=True, wanted=wanted
        )
        install(source, destination, {"INSTALLER": b"installer\n"})
        inside = [bytecode.installed_path(name) for name in archive.namelist()]
    return [str(Path(scheme["purelib"], name)) for name in inside if name.endswith(".py")]


def main(requirements: str, wheels: str, *archives: str) -> None:
    """Install the wheels, unpack their bytecode, and compile what has none."""
    files = sorted(Path(wheels).glob("*.whl"))
    check(Path(requirements), files)
    wanted = contested.wanted(Path(requirements))
    modules = [module for wheel in files for module in install_wheel(wheel, wanted)]
    site_packages = bytecode.packages_folder()
    contested.settle(wanted, files, Path(site_packages))
    for archive in sorted(path for folder in archives for path in Path(folder).iterdir()):
        bytecode.unpack(str(archive), site_packages=site_packages)
    for module in bytecode.lacking(modules):
        bytecode.compile_module(module)


if __name__ == "__main__":
    main(*sys.argv[1:])
