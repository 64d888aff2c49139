"""Build an image, verify it, and tag it only then; build its wheels in containers of the base image.

Activation scripts of conda packages set variables. A container needn't start with a shell: an exec form entry
point, ``docker exec`` or a Kubernetes ``command`` gets only the image's variables. Those of a script are
known once it has run in the built environment, so they are added to the image afterwards.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from imagesync.core.limits import WHEEL
from imagesync.engine.build_context import BuildRequest, dockerfile_quote
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from imagesync.errors import BuildError, EngineError, WheelError
from imagesync.image.built_image import image_of_lock
from imagesync.image.dockerfile_options import run_lines
from imagesync.image_layout import Label

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.engine.build_context import Network
    from imagesync.engine.endpoint import Endpoint
    from imagesync.image.built_image import Image
    from imagesync.image.image_context import BuildContext
    from imagesync.image_layout import BaseImage, ImageOptions

ACTIVE: Final = "CONDA_SHLVL"
"""The variable by which conda, and the image's entry point, recognise an activated environment."""
UNFINISHED_REPOSITORY: Final = "imagesync-unfinished"
# Large projects may compile for this long.
_BUILD_SECONDS = 3600.0
# Variables of a container or of its user.
_EXCLUDED = frozenset({"HOSTNAME", "HOME", "USER", "TERM"})
_UNPRINTABLE = re.compile(r"[\0-\x1f]")


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
    return image_of_lock(
        context.lock,
        reference=context.name,
        image_id=image_id,
        environment_hash=context.environment_hash,
        verified_imports=context.labels.get(Label.VERIFIED_IMPORTS, "").split(),
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
    platform = context.lock.target.platform.name
    request = BuildRequest(network="none", platform=platform, no_cache=no_cache)
    image_id = engine.build_files(context.files, request, progress=progress)
    with _removed_on_failure(engine, image_id):
        image_id = _with_commands(
            engine, image_id, context.options, platform=platform, no_cache=no_cache, progress=progress
        )
    with _removed_on_failure(engine, image_id):
        image_id = _with_variables(
            engine, image_id, verify(image_id) or {}, platform=platform, progress=progress
        )
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
        with suppress(EngineError):  # which may be gone
            for reference in done:
                before = previous[reference]
                if before is not None:
                    engine.tag(before.image_id, reference)
                elif engine.inspect(reference) is not None:
                    engine.remove(reference)
        raise


def _image_variables(variables: Mapping[str, str]) -> dict[str, str]:
    r"""Return the variables of an activated environment that an image can have.

    A Dockerfile can't express line breaks. If a value has some, the environment doesn't count as activated,
    and the entry point will run the scripts.

    >>> _image_variables({"GDAL_DATA": "/opt/env/share/gdal", "CONDA_SHLVL": "1", "HOSTNAME": "b5e6"})
    {'CONDA_SHLVL': '1', 'GDAL_DATA': '/opt/env/share/gdal'}
    >>> _image_variables({"BANNER": "two\nlines", "CONDA_SHLVL": "1"})
    {}
    """
    wanted = {name: value for name, value in sorted(variables.items()) if name not in _EXCLUDED}
    possible = {name: value for name, value in wanted.items() if not _UNPRINTABLE.search(value)}
    if len(possible) < len(wanted):
        possible.pop(ACTIVE, None)
    return possible


def _with_variables(
    engine: Engine, image_id: str, variables: Mapping[str, str], *, platform: str, progress: Progress
) -> str:
    """Return the ID of an image that has further variables; *image_id* itself if there are none.

    Raises
    ------
    BuildError
        The engine can't make it.
    """
    added = _image_variables(variables)
    if not added:
        return image_id
    lines = [f"ENV {name}={dockerfile_quote(value)}" for name, value in added.items()]
    return _extended(
        engine, image_id, lines, BuildRequest(network="none", platform=platform), progress=progress
    )


def _with_commands(
    engine: Engine,
    image_id: str,
    options: ImageOptions,
    *,
    platform: str,
    no_cache: bool,
    progress: Progress,
) -> str:
    """Return the ID of an image in which the user's commands have run; *image_id* itself without any.

    They have a build of their own, because a network is a matter of a whole build.

    Raises
    ------
    BuildError
        A command failed.
    """
    if not options.run:
        return image_id
    network: Network = "default" if options.run_network else "none"
    request = BuildRequest(network=network, platform=platform, no_cache=no_cache)
    try:
        return _extended(engine, image_id, run_lines(options), request, progress=progress)
    except BuildError as error:
        if not options.run_network:
            offline = "The commands of `run` have no network; `run-network = true` gives them one."
            error.hint = "\n".join(filter(None, (offline, error.hint)))
        raise


def _extended(
    engine: Engine, image_id: str, lines: Sequence[str], request: BuildRequest, *, progress: Progress
) -> str:
    """Return the ID of an image that *lines* of a Dockerfile make from another one, which goes."""
    # Not every engine takes an ID in FROM.
    reference = f"{UNFINISHED_REPOSITORY}:{image_id.removeprefix('sha256:')[:16]}"
    text = "\n".join((f"FROM {reference}", *lines)) + "\n"
    with engine.named(image_id, reference):
        return engine.build_dockerfile(text, request, progress=progress)


class EngineContainer:
    """A runner of scripts in fresh containers of the base image, for any number of threads.

    Parameters
    ----------
    base
        The base image, as far as it is known.
    make
        Returns the engine's endpoint and the base image in it; called once, before the first script runs.
    """

    def __init__(self, base: BaseImage, make: Callable[[], tuple[Endpoint, BaseImage]]) -> None:
        self._base = base
        self._make = make
        self._guard = threading.Lock()
        self._made: tuple[Endpoint, BaseImage] | None = None

    @property
    def identity(self) -> str:
        """Return the base image's hash."""
        return self._base.base_hash

    def prepare(self) -> None:
        """Make sure that scripts can be run.

        Raises
        ------
        EngineError
            There is no engine, or it has no such image and can't make it.
        """
        _ = self._place()

    def run(self, script: str, *, stdin: bytes, log: Callable[[bytes], None]) -> tuple[int, bytes]:
        """Run *script* by the base's interpreter, and return its exit code and its standard output.

        Parameters
        ----------
        script
            The text of a Python program.
        stdin
            The content of its standard input.
        log
            Called with each piece of its standard error.

        Raises
        ------
        EngineError
            There is no engine, the container can't be started, or doesn't end within an hour.
        WheelError
            It prints more than a wheel may have.
        """
        answer = bytearray()

        def receive(stream: Literal["stdout", "stderr"], piece: bytes) -> None:
            if stream == "stderr":
                log(piece)
            elif len(answer) + len(piece) > WHEEL:
                raise WheelError(f"it answers with more than the {WHEEL} bytes that a wheel may have")
            else:
                answer.extend(piece)

        endpoint, base = self._place()
        command = (base.python_executable, "-c", script)
        request = RunRequest(base.reference, command, stdin=stdin, timeout=_BUILD_SECONDS)
        # A client for each call: the SDK's isn't thread-safe.
        with Engine(endpoint) as engine:
            result = engine.run(request, output=receive)
        return result.exit_code, bytes(answer)

    def _place(self) -> tuple[Endpoint, BaseImage]:
        with self._guard:
            if self._made is None:
                self._made = self._make()
        return self._made
