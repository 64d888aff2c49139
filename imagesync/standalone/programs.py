"""The path and the text of each standalone program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parent
_FUTURE: Final = "from __future__ import annotations\n"
_IMPORT: Final = re.compile(r"^from imagesync\.standalone\.([\w.]+) import (?:\([^)]*\)|.*)\n", re.MULTILINE)
_MAIN: Final = re.compile(r'^if __name__ == "__main__":\n(?:(?:[ \t].*)?\n)*', re.MULTILINE)


def program_path(name: str) -> Path:
    """Return the file of a program, which runs as it is if it imports no other module of this package.

    Parameters
    ----------
    name
        Its folder and its module, such as ``host.probe``.
    """
    return _ROOT.joinpath(*name.split(".")).with_suffix(".py")


def program_modules(name: str) -> tuple[str, ...]:
    """Return the modules that a program is put together from: those that it imports, then itself.

    >>> program_modules("cluster.overlay")
    ('distributions', 'cluster.overlay')
    """
    modules: list[str] = []
    for imported in _IMPORT.findall(_read(name)):
        modules += (module for module in program_modules(imported) if module not in modules)
    return (*modules, name)


def program_text(name: str) -> str:
    """Return the text of a program in one piece: the modules that it imports come before its own text.

    They share one namespace, so no two of them may define the same name; ``main`` is the program's.

    Parameters
    ----------
    name
        As for :func:`program_path`.
    """
    *imported, program = (
        _IMPORT.sub("", _read(module)).replace(_FUTURE, "", 1) for module in program_modules(name)
    )
    return "\n".join((_FUTURE, *(_MAIN.sub("", text) for text in imported), program))


def _read(name: str) -> str:
    return program_path(name).read_text(encoding="utf-8")
