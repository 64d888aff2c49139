"""Load an image that no engine has built, as ``docker load`` does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from imagesync.engine.client import engine_errors
from imagesync.errors import EngineError
from imagesync.registry.archive import write_archive

if TYPE_CHECKING:
    import docker

    from imagesync.core.progress import Progress
    from imagesync.registry.oci_image import OCIImage

_PIECE = 1 << 20
_SECONDS = 600.0  # an engine says nothing while it unpacks a large layer


def load_image(
    api: docker.APIClient, image: OCIImage, *, references: Sequence[str], progress: Progress
) -> None:
    """Send *image* to an engine, which knows it by *references* then.

    Raises
    ------
    EngineError
        The engine doesn't take it.
    """
    with (
        engine_errors("load the image"),
        progress.task("Loading the image into the engine", total=image.size, unit="bytes") as task,
    ):

        def chunks() -> Iterator[bytes]:
            for chunk in _archive(image, references):
                yield chunk
                task.advance(len(chunk))

        url = api._url("/images/load")
        response = api._post(url, data=chunks(), params={"quiet": 1}, stream=True, timeout=_SECONDS)
        api._raise_for_status(response)
        for event in api._stream_helper(response, decode=True):
            if isinstance(event, dict) and "error" in event:
                raise EngineError(f"The engine didn't take the image: {event['error']}")


def _archive(image: OCIImage, references: Sequence[str]) -> Iterator[bytes]:
    """Yield the image as an archive, which another thread writes."""
    reader, writer = os.pipe()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writer, "wb") as file:
                write_archive(image, file, references=references, docker=True)
        except BrokenPipeError:
            pass  # the engine has ended the request, and says why
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write, name="archive", daemon=True)
    thread.start()
    with os.fdopen(reader, "rb") as file:
        try:
            while piece := file.read(_PIECE):
                yield piece
        finally:
            with suppress(OSError):
                file.close()
            thread.join()
    if failures:
        raise failures[0]
