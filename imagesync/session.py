"""The way of the data, from an environment to an image.

    scan -> plan -> lock -> fetch -> render -> build -> launch

Each step is a function in the folder of its name; this module says in which order, and what an
unchanged environment may skip. Modules are imported where they are used, because a build that hits
needs those of the first two steps only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.background import Ahead
from imagesync.pipeline.context import (
    Surroundings,
    import_what_a_hit_needs,
    import_what_a_lock_needs,
)
from imagesync.pipeline.image_finder import Search
from imagesync.pipeline.inputs import Prepared
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.engine.lookup import Lookup
    from imagesync.image.image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.lock.lockfile.bundle import Bundle
    from imagesync.lock.lockfile.check import Difference
    from imagesync.pipeline.image_builder import Assembly
    from imagesync.pipeline.lock_file_inputs import LockedBuild
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment


@dataclass(frozen=True)
class Session(Surroundings):
    """One environment, and the way from it to an image; the Python API."""

    @cached_property
    def search(self) -> Search:
        """Return where images are looked for."""
        return Search(self.settings, self.environ, self.progress, self.cache_folder())

    def plan(self) -> Plan:
        """Return what the image must hold; contradictions between installed packages are findings."""
        from imagesync.plan.checks.consistency import inconsistencies
        from imagesync.plan.checks.file_conflicts import check_files

        environment = self.scan()
        plan = self.plan_of(environment)
        conflicts = tuple(conflict.to_finding() for conflict in inconsistencies(environment))
        loose = self.loose_code(environment)
        return replace(plan, findings=(*plan.findings, *check_files(plan, environment), *loose, *conflicts))

    def lock(self) -> Lock:
        """Return the exact artifact of each package."""
        asked = Ahead(self.search.look)
        return self._lock(*self._prepare_lock(self._scan(asked, import_what_a_lock_needs), asked))

    def freeze(self) -> Bundle:
        """Return the lock with the files that others need beside it: wheels made here are made now."""
        from imagesync.pipeline.freeze import freeze

        asked = Ahead(self.search.look)
        prepared, base = self._prepare_lock(self._scan(asked, import_what_a_lock_needs), asked)
        assembly = self._assembly(prepared, base)
        return freeze(prepared.plan, assembly.lock(), assembly.workshop)

    def check_lock(self, path: Path) -> tuple[Difference, ...]:
        """Return what has moved here since the lock file at *path* was made; nothing where it still fits."""
        from imagesync.lock.lockfile.check import differences
        from imagesync.lock.lockfile.read import read_lock

        read = read_lock(path, platform="linux/amd64", environ=self.environ)
        prepared = self.prepare()
        return differences(read, prepared.plan, prepared.contents)

    def render(self, folder: Path) -> None:
        """Write the build context into *folder*, artifacts included."""
        from imagesync.image.context import write_context

        prepared = self.prepare(checked=True)
        with self.search.engine() as engine:
            base = self._base(engine, prepared)
        write_context(self._assembly(prepared, base).whole(), folder)

    def build(
        self,
        *,
        tags: tuple[str, ...] = (),
        no_cache: bool = False,
        push: bool | None = None,
        locked: Path | None = None,
    ) -> Image:
        """Return the image of the environment: found by its hash, or else built, checked and named.

        Parameters
        ----------
        locked
            A lock file to build from: no environment is looked at then, and nothing is solved.
        tags
            Further references that the image gets.
        no_cache
            Build anew, even if the image exists.
        push
            Have it in the registry that the repository names; as the settings say if not given. An image
            that is there already isn't pulled for that, unless it gets tags.
        """
        push = self.settings.push if push is None else push
        if push:
            from imagesync.pipeline.registry_images import require_registry

            require_registry(self.settings.repository, self.settings.origins.get("repository", "the default"))
        if no_cache:
            from imagesync.lock.resolvers.resolver_cache import clear_answers

            clear_answers(self.cache_folder() / ANSWERS)
        asked = Ahead(self.search.look)
        environment = None if locked else self._scan(asked, import_what_a_hit_needs)
        prepared = self.read_lock(locked) if locked else self.prepare(environment)
        lookup = self.search.look_for_base(asked.result())
        image = None if no_cache else self.search.find(prepared, lookup)
        if image is None and self.search.names_registry and (push or not no_cache):
            image = self.search.find_in_registry(prepared, lookup, tags=tags, no_cache=no_cache, push=push)
            if image is not None and push and not tags:
                return image
        if image is None:
            image = self._make(prepared, tags=tags, no_cache=no_cache)
        else:
            image = self._named(image, tags)
        if not push:
            return image
        with self.search.shelf() as shelf:
            return shelf.publish(image, tags=tags, rebuilt=no_cache)

    def published(self, image: Image) -> Image:
        """Return *image* with its digest, if the registry that its repository names has it.

        Nothing is pushed. A registry that doesn't answer is a warning.
        """
        from imagesync.errors import RegistryError

        if image.digest is not None or not self.search.names_registry:
            return image
        with self.search.shelf() as shelf:
            try:
                return shelf.find(image.environment_hash) or image
            except RegistryError as error:
                self.progress.line(f"warning: {error.message}")
                return image

    def _make(self, prepared: Prepared | LockedBuild, *, tags: tuple[str, ...], no_cache: bool) -> Image:
        from imagesync.image_layout import image_tag

        if isinstance(prepared, Prepared):
            self.refuse_contradictions(prepared)
            prepared = self.with_interpreter(prepared)
        else:
            prepared.report(self.progress)
        with self.search.engine() as engine:
            base = self._base(engine, prepared)
            digest = self.search.identify(prepared, base.digest)
            # Who comes second waits here, and then finds the image of who came first.
            with self.store.lock(f"build-{image_tag(digest)}", progress=self.progress):
                lookup = self.search.look()
                if not no_cache and (image := self.search.find(prepared, lookup)) is not None:
                    return self._named(image, tags)
                return self._assembly(prepared, base).build(
                    engine, lookup=lookup, look=self.search.look, tags=tags, no_cache=no_cache
                )

    def run(
        self, command: tuple[str, ...], *, variables: tuple[str, ...] = (), ports: tuple[str, ...] = ()
    ) -> int:
        """Run *command* in the environment's image, the working folder mounted, and return its exit code.

        Parameters
        ----------
        variables
            ``NAME=VALUE``, or ``NAME`` for the value that it has here.
        ports
            ``OUTSIDE:INSIDE`` or one number for both; published on loopback.
        """
        from imagesync.engine.endpoint import find_endpoint
        from imagesync.engine.interactive import ContainerRun, parse_ports, parse_variables, run_container

        request = ContainerRun(
            reference="",
            command=command,
            folder=Path.cwd(),
            environment=parse_variables(variables, self.environ),
            ports=parse_ports(ports),
        )
        image = self.build(push=False)
        return run_container(find_endpoint(self.environ), replace(request, reference=image.reference))

    def _named(self, image: Image, tags: tuple[str, ...]) -> Image:
        if tags:
            with self.search.engine() as engine:
                for tag in tags:
                    engine.tag(image.image_id, tag)
        return image

    def _scan(self, asked: Ahead[Lookup], import_more: Callable[[], None]) -> Environment:
        """Return what is installed; the engine is asked meanwhile, and modules are imported.

        Whatever is wrong with the environment is said before it matters what the engine answers.
        """

        def meanwhile() -> None:
            asked.start()
            import_more()

        return self.scan(meanwhile=meanwhile)

    def _prepare_lock(self, environment: Environment, asked: Ahead[Lookup]) -> tuple[Prepared, BaseImage]:
        """Return what a lock is made of.

        Of the base image it needs only what the one look-up says, if the engine has it. What is wrong with
        the plan is said first.
        """
        from imagesync.image.base import check_interpreter, find_base

        prepared = self.prepare(environment)
        self.refuse_contradictions(prepared, built=False)
        prepared = self.with_interpreter(prepared)
        base = find_base(asked.result(), settings=self.settings)
        if base is None:
            with self.search.engine() as engine:
                return prepared, self._base(engine, prepared)
        check_interpreter(base, prepared.plan)
        return prepared, base

    def _lock(self, prepared: Prepared, base: BaseImage) -> Lock:
        from imagesync.image.base import target_of

        return self.workshop(prepared).lock(
            prepared.plan, target=target_of(prepared.plan, base), contents=prepared.contents
        )

    def _base(self, engine: Engine, prepared: Prepared | LockedBuild) -> BaseImage:
        from imagesync.image.base import check_interpreter, ensure_base

        base = ensure_base(engine, settings=self.settings, progress=self.progress)
        check_interpreter(base, prepared.plan)
        return base

    def _assembly(self, prepared: Prepared | LockedBuild, base: BaseImage) -> Assembly:
        from imagesync.engine.endpoint import find_endpoint
        from imagesync.image.wheel_container import EngineContainer
        from imagesync.pipeline.image_builder import Assembly
        from imagesync.plan.checks.file_conflicts import conflicting_files, with_file_conflicts

        workshop = self.workshop(prepared)
        contested = conflicting_files(p.installed for p in prepared.plan.packages if p.installed is not None)
        return Assembly(
            plan=prepared.plan,
            contents=prepared.contents,
            base=base,
            settings=self.settings,
            workshop=replace(workshop, container=EngineContainer(find_endpoint(self.environ), base)),
            identify=lambda contents: self.search.identify(prepared, base.digest, contents),
            packages_hash=with_file_conflicts(
                prepared.identify_packages(self.settings, self.search.foundation(base.digest)), contested
            ),
            contested=contested,
            given=None if isinstance(prepared, Prepared) else prepared.fitted(base, workshop),
            created=int(self.environ.get("SOURCE_DATE_EPOCH") or 0),
        )


def open_session(
    *, python: Path | None = None, prefix: Path | None = None, quiet: bool = False, **settings: object
) -> Session:
    """Return a session for the active environment or another one, with the settings that hold here.

    Parameters
    ----------
    python, prefix
        The interpreter to ask, or the folder to read; neither for the active environment.
    quiet
        Whether progress stays silent; it goes to stderr otherwise.
    settings
        Fields of :class:`~imagesync.settings.Settings`; they win over variables and files.

    Raises
    ------
    UsageError
        A setting doesn't exist, or has a value that it can't have.
    """
    from imagesync.core.progress import make_progress
    from imagesync.settings import load_settings

    return Session(
        settings=load_settings(cwd=Path.cwd(), environ=os.environ, flags=settings),
        environ=dict(os.environ),
        progress=make_progress(quiet=quiet),
        python=python,
        prefix=prefix,
    )
