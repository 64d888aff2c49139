"""Build an image, verify it, and tag it only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagesync.engine.build_context import BuildRequest, stream_files
from imagesync.image.built_image import Image
from imagesync.image.conda.conda_variables import with_variables

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.image.image_context import BuildContext


def build_image(
    context: BuildContext,
    *,
    engine: Engine,
    verify: Callable[[str], Mapping[str, str] | None],
    progress: Progress,
    extra_tags: Sequence[str] = (),
    no_cache: bool = False,
) -> Image:
    """Build the image of a context, verify it, and tag it with the context's name and *extra_tags*.

    Parameters
    ----------
    context
        The inputs of the build.
    engine
        Builds the image.
    verify
        Called with the image ID; if it raises, the image is removed. It may return variables that are added
        to the image.
    progress
        Shows the steps.
    extra_tags
        Further references for the image.
    no_cache
        Whether the engine's cache of steps is ignored.

    Raises
    ------
    BuildError
        A step failed.
    """
    image_id = build_checked(
        context, engine=engine, verify=verify, progress=progress, extra_tags=extra_tags, no_cache=no_cache
    )
    return Image(
        reference=context.name,
        image_id=image_id,
        environment_hash=context.environment_hash,
        lock_digest=context.lock.digest,
        cached=False,
        deviations=tuple(deviation.to_dict() for deviation in context.lock.deviations),
        repacked=tuple(context.lock.repacked_to_list()),
    )


def build_checked(
    context: BuildContext,
    *,
    engine: Engine,
    verify: Callable[[str], Mapping[str, str] | None],
    progress: Progress,
    extra_tags: Sequence[str] = (),
    no_cache: bool = False,
) -> str:
    """Return the ID of the image that is built, verified and tagged as by :func:`build_image`."""
    request = BuildRequest(network="none", no_cache=no_cache)
    image_id = engine.build(stream_files(context.files), request, progress=progress)
    with _removed_on_failure(engine, image_id):
        image_id = with_variables(engine, image_id, verify(image_id) or {}, progress=progress)
        _tag_all(engine, image_id, (context.name, *extra_tags))
    return image_id


@contextmanager
def _removed_on_failure(engine: Engine, image_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.discard(image_id)
        raise


def _tag_all(engine: Engine, image_id: str, references: Sequence[str]) -> None:
    """Add all references to the image or, if one is refused, none."""
    previous = {reference: engine.inspect(reference) for reference in references}
    done: list[str] = []
    try:
        for reference in references:
            done.append(reference)
            engine.tag(image_id, reference)
    except BaseException:
        for reference in done:
            before = previous[reference]
            if before is not None:
                engine.tag(before.image_id, reference)
            elif engine.inspect(reference) is not None:
                engine.remove(reference)
        raise
