"""Load an image that no engine has built, as ``docker load`` does, without the layers that the engine has.

Docker's own store finds a layer by its diff ID and those of all layers below: an archive needs none that an
image of the engine begins with. containerd's has blobs by their digests: an archive needs none that it has,
and the engine tells afterwards whether it has all of an image.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.files import read_chunks
from imagesync.core.image_reference import split_reference
from imagesync.engine.client import SEND_TIMEOUT, engine_errors, failure, is_podman, messages
from imagesync.engine.liveness import Stream
from imagesync.errors import EngineError
from imagesync.image_layout import Label
from imagesync.registry.archive import write_archive

if TYPE_CHECKING:
    import docker
    import requests

    from imagesync.core.progress import Progress
    from imagesync.registry.oci_image import OCIImage

_MOST_IMAGES: Final = 50  # each is a request
_AVAILABILITY_API: Final = (1, 48)  # Docker 28
_CONTAINERD: Final = ["driver-type", "io.containerd.snapshotter.v1"]


class _NotTaken(EngineError):
    """The engine has answered that it doesn't take the image."""


def load_image(
    api: docker.APIClient, image: OCIImage, *, references: Sequence[str], progress: Progress
) -> None:
    """Send *image* to an engine, which knows it by *references* then.

    Raises
    ------
    EngineError
        The engine doesn't take it.
    """
    with engine_errors("load the image"):
        present = present_layers(api, image, references)
        if present:
            try:
                _send(api, image, references, present, progress)
            except _NotTaken:
                # The image that had these layers was removed meanwhile.
                pass
            else:
                if _is_whole(api, references):
                    return
                _forget(api, references)
        _send(api, image, references, frozenset(), progress)


def present_layers(api: docker.APIClient, image: OCIImage, references: Sequence[str]) -> frozenset[str]:
    """Return the digests of the layers of *image* that the engine seems to have.

    With Docker's own store these are the ones in common with one of its images, from the first on. Those of
    the same repository are looked at first, then others of imagesync, the newest first. With containerd's
    they may be of several images, and of another compression; an engine before 28 doesn't tell. Podman wants
    all layers in an archive.
    """
    in_containerd = _uses_containerd(api)
    if is_podman(api.version()) or (in_containerd and not _tells_availability(api)):
        return frozenset()
    layers, diff_ids, most = image.manifest.layers, image.config.diff_ids, 0
    found: set[str] = set()
    for there in _layers_there(api, references):
        found.update(there)
        pairs = zip(diff_ids, there, strict=False)
        most = max(most, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if most == len(diff_ids):
            break
    if in_containerd:
        by_diff_id = zip(layers, diff_ids, strict=True)
        return frozenset(layer.digest for layer, diff_id in by_diff_id if diff_id in found)
    # One layer may be there twice.
    return frozenset(layer.digest for layer in layers[:most]) - {layer.digest for layer in layers[most:]}


def _layers_there(api: docker.APIClient, references: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the diff IDs of the engine's images."""
    import docker.errors

    repositories = {split_reference(reference)[0] for reference in references}

    def rank(listed: Mapping[str, Any]) -> tuple[bool, bool, int]:
        names = {split_reference(tag)[0] for tag in listed.get("RepoTags") or () if "<none>" not in tag}
        is_ours = Label.ENVIRONMENT_HASH in (listed.get("Labels") or {})
        return names.isdisjoint(repositories), not is_ours, -int(listed.get("Created") or 0)

    listed = sorted(api.images(), key=rank)
    for each in listed[:_MOST_IMAGES]:
        try:
            root = api.inspect_image(each["Id"]).get("RootFS") or {}
        except docker.errors.NotFound:
            continue
        yield root.get("Layers") or ()


def _uses_containerd(api: docker.APIClient) -> bool:
    return _CONTAINERD in (api.info().get("DriverStatus") or [])


def _tells_availability(api: docker.APIClient) -> bool:
    return tuple(map(int, api.api_version.split("."))) >= _AVAILABILITY_API


def _is_whole(api: docker.APIClient, references: Sequence[str]) -> bool:
    """Return True if the engine has all of an image that was loaded without some of its layers.

    A store of containerd's takes one without them, and only a container fails.
    """
    if not _uses_containerd(api):
        return True
    url = api._url("/images/{0}/json", references[0])
    manifests = api._result(api._get(url, params={"manifests": 1}), json=True).get("Manifests") or ()
    return bool(manifests) and all(each.get("Available") for each in manifests)


def _forget(api: docker.APIClient, references: Sequence[str]) -> None:
    """Remove an image that lacks layers, so that none is found by these names if all of it isn't sent."""
    import docker.errors

    for reference in references:
        with suppress(docker.errors.NotFound):
            api.remove_image(reference)


def _send(
    api: docker.APIClient,
    image: OCIImage,
    references: Sequence[str],
    present: frozenset[str],
    progress: Progress,
) -> None:
    total = sum(layer.size for layer in image.manifest.layers if layer.digest not in present)
    with progress.task("Loading the image into the engine", total=total, unit="bytes") as task:

        def chunks() -> Iterator[bytes]:
            for chunk in _archive(image, references, present):
                yield chunk
                task.advance(len(chunk))

        url = api._url("/images/load")
        send = partial(api._post, url, params={"quiet": 1}, stream=True, timeout=(SEND_TIMEOUT, None))

        def read(response: requests.Response) -> Iterator[Mapping[str, Any]]:
            api._raise_for_status(response)
            yield from messages(response)

        with Stream(api, "load the image", send, read, body=chunks()) as received:
            for message in received:
                if (reason := failure(message)) is not None:
                    raise _NotTaken(f"The engine didn't take the image: {reason}")


def _archive(image: OCIImage, references: Sequence[str], present: frozenset[str]) -> Iterator[bytes]:
    """Yield the image as an archive, which another thread writes."""
    reader, writer = os.pipe()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writer, "wb") as file:
                write_archive(image, file, references=references, docker=True, without=present)
        except BrokenPipeError:
            pass  # the engine has ended the request, and says why
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write, name="archive", daemon=True)
    thread.start()
    with os.fdopen(reader, "rb") as file:
        try:
            yield from read_chunks(file)
        finally:
            with suppress(OSError):
                file.close()
            thread.join()
    if failures:
        raise failures[0]
