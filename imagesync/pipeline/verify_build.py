"""``imagesync verify``: an image is built again from its inputs, and compared with the one that is there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.image_location import ImageLocation, parse_location
from imagesync.core.image_reference import is_reference, parse_reference, split_reference
from imagesync.core.scratch import scratch_folder
from imagesync.errors import UsageError, VerifyError
from imagesync.image.layers.difference import first_difference
from imagesync.image_layout import Label
from imagesync.pipeline.image_request import ImageRequest, RequestOptions
from imagesync.pipeline.layer_builder import LayerBuilder
from imagesync.pipeline.layout_finder import LayoutFinder
from imagesync.pipeline.local_images import find_local_image
from imagesync.registry.image_source import open_image
from imagesync.registry.manifest import BASE_DIGEST, BASE_NAME, REF_NAME
from imagesync.registry.oci_layout import ImageLayout
from imagesync.store.layout import BLOBS, IMAGES, PARTIAL, store_errors

if TYPE_CHECKING:
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.registry.oci_image import OCIImage


@dataclass(frozen=True)
class Verification:
    """The outcome of building an image again.

    Parameters
    ----------
    reference
        The image that was verified, with its digest.
    difference
        The first thing by which the image that was built again differs; empty if it has the same digest.
    """

    reference: str
    difference: str = ""


def verify_build(
    text: str, context: Context, inputs_of: Callable[[Context, LayoutFinder], BuildInputs]
) -> Verification:
    """Return the comparison of an image with what a build of its inputs gives now.

    Downloads come from the store, where they are; bytecode, wheels, layers and everything else that is made
    is made again. The base image, its digest, the form of layers and the time are those of the image.

    Parameters
    ----------
    text
        A reference in a registry or the cache folder, or a location such as ``oci:DIR:TAG``.
    context
        The context of the command.
    inputs_of
        Returns the inputs of the build.

    Raises
    ------
    UsageError
        There is no such image, or it has no layers by imagesync.
    ImagesyncError
        It can't be read, or not be built.
    """
    with _opened(text, context) as image:
        labels = image.config.container.labels
        if not labels.get(Label.LAYER_FORM):
            raise UsageError(
                f"{text} can't be verified: a container engine built it, or another tool.",
                hint="Only the layers that imagesync writes are the same each time: --builder oci.",
            )
        with _fresh_cache(context) as cache:
            again = _context_of(image, context, cache)
            digest = labels.get(BASE_DIGEST, "") if labels.get(BASE_NAME) else ""
            with closing(LayoutFinder(again, base_digest=digest, announces=False)) as finder:
                finder.query_in_background(for_image=True)
                inputs = inputs_of(again, finder)
                finder.check_usable()
                request = ImageRequest(
                    again,
                    finder,
                    lambda inputs, base: LayerBuilder(inputs, base, finder),
                    inputs,
                    # Else the image that is to be verified would be found, and compared with itself.
                    RequestOptions(no_cache=True),
                )
                built = request.image()
                found = finder.layout.index().find(built.reference)
                assert found is not None  # noqa: S101  it was built
                difference = first_difference(finder.layout.image(found), image)
                if difference and built.environment_hash != labels.get(Label.ENVIRONMENT_HASH):
                    difference += ". It has another environment, or another base image"
        return Verification(f"{text.partition('@')[0]}@{image.digest}", difference or "")


@contextmanager
def _opened(text: str, context: Context) -> Iterator[OCIImage]:
    cache, progress = context.cache_folder, context.progress
    location = parse_location(text, given_as="REF")
    if location.transport == "docker-daemon":
        raise UsageError(f"{text} is an engine's image.", hint="Verify it in its registry or an OCI layout.")
    is_named = location.transport == "registry"
    local = find_local_image(text, platform=context.platform, cache=cache) if is_named else None
    if local is not None:
        yield local
        return
    if location.transport == "registry" and not parse_reference(text).names_registry:
        raise UsageError(
            f"There is no image {text} in {cache / IMAGES}, and its name has no registry.",
            hint="Name a registry (docker.io/ for Docker Hub), oci:DIR[:TAG], oci-archive:FILE or"
            " docker-archive:FILE.",
        )
    insecure = location.transport == "registry" and context.takes_without_tls(text)
    with (
        store_errors(cache),
        scratch_folder("verify") as folder,
        open_image(
            ImageLocation(location.transport, location.path, location.name),
            platform=context.platform.name,
            kept=ImageLayout(folder),
            progress=progress,
            insecure=insecure,
            timeout=context.settings.timeout,
            hint="Name a reference, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE.",
        ) as found,
    ):
        yield found.image


@contextmanager
def _fresh_cache(context: Context) -> Iterator[Path]:
    """Give a cache folder that has only the blobs of *context*'s, which are verified by their digests."""
    cache = context.cache_folder
    with store_errors(cache):
        (cache / PARTIAL).mkdir(mode=0o700, parents=True, exist_ok=True)
        # On the same file system, so that files can be moved into the store.
        with tempfile.TemporaryDirectory(dir=cache / PARTIAL) as folder:
            root = Path(folder)
            for blobs in (BLOBS, f"{IMAGES}/blobs"):
                (cache / blobs).mkdir(mode=0o700, parents=True, exist_ok=True)
                (root / blobs).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(OSError):  # else everything is fetched again
                    (root / blobs).symlink_to((cache / blobs).resolve(), target_is_directory=True)
            yield root


def _context_of(image: OCIImage, context: Context, cache: Path) -> Context:
    """Return *context* with the settings that gave *image* its form."""
    labels = image.config.container.labels
    form = _form(labels[Label.LAYER_FORM])
    name = labels.get(REF_NAME, "")
    changed: dict[str, Any] = {
        "builder": "oci",
        "cache_from": "",
        "cache_dir": cache,
        "compression": "zstd" if str(form["compression"]).startswith("zstd") else "gzip",
        "max_layers": form["max-layers"],
        # The blobs are those of the user's cache folder, which other processes use.
        "keep_archives": True,
    }
    if is_reference(name):
        changed["repository"], _ = split_reference(name)
    if base := labels.get(BASE_NAME):
        changed["base"] = base
    created = _seconds(image.config.created)
    return replace(
        context,
        settings=replace(context.settings, **changed),
        environ={**context.environ, "SOURCE_DATE_EPOCH": str(created)},
    )


def _seconds(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError) as error:
        raise VerifyError(
            f"The image can't be verified: the time of its creation is {created!r}.",
            hint="imagesync doesn't write such a time: build the image again.",
        ) from error


def _form(text: str) -> dict[str, Any]:
    try:
        form = json.loads(text)
        # The type itself: true is an int, too.
        if (
            isinstance(form["compression"], str)
            and type(form["max-layers"]) is int
            and form["max-layers"] > 0
        ):
            return dict(form)
    except (ValueError, LookupError, TypeError):
        pass
    raise VerifyError(
        "The image can't be verified: its label dev.imagesync.layer-form is malformed.",
        hint="Verify it with the version of imagesync that built it.",
    )
