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
from pathlib import Path
from zipfile import ZipFile

TOOLS = Path(__file__).parent
sys.path.insert(0, str(TOOLS))

import bytecode  # noqa: E402
from installer import install  # noqa: E402
from installer.destinations import SchemeDictionaryDestination  # noqa: E402
from installer.sources import WheelFile  # noqa: E402


def check(requirements: Path, wheels: list[Path]) -> None:
    """End the build unless the wheels are those that the requirements name."""
    named = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements.read_text(encoding="utf-8")))
    found = {hashlib.sha256(wheel.read_bytes()).hexdigest(): wheel.name for wheel in wheels}
    if surplus := sorted(found[digest] for digest in set(found) - named):
        sys.exit(f"no hash of the requirements fits: {', '.join(surplus)}")
    if missing := sorted(named - set(found)):
        sys.exit(f"no wheel has the hash: {', '.join(missing)}")


def install_wheel(wheel: Path) -> list[str]:
    """Install a wheel into this interpreter's environment, and return its modules."""
    with WheelFile.open(wheel) as source, ZipFile(wheel) as archive:
        headers = Path(sys.prefix, "include", "site", f"python{sysconfig.get_python_version()}")
        scheme = {**sysconfig.get_paths(), "headers": str(headers / source.distribution)}
        destination = SchemeDictionaryDestination(
            scheme, interpreter=sys.executable, script_kind="posix", overwrite_existing=True
        )
        install(source, destination, {"INSTALLER": b"installer\n"})
        inside = [bytecode.installed_path(name) for name in archive.namelist()]
    return [str(Path(scheme["purelib"], name)) for name in inside if name.endswith(".py")]


def main(requirements: str, wheels: str, *archives: str) -> None:
    """Install the wheels, unpack their bytecode, and compile what has none."""
    files = sorted(Path(wheels).glob("*.whl"))
    check(Path(requirements), files)
    modules = [module for wheel in files for module in install_wheel(wheel)]
    site_packages = bytecode.packages_folder()
    for archive in sorted(path for folder in archives for path in Path(folder).iterdir()):
        bytecode.unpack(str(archive), site_packages=site_packages)
    for module in bytecode.lacking(modules):
        bytecode.compile_module(module)


if __name__ == "__main__":
    main(*sys.argv[1:])
