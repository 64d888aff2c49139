"""The choice of a builder: a container engine, or imagesync itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.core.progress import Severity
from imagesync.errors import BuildError, EngineError, EngineNotFound, ForeignPlatform, UsageError
from imagesync.pipeline.engine_finder import EngineFinder, check_base_of_engine, is_in_registry
from imagesync.pipeline.image_finder import needs_of_container
from imagesync.pipeline.layout_finder import LayoutFinder

if TYPE_CHECKING:
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.image_builder import ImageBuilder
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.outputs import Output
    from imagesync.settings.model import Settings

Finder: TypeAlias = EngineFinder | LayoutFinder


def builder_of_settings(
    settings: Settings, outputs: Sequence[Output] = (), *, is_one_of_several: bool = False
) -> Literal["auto", "docker", "oci"]:
    """Return the builder of an image as far as the settings decide it; ``auto`` for an engine if one answers.

    Parameters
    ----------
    settings
        The settings.
    outputs
        The places that the image will be put in.
    is_one_of_several
        Whether images for several platforms are wanted: layers that imagesync writes need no emulation, and
        those of pure packages are the same for all.

    Raises
    ------
    UsageError
        The base image's name can't be one.
    """
    kinds = {output.kind for output in outputs}
    without_engine = not is_in_registry(settings) or bool(kinds - {"docker", "registry"})
    without_engine |= is_one_of_several and not needs_of_container(settings)
    if settings.builder != "auto":
        return settings.builder
    if without_engine:
        return "oci"
    return "docker" if "docker" in kinds else "auto"


def open_finder(
    context: Context, outputs: Sequence[Output] = (), *, is_one_of_several: bool = False
) -> Finder:
    """Return the finder that the settings ask for; with ``builder = "auto"`` it asks an engine first.

    Parameters
    ----------
    context
        The context of the command.
    outputs, is_one_of_several
        As for :func:`builder_of_settings`.

    Raises
    ------
    UsageError
        An engine is asked for, and can't have the base image, or can't write an output.
    """
    settings = context.settings
    if builder_of_settings(settings, outputs, is_one_of_several=is_one_of_several) == "oci":
        return LayoutFinder(context, announces=not is_one_of_several)
    if files := [output for output in outputs if output.kind not in ("docker", "registry")]:
        raise UsageError(
            f"--output {files[0].kind} is for images that are built without an engine.",
            hint="Build with --builder oci, or write the engine's image with `docker save`.",
        )
    check_base_of_engine(settings)
    return EngineFinder(context)


def answering_finder(finder: Finder, context: Context, outputs: Sequence[Output] = ()) -> Finder:
    """Return *finder*, or one that needs no engine if none answers, and settings and *outputs* leave it open.

    Raises
    ------
    EngineError
        There is no engine, or it doesn't answer.
    """
    try:
        finder.check_usable()
    except (EngineNotFound, ForeignPlatform) as error:
        if builder_of_settings(context.settings, outputs) != "auto":
            raise
        context.progress.line(f"Building without a container engine: {error.message}")
        finder = LayoutFinder(context)
        try:
            finder.check_usable()
        except BuildError as needs:
            raise BuildError(f"{needs.message} {error.message}", hint=error.hint) from error
    return finder


@contextmanager
def base_finder(context: Context) -> Iterator[Callable[[], Finder]]:
    """Give a function that returns the finder of the base image for what builds no image: locks, and diffs.

    An engine is asked in the background, and the function waits for its answer.

    Raises
    ------
    UsageError
        The settings name several platforms.
    """
    context.check_platforms()
    asked = _base_finder_of(context)
    asked.query_in_background()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(_answering_base_finder(asked, context)))


def _base_finder_of(context: Context) -> Finder:
    """Return the finder that the settings ask for.

    A base image outside of an engine and of registries is read where it is.
    """
    settings = context.settings
    # The engine's base image is one of the default platform.
    is_foreign = context.platform != DEFAULT_PLATFORM
    if settings.builder == "oci" or not is_in_registry(settings) or is_foreign:
        return LayoutFinder(context)
    return EngineFinder(context)


def _answering_base_finder(finder: Finder, context: Context) -> Finder:
    """Return *finder*, or the one of a build without an engine if none answers and the settings allow it."""
    if context.settings.builder != "auto" or isinstance(finder, LayoutFinder):
        return finder
    try:
        _ = finder.lookup
    except EngineError as error:
        context.progress.line(f"Going on without an engine: {error.message}", Severity.WARNING)
        return LayoutFinder(context, engine_problem=error.message)
    return finder


def open_builder(
    finder: Finder, inputs: BuildInputs, base: BaseImage, *, for_files: bool = False
) -> ImageBuilder:
    """Return the builder of the image of *inputs* on *base*, for what *finder* looks in.

    *for_files* is as for :func:`~imagesync.pipeline.artifact_sources.open_artifact_sources`.
    """
    if isinstance(finder, LayoutFinder):
        from imagesync.pipeline.layer_builder import LayerBuilder

        return LayerBuilder(inputs, base, finder, for_files)
    from imagesync.pipeline.engine_builder import EngineBuilder

    return EngineBuilder(inputs, base, finder, for_files)
