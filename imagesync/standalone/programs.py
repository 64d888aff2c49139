"""The path and the text of each standalone program, and functions that are sent as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

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

    >>> program_modules("cluster.apply_sync")
    ('distributions', 'cluster.apply_sync')
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


class Remote:
    """A function of a module in ``standalone.cluster``, for ``Client.run`` and similar methods.

    It is pickled as the module's source text: bytecode would require the same Python, and a module name an
    installed imagesync.

    Parameters
    ----------
    module
        Name of the module in that package.
    function
        Name of the function in it.

    >>> import pickle
    >>> sorted(pickle.loads(pickle.dumps(Remote("member_facts", "facts")))())[:3]
    ['conda', 'distributions', 'environment']
    """

    def __init__(self, module: str, function: str) -> None:
        self.__name__ = function
        self._text = program_text(f"cluster.{module}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  it is any function
        """Call the function in this process."""
        maker, text = self.__reduce__()
        return maker(*text)(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, dict[str, Any]]]:
        # eval and exec need no import.
        made = f"(lambda names: (exec({self._text!r}, names), names[{self.__name__!r}])[1])"
        return eval, (f"{made}({{'__name__': 'imagesync_inside'}})", {})


class RemoteObject:
    """The result of a remote function, created where it is unpickled.

    Parameters
    ----------
    maker
        The function.
    arguments
        Its arguments.
    """

    def __init__(self, maker: Remote, *arguments: object) -> None:
        self._made = (maker, arguments)

    def __reduce__(self) -> tuple[Remote, tuple[object, ...]]:
        return self._made
