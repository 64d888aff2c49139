"""The container that wheels for the target are built in: one of the base image, without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from imagesync.engine.engine import Engine
from imagesync.engine.run import RunRequest

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.image_layout import BaseImage

# Large projects may compile for this long.
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class EngineContainer:
    """A runner of scripts in fresh containers of the base image, for any number of threads.

    Parameters
    ----------
    endpoint
        The engine's.
    base
        The image of the containers.
    """

    endpoint: Endpoint
    base: BaseImage

    @property
    def identity(self) -> str:
        """Return the base image's hash."""
        return self.base.base_hash

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
            The container can't be started, or doesn't end within an hour.
        """
        answer = bytearray()

        def receive(stream: Literal["stdout", "stderr"], piece: bytes) -> None:
            if stream == "stdout":
                answer.extend(piece)
            else:
                log(piece)

        command = (self.base.python_executable, "-c", script)
        request = RunRequest(self.base.reference, command, stdin=stdin, timeout=_TIMEOUT)
        # A client for each call: the SDK's isn't thread-safe.
        with Engine(self.endpoint) as engine:
            result = engine.run(request, output=receive)
        return result.exit_code, bytes(answer)
