"""Where a build without an engine puts its image, besides the layout of the cache: ``--output``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import split_reference
from imagesync.core.progress import slow_task
from imagesync.errors import UsageError
from imagesync.registry.archive import write_docker_archive, write_index_archive, write_oci_archive
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.transfer import CountedBlobs

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.pipeline.context import Context
    from imagesync.registry.manifest import Index
    from imagesync.registry.oci_image import OCIImage

Kind = Literal["oci", "oci-archive", "docker-archive", "docker", "registry"]
_EXPECTED = "oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker or registry"


@dataclass(frozen=True)
class Output:
    """A place for an image.

    Parameters
    ----------
    kind
        How it is written.
    path
        The folder or the file; empty for an engine and a registry.
    name
        The image's name in a folder or an archive; empty for its tag.
    """

    kind: Kind
    path: str = ""
    name: str = ""


def parse_output(text: str) -> Output:
    """Return the output that *text* names.

    Raises
    ------
    UsageError
        It names none.

    >>> parse_output("oci:images:latest"), parse_output("docker")
    (Output(kind='oci', path='images', name='latest'), Output(kind='docker', path='', name=''))
    """
    if text == "docker":
        return Output("docker")
    if text == "registry":
        return Output("registry")
    if text.startswith(("oci:", "oci-archive:", "docker-archive:")):
        location = parse_location(text, given_as="--output")
        if location.transport in ("oci", "oci-archive", "docker-archive"):
            return Output(location.transport, location.path, location.name)
    raise UsageError(f"--output can't be {text!r}.", hint=f"It takes {_EXPECTED}.")


def write_output(
    output: Output, image: OCIImage, *, reference: str, tags: Sequence[str], context: Context
) -> None:
    """Write *image* to a folder, an archive or an engine.

    Parameters
    ----------
    output
        The place; a registry isn't one of those that are written here.
    reference, tags
        The image's names.

    Raises
    ------
    LayoutError, EngineError
        It can't be written.
    """
    if output.kind == "docker":
        with context.open_engine() as engine:
            engine.load(image, references=(reference, *tags), progress=context.progress)
        return
    name = output.name or split_reference(reference)[1]
    with _counted(output, [image], context.progress) as (counted,):
        if output.kind == "oci":
            ImageLayout(Path(output.path)).put(counted, name=name)
        elif output.kind == "oci-archive":
            write_oci_archive(counted, Path(output.path), name=name)
        elif output.kind == "docker-archive":
            names = (output.name,) if output.name else (reference, *tags)
            write_docker_archive(counted, Path(output.path), references=names)


def write_index(
    output: Output, index: Index, images: Sequence[OCIImage], *, reference: str, progress: Progress
) -> None:
    """Write *index* and its *images* to a folder or an archive; each layer once.

    Raises
    ------
    LayoutError
        It can't be written.
    """
    name = output.name or split_reference(reference)[1]
    with _counted(output, images, progress) as counted:
        if output.kind == "oci":
            ImageLayout(Path(output.path)).put_index(index, name=name, images=counted)
        elif output.kind == "oci-archive":
            write_index_archive(index, counted, Path(output.path), name=name)


@contextmanager
def _counted(output: Output, images: Sequence[OCIImage], progress: Progress) -> Iterator[list[OCIImage]]:
    """Give *images* in a form that shows how much of their layers is written, if that takes long."""
    total = sum(image.size for image in images)
    with slow_task(progress, f"Writing {output.path}", total=total, unit="bytes") as task:
        yield [replace(image, layers=CountedBlobs(image.layers, task.advance)) for image in images]
