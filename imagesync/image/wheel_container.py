"""Where wheels are built for the target: a container of the base image, without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.image_layout import BaseImage

# Large projects take their time to compile.
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class EngineContainer:
    """Runs scripts in fresh containers of the base image; several threads may do so at once."""

    endpoint: Endpoint
    base: BaseImage

    @property
    def identity(self) -> str:
        """Return the hash of what the base image is made from."""
        return self.base.base_hash

    def run(self, script: str, *, stdin: bytes, log: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Run *script* by the base's interpreter, and return its exit code and what it wrote to stdout.

        Raises
        ------
        EngineError
            The container can't be started, or doesn't end within an hour.
        """
        from imagesync.engine.engine import Engine, RunRequest

        answer = bytearray()

        def receive(stream: Literal["stdout", "stderr"], piece: bytes) -> None:
            if stream == "stdout":
                answer.extend(piece)
            else:
                log(piece)

        command = (self.base.python_executable, "-c", script)
        request = RunRequest(self.base.reference, command, stdin=stdin, timeout=_TIMEOUT)
        # A client of its own for each: that of the SDK isn't made for several threads.
        with Engine(self.endpoint) as engine:
            result = engine.run(request, output=receive)
        return result.exit_code, bytes(answer)
