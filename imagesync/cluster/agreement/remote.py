"""Functions that other processes unpickle as source text, with any Python and without imagesync."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imagesync.standalone.programs import program_text


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
    >>> sorted(pickle.loads(pickle.dumps(Remote("facts", "facts")))())[:3]
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
