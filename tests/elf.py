"""Shared libraries and extension modules, compiled by gcc."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

_MODULE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "%s", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_%s(void) { return PyModule_Create(&module); }
"""


def compile_library(
    path: Path, *, needs: Sequence[str] = (), runpath: str = "", rpath: str = "", soname: str = ""
) -> Path:
    """Return *path*, a shared library that needs libraries of the names *needs*, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _link(path, "int answer(void) { return 42; }\n", needs, runpath, rpath, soname)


def compile_extension(path: Path, *, needs: Sequence[str] = ()) -> Path:
    """Return *path*, an empty extension module for this feature version of Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.partition(".")[0]
    return _link(path, _MODULE % (name, name), needs)


def _link(
    path: Path, source: str, needs: Sequence[str], runpath: str = "", rpath: str = "", soname: str = ""
) -> Path:
    work = path.parent / f".{path.name}.work"
    work.mkdir()
    text = work / "source.c"
    text.write_text(source)
    stubs = []
    for name in needs:
        empty = work / "empty.c"
        empty.write_text("")
        _gcc("-o", work / name, f"-Wl,-soname,{name}", empty)
        stubs.append(work / name)
    options = [f"-I{sysconfig.get_paths()['include']}", "-Wl,--no-as-needed"]
    if soname:
        options.append(f"-Wl,-soname,{soname}")
    if runpath:
        options.append(f"-Wl,--enable-new-dtags,-rpath,{runpath}")
    if rpath:
        options.append(f"-Wl,--disable-new-dtags,-rpath,{rpath}")
    _gcc("-o", path, *options, text, *stubs)
    for file in work.iterdir():
        file.unlink()
    work.rmdir()
    return path


def _gcc(*arguments: str | Path) -> None:
    subprocess.run(["gcc", "-shared", "-fPIC", "-O0", *arguments], check=True)
