"""The container that wheels for the target are built in: one of the base image, without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.image_layout import BaseImage

# Large projects may compile for this long.
_TIMEOUT = 3600.0


class EngineContainer:
    """A runner of scripts in fresh containers of the base image, for any number of threads.

    Parameters
    ----------
    base
        As far as it is known.
    make
        Return where the engine is, and the base image in it; called once, when the first script is to run.
    """

    def __init__(self, base: BaseImage, make: Callable[[], tuple[Endpoint, BaseImage]]) -> None:
        self._base = base
        self._make = make
        self._guard = threading.Lock()
        self._made: tuple[Endpoint, BaseImage] | None = None

    @property
    def identity(self) -> str:
        """Return the base image's hash."""
        return self._base.base_hash

    def run(self, script: str, *, stdin: bytes, log: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Run *script* by the base's interpreter, and return its exit code and its standard output.

        Parameters
        ----------
        script
            The text of a Python program.
        stdin
            The content of its standard input.
        log
            Called with each piece of its standard error.

        Raises
        ------
        EngineError
            There is no engine, the container can't be started, or doesn't end within an hour.
        """
        answer = bytearray()

        def receive(stream: Literal["stdout", "stderr"], piece: bytes) -> None:
            if stream == "stdout":
                answer.extend(piece)
            else:
                log(piece)

        with self._guard:
            if self._made is None:
                self._made = self._make()
        endpoint, base = self._made
        command = (base.python_executable, "-c", script)
        request = RunRequest(base.reference, command, stdin=stdin, timeout=_TIMEOUT)
        # A client for each call: the SDK's isn't thread-safe.
        with Engine(endpoint) as engine:
            result = engine.run(request, output=receive)
        return result.exit_code, bytes(answer)
