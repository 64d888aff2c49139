"""From what a command asks for to the requests that answer it: one image, or one for each platform."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from imagesync.core.image_reference import check_reference
from imagesync.errors import UsageError
from imagesync.pipeline.builders import answering_finder, open_builder, open_finder
from imagesync.pipeline.engine_finder import EngineFinder
from imagesync.pipeline.environment_inputs import EnvironmentInputs, planned_without_engine
from imagesync.pipeline.image_request import ImageRequest, RequestOptions
from imagesync.pipeline.index_request import IndexRequest
from imagesync.pipeline.outputs import parse_output
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.image.built_image import Image
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.image_finder import ImageFinder
    from imagesync.pipeline.inputs import BuildInputs

InputsOf = Callable[["ImageFinder"], "BuildInputs"]


def request_options(
    context: Context,
    *,
    tags: tuple[str, ...],
    outputs: Iterable[str],
    no_cache: bool,
    push: bool | None,
    is_locked: bool,
    with_digest: bool,
) -> RequestOptions:
    """Return the request for an image, checked before anything is made.

    With *no_cache* the remembered answers of resolvers are forgotten.

    Parameters
    ----------
    context
        The context of the command.
    tags, outputs, no_cache, push, with_digest
        As for :meth:`imagesync.session.Session.build`.
    is_locked
        Whether it is the image of a lock file.

    Raises
    ------
    UsageError
        A tag or an output can't be one, or no registry is named to push to.
    """
    for tag in tags:
        check_reference(tag, given_as="tag", tag=True)
    settings, parsed = context.settings, tuple(map(parse_output, outputs))
    push = (settings.push if push is None else push) or any(output.kind == "registry" for output in parsed)
    if push:
        from imagesync.pipeline.registry_images import require_registry

        require_registry(settings)
    if no_cache:
        from imagesync.lock.resolvers.resolver_cache import clear_answers

        clear_answers(context.cache_folder / ANSWERS)
    if push and settings.attest:
        from imagesync.pipeline.attest import require_sbom

        require_sbom()
    return RequestOptions(
        tags, parsed, no_cache=no_cache, push=push, is_locked=is_locked, with_digest=with_digest
    )


def requested_image(targets: Sequence[tuple[Context, InputsOf]], options: RequestOptions) -> Image:
    """Return the image of a context, or the index of several ones, in all places that are asked for.

    The parameters and errors are those of :func:`open_requests`.
    """
    with open_requests(targets, options) as request:
        image = request.image()
        for output in options.outputs:
            request.write(image, output)
        if options.push and targets[0][0].settings.attest:
            request.attest(image)
    return image


@contextmanager
def open_requests(
    targets: Sequence[tuple[Context, InputsOf]], options: RequestOptions
) -> Iterator[ImageRequest | IndexRequest]:
    """Give the request for the image of a context, or for the index of the images of several ones.

    Parameters
    ----------
    targets
        For each platform its context, and a function that returns what its image is made from.
    options
        What is asked of the image.

    Raises
    ------
    UsageError, EngineError
        It can't be built in the way that the settings ask for.
    """
    if len(targets) == 1:
        context, inputs_of = targets[0]
        with _open_request(context, inputs_of, options) as request:
            yield request
        return
    index_options = IndexRequest.options_of_images(options, targets[0][0].settings.repository)
    with ExitStack() as stack:
        requests = {
            context.platform: stack.enter_context(
                _open_request(context, inputs_of, index_options, is_one_of_several=True)
            )
            for context, inputs_of in targets
        }
        yield IndexRequest(requests, options)


@contextmanager
def _open_request(
    context: Context, inputs_of: InputsOf, options: RequestOptions, *, is_one_of_several: bool = False
) -> Iterator[ImageRequest]:
    asked = open_finder(context, options.outputs, is_one_of_several=is_one_of_several)
    with ExitStack() as stack:
        stack.enter_context(closing(asked))
        asked.query_in_background(for_image=True)
        inputs = inputs_of(asked)
        finder = stack.enter_context(closing(answering_finder(asked, context, options.outputs)))
        if is_one_of_several and isinstance(finder, EngineFinder) and not options.push:
            raise UsageError(
                "A container engine keeps no index, so images for several platforms are pushed.",
                hint="Push them (--push), build without the engine (--builder oci), or name one platform with"
                " --platform.",
            )
        if finder is not asked and isinstance(inputs, EnvironmentInputs):
            inputs = planned_without_engine(inputs)
        yield ImageRequest(context, finder, partial(open_builder, finder), inputs, options)
