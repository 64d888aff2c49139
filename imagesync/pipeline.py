"""The way of the data, from an environment to an image.

    scan -> plan -> lock -> fetch -> render -> build -> launch

Each step is a function in the folder of its name; this module says in which order, and what an
unchanged environment may skip. Modules are imported where they are used, because a build that hits
needs those of the first two steps only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.ahead import Ahead
from imagesync.environment_hash import Foundation, image_tag
from imagesync.errors import InconsistentEnvironment
from imagesync.plan.plan import Plan
from imagesync.prepared import Prepared
from imagesync.scan.environment import Environment, Finding
from imagesync.settings import Settings
from imagesync.ui.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.artifacts import Workshop
    from imagesync.assemble import Assembly
    from imagesync.build.base import BaseImage
    from imagesync.build.engine import Engine
    from imagesync.build.image import Image
    from imagesync.build.lookup import Lookup
    from imagesync.lock.conda.solver import CondaSolver
    from imagesync.lock.lock import Lock
    from imagesync.lock.lockfile.check import Moved
    from imagesync.lock.lockfile.frozen import Frozen
    from imagesync.locked import LockedBuild
    from imagesync.publish import Shelf
    from imagesync.store.store import Store


@dataclass(frozen=True)
class Session:
    """One environment, the settings that hold for it, and what the user's surroundings say.

    Parameters
    ----------
    environ
        Environment variables: of pip, of the engine, of proxies.
    python, prefix
        The interpreter to ask, or the folder to read; neither for the active environment.
    """

    settings: Settings = field(default_factory=Settings)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    progress: Progress = field(default_factory=SilentProgress, repr=False)
    python: Path | None = None
    prefix: Path | None = None

    @cached_property
    def store(self) -> Store:
        """Return the store of artifacts."""
        from imagesync.store.store import Store

        return Store(self._cache())

    def _cache(self) -> Path:
        from imagesync.store.root import default_root

        return self.settings.cache_dir or default_root(self.environ)

    def prepare(self) -> Prepared:
        """Return all that is known without an engine and without a network."""
        return self._prepare()

    def scan(self, *, meanwhile: Callable[[], None] | None = None) -> Environment:
        """Return what is installed.

        Parameters
        ----------
        meanwhile
            Called while the interpreter answers, where one is asked.
        """
        from imagesync.scan.scan import scan

        return scan(
            python=self.python,
            prefix=self.prefix,
            environ=self.environ,
            meanwhile=meanwhile,
            cache=self._cache,
        )

    def plan(self) -> Plan:
        """Return what the image must hold; contradictions between installed packages are findings."""
        from imagesync.plan.checks import check
        from imagesync.plan.consistency import inconsistencies

        environment = self.scan()
        plan = self._plan(environment)
        conflicts = tuple(conflict.to_finding() for conflict in inconsistencies(environment))
        loose = self._loose_code(environment)
        return replace(plan, findings=(*plan.findings, *check(plan, environment), *loose, *conflicts))

    def lock(self) -> Lock:
        """Return the exact artifact of each package."""
        prepared, base = self._prepare_lock()
        from imagesync.build.base import target_of

        return self._workshop(prepared).lock(
            prepared.plan, target=target_of(prepared.plan, base), contents=prepared.contents
        )

    def freeze(self) -> Frozen:
        """Return the lock with the files that others need beside it: wheels made here are made now."""
        from imagesync.lock.lockfile.frozen import freeze

        prepared, base = self._prepare_lock()
        assembly = self._assembly(prepared, base)
        return freeze(prepared.plan, assembly.lock(), assembly.workshop)

    def check_lock(self, path: Path) -> tuple[Moved, ...]:
        """Return what has moved here since the lock file at *path* was made; nothing where it still fits."""
        from imagesync.lock.lockfile.check import moved
        from imagesync.lock.lockfile.read import read_lock

        read = read_lock(path, platform="linux/amd64", environ=self.environ)
        prepared = self._prepare()
        return moved(read, prepared.plan, prepared.contents)

    def render(self, folder: Path) -> None:
        """Write the build context into *folder*, artifacts included."""
        from imagesync.render.context import write_context

        prepared = self._prepare(checked=True)
        with self._engine() as engine:
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
            from imagesync.publish import require_registry

            require_registry(self.settings.repository, self.settings.origins.get("repository", "the default"))
        if no_cache:
            from imagesync.lock.remembered import forget_answers

            forget_answers(self.store.root)
        prepared = self._read_lock(locked) if locked else self._prepare(meanwhile=_import_what_a_hit_needs)
        lookup = self._look_for_base(self._look())
        image = None if no_cache else self._find(prepared, lookup)
        if image is None and self._names_registry and (push or not no_cache):
            image = self._find_in_registry(prepared, lookup, tags=tags, no_cache=no_cache, push=push)
            if image is not None and push and not tags:
                return image
        if image is None:
            image = self._make(prepared, tags=tags, no_cache=no_cache)
        else:
            image = self._named(image, tags)
        if not push:
            return image
        with self._shelf() as shelf:
            return shelf.publish(image, tags=tags, rebuilt=no_cache)

    def published(self, image: Image) -> Image:
        """Return *image* with its digest, if the registry that its repository names has it.

        Nothing is pushed. A registry that doesn't answer is a warning.
        """
        from imagesync.errors import RegistryError

        if image.digest is not None or not self._names_registry:
            return image
        with self._shelf() as shelf:
            try:
                return shelf.find(image.environment_hash) or image
            except RegistryError as error:
                self.progress.line(f"warning: {error.message}")
                return image

    def _read_lock(self, path: Path) -> LockedBuild:
        from imagesync.code.code import Code
        from imagesync.locked import LockedBuild

        code = Code()
        if self.settings.code:
            from imagesync.code.collect import collect_code
            from imagesync.locked import own_interpreter

            # Whose modules they are isn't looked at: nothing is installed here that counts.
            code = collect_code(
                self.settings.code,
                max_size=self.settings.code_max_size,
                environment=Environment(own_interpreter(), ()),
                shipped=(),
                cache=self.store.root,
            )
        return LockedBuild(path, self.settings, self.environ, code)

    def _make(self, prepared: Prepared | LockedBuild, *, tags: tuple[str, ...], no_cache: bool) -> Image:
        if isinstance(prepared, Prepared):
            self._refuse_contradictions(prepared)
            prepared = self._with_interpreter(prepared)
        else:
            prepared.report(self.progress)
        with self._engine() as engine:
            base = self._base(engine, prepared)
            digest = self._identify(prepared, base.digest)
            # Who comes second waits here, and then finds the image of who came first.
            with self.store.lock(f"build-{image_tag(digest)}", progress=self.progress):
                lookup = self._look()
                if not no_cache and (image := self._find(prepared, lookup)) is not None:
                    return self._named(image, tags)
                return self._assembly(prepared, base).build(
                    engine, lookup=lookup, look=self._look, tags=tags, no_cache=no_cache
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
        from imagesync.build.endpoint import find_endpoint
        from imagesync.launch.container import ContainerRun, parse_ports, parse_variables, run_container

        request = ContainerRun(
            reference="",
            command=command,
            folder=Path.cwd(),
            environment=parse_variables(variables, self.environ),
            ports=parse_ports(ports),
        )
        image = self.build(push=False)
        return run_container(find_endpoint(self.environ), replace(request, reference=image.reference))

    def _plan(self, environment: Environment) -> Plan:
        from imagesync.plan.make import make_plan

        settings = self.settings
        if settings.channels or settings.add_conda or settings.python_source == "conda":
            from imagesync.plan.channels import with_channels

            environment = with_channels(environment, settings.channels, environ=self.environ)
        plan = make_plan(environment, settings=settings)
        if not self.settings.code:
            return plan
        from imagesync.code.collect import collect_code

        code = collect_code(
            self.settings.code,
            max_size=self.settings.code_max_size,
            environment=environment,
            shipped=[*(p.name for p in plan.packages), *(p.name for p in plan.provided)],
            cache=self.store.root,
        )
        return replace(plan, code=code, findings=plan.findings + code.findings)

    def _loose_code(self, environment: Environment) -> tuple[Finding, ...]:
        """Return what is importable here, belongs to no package, and doesn't go in."""
        from imagesync.code.detect import find_loose_code

        environ = self.environ if self.prefix is None else {}
        cwd = Path.cwd()
        found = find_loose_code(environment, environ=environ, cwd=cwd, code=self.settings.code)
        return tuple(loose.to_finding(cwd) for loose in found)

    def _prepare(self, *, checked: bool = False, meanwhile: Callable[[], None] | None = None) -> Prepared:
        from imagesync.wheels.contents import content_digests

        environment = self.scan(meanwhile=meanwhile)
        plan = self._plan(environment)
        prepared = Prepared(environment, plan, content_digests(plan, cache=self.store.root))
        if checked:
            self._refuse_contradictions(prepared)
            return self._with_interpreter(prepared)
        return prepared

    def _with_interpreter(self, prepared: Prepared) -> Prepared:
        """Return what is to be built, whose Python it gets decided; a hit needs no channel for that."""
        from imagesync.conda.python import with_conda_python
        from imagesync.lock.conda.channels import Channels

        plan = with_conda_python(
            prepared.plan,
            prepared.environment,
            settings=self.settings,
            environ=self.environ,
            open_channels=lambda channels: Channels(
                channels,
                given=self.settings.channels,
                prefix=Path(prepared.plan.python.prefix),
                environ=self.environ,
                store=self.store,
                progress=self.progress,
            ),
            cache=self.store.root,
            progress=self.progress,
        )
        return prepared if plan is prepared.plan else replace(prepared, plan=plan, hashed=prepared.plan)

    def _refuse_contradictions(self, prepared: Prepared, *, built: bool = True) -> None:
        """Stop where installed packages contradict each other, and say what else there is to know.

        Parameters
        ----------
        built
            Whether an image comes of it: what is said of files and of loose code has no part in a lock.
        """
        # Only here, and not in the plan: an image that is found was checked when it was built.
        from imagesync.plan.consistency import inconsistencies

        found: tuple[Finding, ...] = ()
        if built:
            from imagesync.plan.checks import check

            checked = check(prepared.plan, prepared.environment)
            found = (*checked, *self._loose_code(prepared.environment))
        for finding in (*prepared.plan.findings, *found):
            self.progress.line(f"{finding.severity.value}: {finding.message}")
        conflicts = inconsistencies(prepared.environment)
        if not conflicts or self.settings.allow_inconsistent:
            return
        remedies = dict.fromkeys(conflict.remedy for conflict in conflicts)
        raise InconsistentEnvironment(
            "The installed packages contradict each other:\n"
            + "\n".join(f"  {conflict.message}" for conflict in conflicts),
            hint="\n".join((*remedies, "Or build it as it is: --allow-inconsistent")),
        )

    def _look(self) -> Lookup:
        """Ask the engine, once, what it has."""
        from imagesync.build.endpoint import find_endpoint
        from imagesync.build.lookup import look_up

        settings = self.settings
        return look_up(find_endpoint(self.environ), base=settings.base, repository=settings.repository)

    def _find(self, prepared: Prepared | LockedBuild, lookup: Lookup) -> Image | None:
        from imagesync.build.image import image_of

        settings = self.settings
        if lookup.base_digest is None:
            return None
        digest = self._identify(prepared, lookup.base_digest)
        found = lookup.tagged(image_tag(digest))
        if found is None:
            return None
        image = image_of(found, repository=settings.repository, environment_hash=digest)
        return image if image is not None and self._as_installed(prepared, image) else None

    @property
    def _names_registry(self) -> bool:
        from imagesync.oci.reference import parse_reference

        return parse_reference(self.settings.repository).names_registry

    def _look_for_base(self, lookup: Lookup) -> Lookup:
        """Return *lookup* with the base's digest; its registry knows it where the engine has no base."""
        if lookup.base_digest is not None or not self._names_registry:
            return lookup
        with self._shelf() as shelf:
            return replace(lookup, base_digest=shelf.base_digest(self.settings.base))

    def _find_in_registry(
        self,
        prepared: Prepared | LockedBuild,
        lookup: Lookup,
        *,
        tags: tuple[str, ...],
        no_cache: bool,
        push: bool,
    ) -> Image | None:
        """Return what a colleague or a CI job has pushed; where nothing is, make sure that one may push."""
        from imagesync.errors import RegistryError

        with self._shelf() as shelf:
            try:
                root = lookup.base_digest
                image = None if root is None else shelf.find(self._identify(prepared, root))
                if image is not None and not no_cache and self._as_installed(prepared, image):
                    self.progress.line(f"The registry has it already: {image.digest}")
                    return image if push and not tags else shelf.fetch(image)
                if push:
                    shelf.check_push(tags)
            except RegistryError as error:
                if push:
                    raise
                self.progress.line(f"warning: {error.message} Building without it.")
        return None

    @contextlib.contextmanager
    def _shelf(self) -> Iterator[Shelf]:
        from imagesync.publish import Shelf

        with self._engine() as engine:
            yield Shelf(self.settings.repository, engine, self.progress)

    def _as_installed(self, prepared: Prepared | LockedBuild, image: Image) -> bool:
        """Return whether what *image* has of installed files is still what is installed.

        The environment hash can't say it: which packages no index has isn't known before the lock.
        """
        if not isinstance(prepared, Prepared):
            return True  # nothing installed has a part in it
        if image.contested:
            from imagesync.wheels.contested import are_here

            here = (package.installed for package in prepared.plan.packages if package.installed is not None)
            if not are_here(image.contested, here):
                return False
        if not image.repacked:
            return True
        from imagesync.wheels.installed import installed_digest

        installed = {package.name: package.installed for package in prepared.plan.packages}
        installed |= {package.name: package for package in prepared.plan.provided}
        trees = self.store.root / "trees"
        return all(
            installed_digest(installed.get(entry["name"]), cache=trees) == entry["content"]
            for entry in image.repacked
        )

    def _identify(
        self,
        prepared: Prepared | LockedBuild,
        root_digest: str,
        contents: Mapping[NormalizedName, str] | None = None,
    ) -> str:
        return prepared.identify(self.settings, self._foundation(root_digest), contents)

    def _foundation(self, root_digest: str) -> Foundation:
        """Return what hashes cover beside the plan."""
        from imagesync.build.base import base_hash
        from imagesync.render.templates import dockerfile_base, templates_digest

        return {
            "base_hash": base_hash(root_digest, dockerfile_base(), self.settings.apt),
            "templates_digest": templates_digest(self.settings.templates),
        }

    def _named(self, image: Image, tags: tuple[str, ...]) -> Image:
        if tags:
            with self._engine() as engine:
                for tag in tags:
                    engine.tag(image.image_id, tag)
        return image

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Engine]:
        from imagesync.build.endpoint import find_endpoint
        from imagesync.build.engine import Engine

        with Engine(find_endpoint(self.environ)) as engine:
            yield engine

    def _prepare_lock(self) -> tuple[Prepared, BaseImage]:
        """Return what a lock is made of.

        Of the base image it needs only what the one look-up says, if the engine has it. The engine is asked
        once there is a plan, while that is checked: what is wrong with the plan is said first.
        """
        from imagesync.build.base import check_interpreter, find_base

        prepared = self._prepare(meanwhile=_import_what_a_lock_needs)
        with Ahead(self._look) as lookup:
            self._refuse_contradictions(prepared, built=False)
            prepared = self._with_interpreter(prepared)
            base = find_base(lookup.result(), settings=self.settings)
        if base is None:
            with self._engine() as engine:
                return prepared, self._base(engine, prepared)
        check_interpreter(base, prepared.plan)
        return prepared, base

    def _base(self, engine: Engine, prepared: Prepared | LockedBuild) -> BaseImage:
        from imagesync.build.base import check_interpreter, ensure_base

        base = ensure_base(engine, settings=self.settings, progress=self.progress)
        check_interpreter(base, prepared.plan)
        return base

    def _workshop(self, prepared: Prepared | LockedBuild) -> Workshop:
        """Return where artifacts come from and go to; what needs a container can't be made there yet."""
        from imagesync.artifacts import open_workshop

        workshop = open_workshop(
            prepared.plan.python,
            resolver=self.settings.resolver,
            store=self.store,
            environ=self.environ,
            progress=self.progress,
            channels=prepared.plan.channels,
            given_channels=(
                self.settings.channels if isinstance(prepared, Prepared) else prepared.private_channels
            ),
            cuda=self.settings.cuda,
            provided=prepared.plan.provided,
        )
        if not isinstance(prepared, Prepared):
            workshop = replace(workshop, access=prepared.access(workshop.access))
        solver = self._conda_lock(workshop) if self.settings.solver == "conda-lock" else None
        return replace(workshop, no_isolation=self.settings.no_isolation, solver=solver)

    def _assembly(self, prepared: Prepared | LockedBuild, base: BaseImage) -> Assembly:
        from imagesync.assemble import Assembly
        from imagesync.build.endpoint import find_endpoint
        from imagesync.build.sandbox import EngineContainer
        from imagesync.wheels.contested import contested_files, with_contested

        workshop = self._workshop(prepared)
        contested = contested_files(p.installed for p in prepared.plan.packages if p.installed is not None)
        return Assembly(
            plan=prepared.plan,
            contents=prepared.contents,
            base=base,
            settings=self.settings,
            workshop=replace(workshop, container=EngineContainer(find_endpoint(self.environ), base)),
            identify=lambda contents: self._identify(prepared, base.digest, contents),
            packages_hash=with_contested(
                prepared.identify_packages(self.settings, self._foundation(base.digest)), contested
            ),
            contested=contested,
            given=None if isinstance(prepared, Prepared) else prepared.fitted(base, workshop),
            created=int(self.environ.get("SOURCE_DATE_EPOCH") or 0),
        )

    def _conda_lock(self, workshop: Workshop) -> CondaSolver | None:
        if workshop.channels is None:
            return None
        from imagesync.lock.conda.conda_lock import CondaLockSolver

        return CondaLockSolver(workshop.channels, self.environ, self.progress, self.settings.micromamba)


def _import_what_a_lock_needs() -> None:
    """Import, while the scanned interpreter starts, what a lock takes once it has answered."""
    import imagesync.artifacts
    import imagesync.build.base
    import imagesync.lock.make
    import imagesync.lock.remembered
    import imagesync.lock.uv
    import imagesync.plan.consistency
    import imagesync.plan.make
    import imagesync.wheels.contents  # noqa: F401


def _import_what_a_hit_needs() -> None:
    """Import, while the scanned interpreter starts, what is used anyway once it has answered."""
    import imagesync.build.image
    import imagesync.build.lookup
    import imagesync.plan.make
    import imagesync.plan.specifiers
    import imagesync.render.templates
    import imagesync.wheels.contents  # noqa: F401


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
    from imagesync.settings import load_settings
    from imagesync.ui.progress import make_progress

    return Session(
        settings=load_settings(cwd=Path.cwd(), environ=os.environ, flags=settings),
        environ=dict(os.environ),
        progress=make_progress(quiet=quiet),
        python=python,
        prefix=prefix,
    )
