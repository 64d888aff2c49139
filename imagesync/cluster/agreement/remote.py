"""A function for another process, as text: it runs on any Python, with imagesync or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imagesync.standalone.programs import program_text


class Remote:
    """A function of a module in ``standalone.cluster``, for ``Client.run`` and its like.

    Pickling it gives the module's text, and unpickling that gives the function: no bytecode travels, which
    only the same Python could read, and no name of a module that isn't there.

    Parameters
    ----------
    module
        The module's name in that package.
    function
        The function's name in it.

    >>> import pickle
    >>> sorted(pickle.loads(pickle.dumps(Remote("facts", "facts")))())[:3]
    ['conda', 'distributions', 'environment']
    """

    def __init__(self, module: str, function: str) -> None:
        self.__name__ = function
        self._text = program_text(f"cluster.{module}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  it is any function
        """Call the function here."""
        maker, text = self.__reduce__()
        return maker(*text)(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, dict[str, Any]]]:
        # eval and exec are in every Python, and need no import there.
        made = f"(lambda names: (exec({self._text!r}, names), names[{self.__name__!r}])[1])"
        return eval, (f"{made}({{'__name__': 'imagesync_inside'}})", {})


class RemoteObject:
    """What a remote function returns, made where it is unpickled.

    Parameters
    ----------
    maker
        The function.
    arguments
        What it is called with.
    """

    def __init__(self, maker: Remote, *arguments: object) -> None:
        self._made = (maker, arguments)

    def __reduce__(self) -> tuple[Remote, tuple[object, ...]]:
        return self._made
