"""An image of a base and layers: its configuration, as the Dockerfile would set it, and its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from imagesync.core.files import read_chunks
from imagesync.errors import BaseImageError, LayoutError
from imagesync.image.layers.base_contents import DEFAULT_PATH
from imagesync.image.layers.grouping import FEWEST_LAYERS
from imagesync.image_layout import LAYER_CONTENTS, PREFIX, ImageOptions
from imagesync.registry.config import ContainerConfig, History
from imagesync.registry.manifest import Descriptor
from imagesync.registry.oci_image import BlobSource, OCIImage, compose_image, verified

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.core.platforms import Platform
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.image.layers.layer import Layer

_NOT_INHERITED: Final = ("Shell", "ArgsEscaped", "OnBuild")
_CREATOR: Final = "imagesync"


class _Blobs:
    """The layers of a build, in the store or elsewhere, and those of its base."""

    def __init__(self, layers: Sequence[Layer], base: BlobSource, elsewhere: BlobSource) -> None:
        self._paths = {layer.blob.digest: layer.path for layer in layers}
        self._base = base
        self._elsewhere = elsewhere

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        if descriptor.digest not in self._paths:
            yield from self._base.read(descriptor)
        elif (path := self._paths[descriptor.digest]) is None:
            yield from self._elsewhere.read(descriptor)
        else:
            yield from _read(path, descriptor)


def _read(path: Path, descriptor: Descriptor) -> Iterator[bytes]:
    """Yield the content of a layer in the store; one that is damaged is removed."""
    try:
        with path.open("rb") as file:
            yield from verified(read_chunks(file), descriptor, LayoutError)
    except LayoutError as error:
        path.unlink(missing_ok=True)
        raise LayoutError(
            error.message, hint="It was removed from the artifact store: run the command again."
        ) from error


def assemble(
    base: OCIImage,
    layers: Sequence[Layer],
    *,
    options: ImageOptions,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    conda: bool,
    activated: bool,
    created: int,
    elsewhere: BlobSource | None = None,
) -> OCIImage:
    """Return the image of an environment.

    Parameters
    ----------
    base
        The base image.
    layers
        From the system layer up.
    options
        The user's settings.
    environment
        Variables besides those of every image.
    labels
        All labels.
    conda
        Whether the environment is conda's.
    activated
        Whether an environment of conda needs no scripts that activate it.
    created
        Seconds since the epoch.
    elsewhere
        Where layers are read that aren't in the store.

    Raises
    ------
    BaseImageError
        The base is for another platform, or has too many layers.
    """
    timestamp = datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    history = base.config.history
    if not history:  # a base without any would give its layers to the first entries
        history = tuple(History(comment="base image") for _ in base.config.diff_ids)
    own = tuple(History(timestamp, f"{_CREATOR}: {layer.comment}") for layer in layers)
    config = replace(
        base.config,
        diff_ids=(*base.config.diff_ids, *(layer.diff_id for layer in layers)),
        container=_container(
            base.config.container, options, environment, labels, conda=conda, activated=activated
        ),
        history=(*history, *own),
        created=timestamp,
        author="",
    )
    descriptors = [_descriptor(layer) for layer in layers]
    annotations = {
        key: value
        for key, value in labels.items()
        if key.startswith("org.opencontainers.image.") and not key.endswith(".ref.name")
    }
    return compose_image(
        config,
        (*base.manifest.layers, *descriptors),
        _Blobs(layers, base.layers, base.layers if elsewhere is None else elsewhere),
        annotations=annotations,
    )


def _descriptor(layer: Layer) -> Descriptor:
    # What `imagesync inspect` shows the size of each package by.
    contents = {LAYER_CONTENTS: json.dumps(dict(layer.contents), sort_keys=True)} if layer.contents else {}
    return replace(layer.blob, annotations=contents)


def check_base(base: OCIImage, *, platform: Platform, root: str, budget: int) -> None:
    """Check that an environment can be put on a base image.

    Parameters
    ----------
    base
        The image.
    platform
        That of the image.
    root
        Its name, for messages.
    budget
        The most layers of the whole image.

    Raises
    ------
    BaseImageError
        It is for another platform, or has too many layers.
    """
    if not platform.is_platform_of(base.config.platform):
        raise BaseImageError(
            f"The base image {root} is for {base.config.platform}, and images are made for {platform}.",
            hint="Name another one with --base.",
        )
    if len(base.config.diff_ids) + 1 + FEWEST_LAYERS > budget:
        raise BaseImageError(
            f"The base image {root} has {len(base.config.diff_ids)} layers, and max-layers is {budget}.",
            hint=f"An environment takes at least {1 + FEWEST_LAYERS}. Raise max-layers, or name a base image"
            " with fewer layers.",
        )


def check_contents(contents: BaseContents, root: str) -> None:
    """Check that the base image called *root* has a C library, and room for an environment.

    Raises
    ------
    BaseImageError
        It hasn't.
    """
    if contents.glibc is None:
        raise BaseImageError(
            f"The base image {root} has no GNU C library, which most compiled wheels need.",
            hint="Name an image of Ubuntu, Debian or Red Hat with --base; Alpine has another C library.",
        )
    if "opt/env" in contents.present:
        raise BaseImageError(
            f"The base image {root} has a folder /opt/env already, where the environment goes.",
            hint="Name an image without it with --base. An image of imagesync is no base for another one.",
        )


def _container(
    base: ContainerConfig,
    options: ImageOptions,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    conda: bool,
    activated: bool,
) -> ContainerConfig:
    variables = base.variables
    path = variables.get("PATH", DEFAULT_PATH)
    variables["PATH"] = f"{PREFIX}/bin:{path}"
    if conda:
        variables |= {"CONDA_PREFIX": str(PREFIX), "CONDA_DEFAULT_ENV": str(PREFIX)}
        if activated:
            variables["CONDA_SHLVL"] = "1"
    else:
        variables["VIRTUAL_ENV"] = str(PREFIX)
    variables |= {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **environment}
    variables |= options.account
    return replace(
        base,
        env=tuple(f"{name}={value}" for name, value in variables.items()),
        entrypoint=(f"{PREFIX}/share/imagesync/activate",) if conda else (),
        cmd=options.cmd,
        user=options.user,
        working_dir=options.workdir,
        labels={**base.labels, **labels},
        other={key: value for key, value in base.other.items() if key not in _NOT_INHERITED},
    )
