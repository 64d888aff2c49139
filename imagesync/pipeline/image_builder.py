"""From a plan to its image, in two parts: what environments share, and what is the user's own.

The packages image has the interpreter and everything from indexes. It is named by a hash of its own, holds
its lock in a label, and is checked in full once. The environment's image stands on it and adds the user's own
packages: an edit of them asks no index, sends their wheels alone, and checks what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from imagesync.engine.lookup import PACKAGES_REPOSITORY
from imagesync.errors import BuildError
from imagesync.image.base import target_of
from imagesync.image.builder import build_checked, build_image
from imagesync.image.dockerfile import Part, make_context
from imagesync.image.templates import is_in_parts
from imagesync.image.verify import verify
from imagesync.image_layout import USER, Label, image_tag
from imagesync.inventory.planned import image_inventory
from imagesync.lock.layers import from_label, join_layers, local_layer, local_packages, shared_layer
from imagesync.lock.lock import Lock, Target
from imagesync.lock.make import refuse_deviations
from imagesync.pipeline.artifact_sources import Workshop
from imagesync.pipeline.fetch import Artifacts, gather
from imagesync.pipeline.installers import conda_installer

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.engine.engine import Engine
    from imagesync.engine.lookup import Lookup
    from imagesync.image.conda.layer import CondaLayer
    from imagesync.image.context import BuildContext
    from imagesync.image.image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.loose_code.archive import CodeLayer
    from imagesync.plan.plan import Plan
    from imagesync.settings import Settings


@dataclass(frozen=True)
class Assembly:
    """All that decides what an image holds, and where its artifacts come from.

    Parameters
    ----------
    contents
        For each vendored package the digest of what its wheel is made from.
    identify
        Gives the environment hash, ``sha256:<hex>``, from such digests: a build may have taken files that
        they don't cover yet.
    packages_hash
        Of the packages image below it.
    created
        Seconds since the epoch.
    given
        The lock of a lock file; ``None`` to make one from the plan.
    contested
        Of each file that several packages have, the sha256 of the one that is installed here.
    """

    plan: Plan
    contents: Mapping[NormalizedName, str]
    base: BaseImage
    settings: Settings
    workshop: Workshop
    identify: Callable[[Mapping[NormalizedName, str]], str]
    packages_hash: str
    created: int
    given: Lock | None = None
    contested: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages_name(self) -> str:
        """Return the reference that the packages image gets."""
        return f"{PACKAGES_REPOSITORY}:{image_tag(self.packages_hash)}"

    @cached_property
    def target(self) -> Target:
        """Return what the image runs."""
        return target_of(self.plan, self.base)

    def lock(self) -> Lock:
        """Return the exact artifact of each package; an index is asked for it, unless a lock is given."""
        if self.given is not None:
            return self.given
        return self.workshop.lock(self.plan, target=self.target, contents=self.contents)

    def whole(self) -> BuildContext:
        """Return the build context of the whole image, which needs no packages image."""
        artifacts = gather(self.lock(), self.workshop)
        refuse_deviations(self.plan, artifacts.lock)
        return self._context("whole", artifacts.lock, artifacts)

    def build(
        self,
        engine: Engine,
        *,
        lookup: Lookup,
        look: Callable[[], Lookup],
        tags: tuple[str, ...],
        no_cache: bool,
    ) -> Image:
        """Return the image, built on its packages image; that one is built before, where there is none.

        Parameters
        ----------
        lookup, look
            What the engine has, and how to ask it again.
        tags
            Further references that the image gets.
        no_cache
            Build both anew.
        """
        in_parts = is_in_parts(self.settings.templates)
        context = self._on_packages(engine, lookup, look, no_cache=no_cache) if in_parts else self.whole()
        for deviation in context.lock.deviations:
            self.workshop.progress.line(f"differs: {deviation.name} {deviation.change}: {deviation.reason}")
        for package in context.lock.repacked:
            self.workshop.progress.line(
                f"repacked: {package.name} {package.version}, from the installed files: {package.repacked}"
            )
        # A step of the user's own may have changed anything; the shipped ones only add packages.
        own = local_layer(context.lock).vendored
        new = [package.name for package in own] if in_parts and self.settings.templates is None else None
        try:
            return build_image(
                context,
                engine=engine,
                extra_tags=tags,
                no_cache=no_cache,
                verify=lambda image: verify(
                    engine,
                    image,
                    lock=context.lock,
                    critical_imports=self.plan.critical_imports,
                    code_modules=self.plan.code.modules,
                    progress=self.workshop.progress,
                    new=new,
                ),
                progress=self.workshop.progress,
            )
        except BuildError:
            if not in_parts or engine.inspect(self.packages_name) is not None:
                raise
            # Somebody removed it since the engine was asked.
            return self.build(engine, lookup=look(), look=look, tags=tags, no_cache=no_cache)

    def _on_packages(
        self, engine: Engine, lookup: Lookup, look: Callable[[], Lookup], *, no_cache: bool
    ) -> BuildContext:
        """Return the build context of what goes on top of the packages image, which is there then."""
        index = None if no_cache else self._known(lookup)
        lock = self.lock() if index is None else None
        # First of all, because this is what fails most often, and soonest.
        own = Lock(self.target, (), local_packages(self.plan, self.contents))
        artifacts = gather(own, self.workshop)
        if lock is not None:
            refuse_deviations(self.plan, join_layers(shared_layer(lock), artifacts.lock))
            with self.workshop.store.lock(
                f"packages-{image_tag(self.packages_hash)}", progress=self.workshop.progress
            ):
                # Another environment with the same packages may have been built meanwhile.
                index = None if no_cache else self._known(look())
                if index is None:
                    index = self._build_packages(engine, shared_layer(lock), no_cache=no_cache)
        assert index is not None  # noqa: S101  known, or made above
        joined = join_layers(index, artifacts.lock)
        refuse_deviations(self.plan, joined)
        return self._context("environment", joined, artifacts)

    def _known(self, lookup: Lookup) -> Lock | None:
        """Return the lock of the packages image that the engine has, or ``None``."""
        found = next(
            (image for image in lookup.packages_images if image_tag(self.packages_hash) in image.tags), None
        )
        if found is None or found.labels.get(Label.PACKAGES_HASH) != self.packages_hash:
            return None
        index = from_label(found.labels.get(Label.PACKAGES_LOCK, ""), self.plan)
        if index is None or index.target != self.target:
            return None
        # What stands in for an index package may be another user's, or have been edited since.
        content = self.workshop.installed_content(self.target)
        same = all(p.is_given or content(p.planned) == p.content for p in index.vendored)
        return index if same else None

    def _build_packages(self, engine: Engine, index: Lock, *, no_cache: bool) -> Lock:
        """Build the packages image of *index*, and return what it holds in the end."""
        progress = self.workshop.progress
        artifacts = gather(index, self.workshop)
        refuse_deviations(self.plan, artifacts.lock)
        progress.line(f"Making {self.packages_name}, which all environments with the same packages stand on")
        build_checked(
            self._context("packages", artifacts.lock, artifacts, engine),
            engine=engine,
            no_cache=no_cache,
            # What is critical may be the user's own, and may need it; that is tried in the finished image.
            verify=lambda image: verify(
                engine, image, lock=artifacts.lock, critical_imports=(), user=USER, progress=progress
            ),
            progress=progress,
        )
        return artifacts.lock

    def _context(
        self, part: Part, lock: Lock, artifacts: Artifacts, engine: Engine | None = None
    ) -> BuildContext:
        from importlib.metadata import version

        shared = part == "packages"
        made = {package.name: package.content for package in lock.vendored if package.name in self.contents}
        environment_hash = self.identify({**self.contents, **made})
        return make_context(
            lock,
            base=self.base,
            environment_hash=self.packages_hash if shared else environment_hash,
            name=self.packages_name
            if shared
            else f"{self.settings.repository}:{image_tag(environment_hash)}",
            packages=artifacts.packages,
            vendored=artifacts.vendored,
            installer=artifacts.installer if part != "environment" else None,
            templates=self.settings.templates,
            version=version("imagesync"),
            created=self.created,
            file_conflicts=self.contested,
            part=part,
            packages_image=self.packages_name if part == "environment" else None,
            code=None if shared else self._code_layer(),
            conda=self._conda_layer(lock, artifacts, engine) if part != "environment" else None,
            inventory=None if shared else image_inventory(self.plan, lock, environment_hash=environment_hash),
        )

    def _conda_layer(self, lock: Lock, artifacts: Artifacts, engine: Engine | None) -> CondaLayer | None:
        if not lock.conda:
            return None
        from imagesync.image.conda.layer import make_layer
        from imagesync.image.conda.mounted_images import with_mounted_images

        workshop = self.workshop
        layer = make_layer(
            lock,
            artifacts.conda,
            installer=conda_installer(lock, self.settings, workshop),
            wheels=(*artifacts.packages.wheels, *artifacts.vendored.wheels),
            python=workshop.python,
            store=workshop.store,
            progress=workshop.progress,
        )
        # Without an engine the context is complete in itself; templates of the user's own know no mount.
        if engine is None or self.settings.templates is not None:
            return layer
        return with_mounted_images(engine, layer, progress=workshop.progress)

    def _code_layer(self) -> CodeLayer | None:
        if not self.plan.code:
            return None
        from imagesync.loose_code.archive import make_layer

        workshop = self.workshop
        return make_layer(
            self.plan.code,
            python=workshop.python,
            target=self.target,
            store=workshop.store,
            progress=workshop.progress,
        )
