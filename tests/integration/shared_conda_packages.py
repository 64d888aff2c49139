"""Conda packages that share files, as packages of real channels do: ``tests/__init__.py`` and the like."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace

from tests.channels.archive import PLACEHOLDER, CondaPackage, File, bytecode
from tests.channels.doubles import generic, platform_pure, pure

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
MODULES = f"lib/python{MINOR}/site-packages"
SHARED = {
    f"{MODULES}/tests/__init__.py",
    f"{MODULES}/tests/same.py",
    "bin/fell",
    "lib/wood.bin",
    "share/wood/link",
    "share/wood/same",
    "share/wood/text",
}
"""The files that birch and cedar share, and oak's module; bytecode goes with its module."""


def shared_packages() -> Iterator[CondaPackage]:
    """Yield ``birch`` and ``cedar``, which needs birch, and the platform's ``oak``, which needs cedar.

    All have a module ``tests`` of one size and one time that says which package it is from. oak brings its
    bytecode, by time. birch and cedar share a command, text and binary files with the prefix, files of the
    same content, and a name that is a link in one and a file in the other.
    """
    for name, depends in (("birch", ()), ("cedar", ("birch-files", "birch"))):
        module = {"tests/__init__.py": File(_module(name)), "tests/same.py": File(b"same = True\n")}
        package = pure(name, "1.0.0", depends=(*depends, f"{name}-files"))
        files = {**package.files, **{f"site-packages/{path}": file for path, file in module.items()}}
        yield replace(package, files=files, entry_points=(f"fell = {name}:main",))
        prefix = PLACEHOLDER.encode()
        link = File(link="text") if name == "birch" else File(b"a file\n")
        data = {
            "lib/wood.bin": File(
                b"\x7fELF\0" + name.encode() + b"\0" + prefix + b"/lib\0end\0", executable=True
            ),
            "share/wood/link": link,
            # The same content, another mode.
            "share/wood/same": File(b"same\n", executable=name == "birch"),
            "share/wood/text": File(name.encode() + b" is in " + prefix + b"\n"),
        }
        yield generic(f"{name}-files", "1.0.0", subdir="linux-64", files=data)
    oak = platform_pure("oak", "1.0.0", "linux-64", MINOR, depends=("cedar",))
    module = f"{MODULES}/tests/__init__.py"
    cached = importlib.util.cache_from_source(module)
    files = {module: File(_module("oak  ")), cached: File(bytecode(_module("oak  "), module))}
    yield replace(oak, files={**oak.files, **files})


def _module(name: str) -> bytes:
    return f"name = {name!r}\n".encode()
