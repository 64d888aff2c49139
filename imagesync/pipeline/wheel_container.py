"""The container in which an engine builds wheels for an image whose platform this machine isn't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.errors import EngineNotFound, ForeignPlatform, UsageError
from imagesync.pipeline.engine_finder import EngineFinder, check_base_of_engine
from imagesync.plan.checks.sources import foreign_wheels, unbuildable_wheels

if TYPE_CHECKING:
    from imagesync.engine.endpoint import Endpoint
    from imagesync.image.builder import EngineContainer
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.context import Context
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Finding


def wheel_container(base: BaseImage, context: Context) -> EngineContainer | None:
    """Return the container for wheels of an image whose layers no engine builds; ``None`` if none is wanted.

    Whether an engine answers and runs the platform is asked when a wheel needs it.

    Parameters
    ----------
    base
        The base image, which the engine may not have yet.
    context
        The context of the command.
    """
    if context.settings.builder == "oci":
        return None

    from imagesync.image.builder import EngineContainer

    def make() -> tuple[Endpoint, BaseImage]:
        finder = EngineFinder(context)
        check_base_of_engine(context.settings)
        finder.check_runs_platform()
        return finder.base_for_wheels(replace(base, image_id=""))

    return EngineContainer(base, make)


def missing_container(plan: Plan, context: Context) -> Iterator[Finding]:
    """Yield a finding for each local package whose wheel for the image's platform nobody here can build.

    An engine is asked only if there is a package that needs it.
    """
    if foreign_wheels(plan):
        problem, remedy = _problem(context)
        yield from unbuildable_wheels(plan, problem=problem, remedy=remedy)


def _problem(context: Context) -> tuple[str, str]:
    """Return why no engine builds wheels for the image's platform, and what to do; empty if one does."""
    settings = context.settings
    if settings.builder == "oci":
        return (
            f'no engine is asked ({settings.origins.get("builder", "builder")} = "oci")',
            "Allow an engine that runs that platform to build the wheel: --builder auto",
        )
    try:
        check_base_of_engine(settings)
        EngineFinder(context).check_runs_platform()
    except (EngineNotFound, ForeignPlatform, UsageError) as error:
        return error.message.rstrip("."), error.hint or ""
    return "", ""
