"""The base image of a build without an engine: opened where it is, checked, and described by its layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import repository_of
from imagesync.errors import BaseImageError
from imagesync.image.base import base_identity, base_reference, check_interpreter
from imagesync.image.base_source import open_base
from imagesync.image.known_base import known_base
from imagesync.image.layers.assemble import check_base, check_contents
from imagesync.image.layers.base_contents import read_base
from imagesync.image.layers.standalone_python import PLACE
from imagesync.image_layout import BaseImage

if TYPE_CHECKING:
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.image.layers.standalone_python import StandalonePython
    from imagesync.pipeline.cached_layers import CachedLayers
    from imagesync.pipeline.context import Context
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
        """Return what plans, locks and hashes need of it."""
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
        open_engine=context.open_engine,
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
        example = plan.python.minor or "3.12"
        raise BaseImageError(
            f"The base image {base.root} has no Python, and without an engine none can be added.",
            hint=f"Name one that has it, as python:{example}-slim does, with --base.",
        )
    check_interpreter(base, plan, subject=subject)
