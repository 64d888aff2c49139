"""The base image of a build without an engine: chosen, opened where it is, checked, and described."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesync.core.background import BackgroundCall
from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import repository_of
from imagesync.core.progress import Severity
from imagesync.engine.endpoint import find_endpoint
from imagesync.errors import BaseImageError, EngineError
from imagesync.image.base import base_identity, base_reference, check_interpreter
from imagesync.image.base_source import open_base
from imagesync.image.known_base import facts_of, known_base, refuse_contradiction, unknown_base
from imagesync.image.layers.assemble import check_base, check_contents
from imagesync.image.layers.base_contents import DEFAULT_PATH, read_base
from imagesync.image.layers.standalone_python import PLACE, find_standalone, for_image
from imagesync.image_layout import BaseImage
from imagesync.pipeline.image_finder import base_inputs
from imagesync.settings.model import DEFAULT_BASE
from imagesync.store.layout import INTERPRETERS

if TYPE_CHECKING:
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.image.layers.standalone_python import StandalonePython
    from imagesync.pipeline.cached_layers import CachedLayers
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_hash import BaseInputs
    from imagesync.plan.plan import Plan
    from imagesync.registry.image_source import SourceImage
    from imagesync.registry.oci_image import OCIImage
    from imagesync.settings.model import Settings


@dataclass(frozen=True)
class LayoutBase:
    """A base image outside of an engine.

    Parameters
    ----------
    root
        Its name, as the settings have it.
    source
        The image, and where it is.
    contents
        What a build needs of its files, and of the Python that is put on it.
    python
        That Python; ``None`` if an environment has that of the image.
    """

    root: str
    source: SourceImage
    contents: BaseContents
    python: StandalonePython | None = None

    @property
    def identity(self) -> str:
        """Return its digest, with the Python that is put on it, for hashes."""
        digest = self.source.digest
        return digest if self.python is None else f"{digest} {self.python.origin}"

    def check_place(self, python: StandalonePython) -> None:
        """Check that a Python can be put on the base.

        Raises
        ------
        BaseImageError
            The base has something where that goes.
        """
        if self.contents.tree.has_folder(str(PLACE)):
            raise BaseImageError(
                f"The base image {self.root} has a folder {PLACE} already, where {python.origin} goes.",
                hint="Name another one with --base, or take its own Python: python = 'base'.",
            )

    def with_python(self, python: StandalonePython) -> LayoutBase:
        """Return the base with a Python on it; raises as :meth:`check_place`."""
        self.check_place(python)
        return replace(self, contents=python.contents_of(self.contents), python=python)

    @property
    def image(self) -> OCIImage:
        """Return its manifest, configuration and layers."""
        return self.source.image

    def described(self, settings: Settings) -> BaseImage:
        """Return the facts that plans, locks and hashes need."""
        contents, digest = self.contents, self.source.digest
        identity = base_identity(self.identity, settings)
        assert contents.glibc is not None  # noqa: S101  checked when it was opened
        return BaseImage(
            reference=base_reference(identity),
            root=self.root,
            digest=digest,
            image_id=self.image.manifest.config.digest,
            python_version=contents.python_version,
            python_executable=contents.python_executable,
            glibc=contents.glibc,
            base_hash=identity,
        )


@contextmanager
def open_layout_base(
    root: str, context: Context, *, digest: str = "", cached: CachedLayers | None = None
) -> Iterator[LayoutBase]:
    """Give the base image that *root* names.

    Parameters
    ----------
    root
        As the setting ``base``.
    context
        The context of the command.
    digest
        Of the image in its registry; by default the one that its name stands for now.
    cached
        May know its contents already.

    Raises
    ------
    BaseImageError
        It can't be had, or an environment can't be put on it.
    """
    cache, progress = context.cache_folder, context.progress
    location = parse_location(root, given_as="base")
    if digest:
        location = replace(location, path=f"{repository_of(location.path)}@{digest}")
    with open_base(
        location,
        platform=context.platform,
        cache=cache,
        progress=progress,
        find_endpoint=lambda: find_endpoint(context.environ),
        timeout=context.settings.timeout,
    ) as source:
        budget = context.settings.max_layers
        check_base(source.image, platform=context.platform, root=root, budget=budget)
        if cached is not None:
            cached.recall_base(source.image.digest, cache)
        contents = read_base(source.image, cache=cache, progress=progress)
        check_contents(contents, root)
        yield LayoutBase(root, source, contents)


def known_layout_base(root: str, context: Context) -> BaseImage | None:
    """Return the base image *root* as far as it is known without reading its layers, or ``None``.

    Its Python may be unknown, or known without the patch level.
    """
    if parse_location(root, given_as="base").transport != "registry":
        return None
    settings = replace(context.settings, base=root)
    try:
        return known_base(
            settings, cache=context.cache_folder, progress=context.progress, problem="No engine is asked."
        )
    except BaseImageError:
        return None


def check_python(base: BaseImage, plan: Plan, *, subject: str) -> None:
    """Check that a base image has the interpreter that *plan* needs; *subject* is what needs it.

    Raises
    ------
    BaseImageError
        It has none, or another one.
    """
    if not base.python_version:
        raise _without_python(base.root, plan)
    check_interpreter(base, plan, subject=subject)


def _without_python(root: str, plan: Plan) -> BaseImageError:
    example = plan.python.minor or "3.12"
    return BaseImageError(
        f"The base image {root} has no Python, and without an engine none can be added.",
        hint=f"Name one that has it, as python:{example}-slim does, with --base.",
    )


def base_with_python(version: str) -> str:
    """Return the base image with the Python *version* that takes the place of the default one."""
    return f"python:{version.rstrip('+')}-slim"


class ChosenBase:
    """The base image of one build without an engine, and where the image's Python comes from.

    Parameters
    ----------
    context
        The context of the command.
    digest
        As for :func:`open_layout_base`.
    engine_problem
        Why no engine tells about the base image, if one was asked.
    open_cached
        Returns the layers of the setting ``cache-from``.
    """

    def __init__(
        self,
        context: Context,
        *,
        digest: str = "",
        engine_problem: str = "",
        open_cached: Callable[[], CachedLayers | None] = lambda: None,
    ) -> None:
        self._context = context
        self._digest = digest
        self._engine_problem = engine_problem
        self._open_cached = open_cached
        self._root = context.settings.base
        self._base: LayoutBase | None = None
        self._python: StandalonePython | None = None
        self._takes_own = context.settings.python_source == "auto"
        self._opening: BackgroundCall[LayoutBase] | None = None
        self._opened = ExitStack()
        self._is_closed = False
        self._guard = threading.Lock()

    def open_in_background(self) -> None:
        """Start to open the base image, unless the plan decides which it is; errors come where it is used."""
        if self._root != DEFAULT_BASE:
            self._opening = BackgroundCall(self._open)

    def close(self) -> None:
        """Close the base image; one that is being opened closes itself."""
        with self._guard:
            self._is_closed = True
        self._opened.close()
        self._base = None

    @property
    def base(self) -> LayoutBase:
        """Return the base image that the settings name, or the one with Python in place of the default.

        Raises
        ------
        BaseImageError
            It can't be had, or an environment can't be put on it.
        """
        if self._base is None:
            opening, self._opening = self._opening, None
            base = self._open() if opening is None else opening.result()
            self._base = base if self._python is None else base.with_python(self._python)
        return self._base

    def _open(self) -> LayoutBase:
        with ExitStack() as stack:
            cached = self._open_cached()
            opened = open_layout_base(self._root, self._context, digest=self._digest, cached=cached)
            base = stack.enter_context(opened)
            with self._guard:
                if not self._is_closed:
                    self._opened.push(stack.pop_all())
        return base

    @property
    def inputs(self) -> BaseInputs:
        """Return the inputs that all hashes cover besides the plan and the settings."""
        return base_inputs(self._context.settings, self.base.identity, self.base.contents.python_version)

    def choose(self, plan: Plan, *, for_lock: bool = False) -> None:
        """Choose where Python comes from: as the environment has it, or in an image in place of the default.

        The default one has none.

        Raises
        ------
        BaseImageError
            It would be the base image's, which is known already to have none.
        """
        context, version = self._context, plan.python.version
        if plan.interpreter == "conda" or self._python is not None:
            return
        takes_own = self._takes_own and not for_lock
        if takes_own and (found := find_standalone(plan.python)) and (own := self._own_python(found, plan)):
            context.progress.line(f"The image gets the environment's own Python: {found.origin}.")
            self._python, self._base = own, self.base.with_python(own)
            return
        if self._root != DEFAULT_BASE or not version:
            is_opening = self._opening is not None and not self._opening.has_ended
            if is_opening and not for_lock and self._lacks_python():
                raise _without_python(self._root, plan)
            return
        self._root, self._base = base_with_python(version), None
        self._context.progress.line(
            f"The base image is {self._root}: {DEFAULT_BASE} has no Python, and without an engine none can be"
            " added."
        )

    def to_build_on(self, plan: Plan, *, subject: str) -> BaseImage:
        """Return the base image for *plan*, as its layers tell; *subject* is as for :func:`check_python`."""
        self.choose(plan)
        base = self._described()
        if plan.interpreter != "conda":
            check_python(base, plan, subject=subject)
        return base

    def to_read_for(self) -> BaseImage:
        """Return the base image as far as reading a lock file needs it: its Python and its C library."""
        return self._for_lock(needs_python=True)

    def to_lock_for(self, plan: Plan) -> BaseImage:
        """Return the base image as far as a lock needs it; its layers are read only if nothing else tells."""
        self.choose(plan, for_lock=True)
        needs_python = plan.interpreter != "conda"
        base = self._for_lock(needs_python=needs_python)
        if needs_python:
            check_python(base, plan, subject="The environment")
        return base

    def _for_lock(self, *, needs_python: bool) -> BaseImage:
        known = None
        if self._base is None and self._python is None:
            known = known_layout_base(self._root, self._context)
        if known is not None and (not needs_python or known.python_version.count(".") > 1):
            return known
        try:
            return self._described()
        except BaseImageError as error:
            if not self._engine_problem:
                raise
            if known is not None and known.python_version:
                return known  # its patch level is taken to be the local one
            raise unknown_base(self._root, [self._engine_problem, error.message]) from error

    def _described(self) -> BaseImage:
        settings = self._context.settings
        base = self.base.described(settings)
        refuse_contradiction(settings, facts_of(base, "its files"))
        return base

    def _lacks_python(self) -> bool:
        """Return True if the base image is an engine's and has no Python, before all of it is saved."""
        location = parse_location(self._root, given_as="base")
        if location.transport != "docker-daemon":
            return False
        # What goes wrong here is said by what opens the image.
        with suppress(EngineError), self._context.open_engine() as engine:
            image = engine.inspect(location.path)
            if image is not None:
                folders = image.environment.get("PATH", DEFAULT_PATH).split(":")
                paths = (f"{folder}/python3" for folder in folders if folder.startswith("/"))
                return engine.first_file(image.image_id, paths) is None
        return False

    def _own_python(self, found: StandalonePython, plan: Plan) -> StandalonePython | None:
        """Return *found* for the image's platform; ``None``, with a warning, if the image can't have it."""
        context, base = self._context, self.base
        try:
            base.check_place(found)
            folder = context.cache_folder / INTERPRETERS
            return for_image(
                found, plan.python, platform=context.platform, cache=folder, environ=context.environ
            )
        except BaseImageError as error:
            self._takes_own = False
            context.progress.line(
                f"{error.message} The image gets its base image's Python instead.", Severity.WARNING
            )
            return None
