# Importing pathlib takes longer than all that this program does.
# ruff: noqa: PTH100, PTH110, PTH112, PTH120
"""Print facts about the scanned interpreter, which runs it, as a Python literal after a marker line.

It starts as ``<python> -I -B probe.py`` and imports as little as possible: its start is part of every scan.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is slow to import; type checkers take this for True
if TYPE_CHECKING:
    from typing import Protocol

    class VersionInfo(Protocol):
        """What ``sys.version_info`` and ``sys.implementation.version`` have in common."""

        @property
        def major(self) -> int: ...  # noqa: D102
        @property
        def minor(self) -> int: ...  # noqa: D102
        @property
        def micro(self) -> int: ...  # noqa: D102
        @property
        def releaselevel(self) -> str: ...  # noqa: D102
        @property
        def serial(self) -> int: ...  # noqa: D102


MARKER = "--- imagesync probe ---"  # .pth files may print before us


def extension_suffix() -> str:
    """Return the suffix of extension modules, such as ``.cpython-311-x86_64-linux-gnu.so``."""
    from _imp import extension_suffixes

    return next(iter(extension_suffixes()), "")


def abi_tag() -> str:
    """Return the ABI tag of wheels made for this interpreter, such as ``cp311`` (PEP 425)."""
    if sys.implementation.name == "cpython":
        flags = getattr(sys, "abiflags", "")
        if sys.platform == "win32":
            import sysconfig

            flags = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
            flags += "d" if "_d.pyd" in extension_suffix() else ""
        return f"cp{sys.version_info[0]}{sys.version_info[1]}{flags}"
    return "_".join(extension_suffix().lstrip(".").split("-")[:2])


def platform_tag() -> str:
    """Return ``sysconfig.get_platform()``, without importing sysconfig on Linux."""
    if not sys.platform.startswith("linux"):
        import sysconfig

        return sysconfig.get_platform()
    return "linux-" + os.uname().machine


def libc() -> str:
    """Return ``glibc 2.36``, ``musl 1.2``, or nothing."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, ValueError):
        name = None
    return name or musl()


def musl() -> str:
    """Return musl's version, which its loader prints without arguments."""
    if sys.platform == "win32":
        return ""
    loader = f"/lib/ld-musl-{os.uname().machine}.so.1"
    if not os.path.exists(loader):
        return ""
    import subprocess

    answer = subprocess.run([loader], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    for line in answer.stderr.decode("ascii", "replace").splitlines():
        if line.startswith("Version "):
            return "musl " + ".".join(line[len("Version ") :].split(".")[:2])
    return "musl"


def full_version(info: VersionInfo) -> str:
    """Return a version as PEP 508 writes it, such as ``3.13.0rc2``."""
    version = f"{info.major}.{info.minor}.{info.micro}"
    level = info.releaselevel
    if level == "final":
        return version
    return version + {"alpha": "a", "beta": "b", "candidate": "rc"}.get(level, level) + str(info.serial)


def markers() -> dict[str, str]:
    """Return the marker environment of PEP 508."""
    if sys.platform != "win32":
        system = os.uname()
        machine, release, name, version = system.machine, system.release, system.sysname, system.version
    else:
        import platform

        machine, release = platform.machine(), platform.release()
        name, version = platform.system(), platform.version()
    implementation = sys.implementation.name
    return {
        "implementation_name": implementation,
        "implementation_version": full_version(sys.implementation.version),
        "os_name": os.name,
        "platform_machine": machine,
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(
            implementation, implementation
        ),
        "platform_release": release,
        "platform_system": name,
        "platform_version": version,
        "python_full_version": full_version(sys.version_info),
        "python_version": "{}.{}".format(*sys.version_info[:2]),
        "sys_platform": sys.platform,
    }


def add_user_site() -> None:
    """Add the user's site-packages to the path as ``site`` does without ``-I``."""
    import site

    if sys.prefix != sys.base_prefix and sys.base_prefix not in site.PREFIXES:
        return  # a virtual environment that doesn't see the system's packages
    folder = site.getusersitepackages()
    if not os.path.isdir(folder):
        return
    before = list(sys.path)
    site.addsitedir(folder, {os.path.normcase(os.path.abspath(path)) for path in before})
    added = [path for path in sys.path if path not in before]
    system = set(site.getsitepackages())
    position = next((index for index, path in enumerate(before) if path in system), len(before))
    sys.path[:] = [*before[:position], *added, *before[position:]]


def main(arguments: list[str]) -> None:
    """Print the answer."""
    if "--no-user-site" not in arguments:
        add_user_site()
    answer = {
        "implementation": sys.implementation.name,
        "version": full_version(sys.version_info),
        "platform": platform_tag(),
        "abi": abi_tag(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "libc": libc(),
        "markers": markers(),
        "standard_library": os.path.dirname(os.__file__),
        "path": [path for path in sys.path if isinstance(path, str)],
    }
    # As a literal, because importing json takes longer than all of the above.
    sys.stdout.write(f"\n{MARKER}\n{answer!a}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
