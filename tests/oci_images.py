"""Small OCI images for tests: layers by hand, no engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping

from imagesync.registry.artifacts import Artifact
from imagesync.registry.config import ContainerConfig, History, ImageConfig
from imagesync.registry.manifest import EMPTY, LAYER_GZIP, Descriptor
from imagesync.registry.oci_image import OCIImage, compose_image
from imagesync.registry.oci_layout import ImageLayout


def layer_tar(files: Mapping[str, bytes | str | tuple[int, int, int]]) -> bytes:
    """Return an uncompressed layer; a text is a link, three numbers a folder's mode and owner."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, data
                archive.addfile(entry)
            elif isinstance(data, tuple):
                entry.type = tarfile.DIRTYPE
                entry.mode, entry.uid, entry.gid = data
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(data), 0o755
                archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def small_image(
    layout: ImageLayout,
    *layers: Mapping[str, bytes | str | tuple[int, int, int]],
    name: str = "latest",
    container: ContainerConfig | None = None,
    platform: str = "linux/amd64",
) -> OCIImage:
    """Put an image of these layers into *layout*, and return it."""
    tars = [layer_tar(files) for files in layers]
    descriptors: list[Descriptor] = [
        layout.add_bytes(gzip.compress(content, 1, mtime=0), LAYER_GZIP) for content in tars
    ]
    config = ImageConfig(
        platform,
        tuple(f"sha256:{hashlib.sha256(content).hexdigest()}" for content in tars),
        container or ContainerConfig(env=("PATH=/bin",), cmd=("/bin/true",)),
        tuple(History(created_by=f"layer {number}") for number, _ in enumerate(tars)),
        "1980-01-01T00:00:00Z",
    )
    image = compose_image(config, descriptors, layout)
    layout.put(image, name=name)
    return image


def put_artifact(artifact: Artifact, layout: ImageLayout) -> None:
    """Add a document about an image to a layout, as other tools do."""
    documents = [(artifact.document, artifact.manifest.layers[0].media_type), (b"{}", EMPTY)]
    layout.put_manifest(artifact.content, artifact.descriptor, name="", documents=documents)
