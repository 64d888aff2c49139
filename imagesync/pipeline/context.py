"""What a command goes by: settings, variables, an environment; and what is read from these alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import InconsistentEnvironment
from imagesync.pipeline.inputs import Prepared
from imagesync.scan.environment import Environment, Finding
from imagesync.settings import Settings
from imagesync.store.layout import CONDA_RECORDS, PYTHONS, TREES, default_cache_dir

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.conda.solver import CondaSolver
    from imagesync.pipeline.artifact_sources import Workshop
    from imagesync.pipeline.lock_file_inputs import LockedBuild
    from imagesync.plan.plan import Plan
    from imagesync.store.store import Store


@dataclass(frozen=True)
class Surroundings:
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

        return Store(self.cache_folder())

    def cache_folder(self) -> Path:
        """Return the folder that the store and what is remembered lie in."""
        return self.settings.cache_dir or default_cache_dir(self.environ)

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
            cache=lambda: self.cache_folder() / CONDA_RECORDS,
        )

    def plan_of(self, environment: Environment) -> Plan:
        """Return what the image must hold for *environment*, loose code included."""
        from imagesync.plan.make import make_plan

        settings = self.settings
        if settings.channels or settings.add_conda or settings.python_source == "conda":
            from imagesync.plan.channels import with_channels

            environment = with_channels(environment, settings.channels, environ=self.environ)
        plan = make_plan(environment, settings=settings)
        if not self.settings.code:
            return plan
        from imagesync.loose_code.collect import collect_code

        code = collect_code(
            self.settings.code,
            max_size=self.settings.code_max_size,
            environment=environment,
            shipped=[*(p.name for p in plan.packages), *(p.name for p in plan.provided)],
            cache=self.cache_folder(),
        )
        return replace(plan, code=code, findings=plan.findings + code.findings)

    def loose_code(self, environment: Environment) -> tuple[Finding, ...]:
        """Return what is importable here, belongs to no package, and doesn't go in."""
        from imagesync.loose_code.detect import find_loose_code

        environ = self.environ if self.prefix is None else {}
        cwd = Path.cwd()
        found = find_loose_code(environment, environ=environ, cwd=cwd, code=self.settings.code)
        return tuple(loose.to_finding(cwd) for loose in found)

    def prepare(self, environment: Environment | None = None, *, checked: bool = False) -> Prepared:
        """Return all that is known without an engine and without a network.

        Parameters
        ----------
        environment
            What was scanned already.
        checked
            Stop where installed packages contradict each other, and decide whose Python the image gets.
        """
        environment = environment or self.scan()
        plan = self.plan_of(environment)
        contents: Mapping[NormalizedName, str] = {}
        if any(package.vendored for package in plan.packages):
            from imagesync.wheels.source_digests import content_digests

            contents = content_digests(plan, cache=self.cache_folder() / TREES)
        prepared = Prepared(environment, plan, contents)
        if checked:
            self.refuse_contradictions(prepared)
            return self.with_interpreter(prepared)
        return prepared

    def with_interpreter(self, prepared: Prepared) -> Prepared:
        """Return what is to be built, whose Python it gets decided; a hit needs no channel for that."""
        from imagesync.image.conda.conda_python import with_conda_python
        from imagesync.lock.conda.channels import Channels

        plan = with_conda_python(
            prepared.plan,
            prepared.environment,
            settings=self.settings,
            environ=self.environ,
            open_channels=lambda channels: Channels(
                channels,
                configured=self.settings.channels,
                prefix=Path(prepared.plan.python.prefix),
                environ=self.environ,
                store=self.store,
                progress=self.progress,
            ),
            cache=self.store.root / PYTHONS,
            progress=self.progress,
        )
        return prepared if plan is prepared.plan else replace(prepared, plan=plan, hashed=prepared.plan)

    def refuse_contradictions(self, prepared: Prepared, *, built: bool = True) -> None:
        """Stop where installed packages contradict each other, and say what else there is to know.

        Parameters
        ----------
        built
            Whether an image comes of it: what is said of files and of loose code has no part in a lock.
        """
        # Only here, and not in the plan: an image that is found was checked when it was built.
        from imagesync.plan.checks.consistency import inconsistencies

        found: tuple[Finding, ...] = ()
        if built:
            from imagesync.plan.checks.file_conflicts import check_files

            checked = check_files(prepared.plan, prepared.environment)
            found = (*checked, *self.loose_code(prepared.environment))
        self.remark(remarks(prepared.plan.findings + found))
        conflicts = inconsistencies(prepared.environment)
        if not conflicts or self.settings.allow_inconsistent:
            return
        remedies = dict.fromkeys(conflict.remedy for conflict in conflicts)
        raise InconsistentEnvironment(
            "The installed packages contradict each other:\n"
            + "\n".join(f"  {conflict.message}" for conflict in conflicts),
            hint="\n".join((*remedies, "Or build it as it is: --allow-inconsistent")),
        )

    def remark(self, lines: Iterable[str]) -> None:
        """Say *lines*, which stop nothing."""
        for line in lines:
            self.progress.line(line)

    def read_lock(self, path: Path) -> LockedBuild:
        """Return a lock file in the place of an environment."""
        from imagesync.pipeline.lock_file_inputs import LockedBuild
        from imagesync.plan.loose_code import Code

        code = Code()
        if self.settings.code:
            from imagesync.loose_code.collect import collect_code
            from imagesync.pipeline.lock_file_inputs import own_interpreter

            # Whose modules they are isn't looked at: nothing is installed here that counts.
            code = collect_code(
                self.settings.code,
                max_size=self.settings.code_max_size,
                environment=Environment(own_interpreter(), ()),
                shipped=(),
                cache=self.cache_folder(),
            )
        return LockedBuild(path, self.settings, self.environ, code)

    def workshop(self, prepared: Prepared | LockedBuild) -> Workshop:
        """Return where artifacts come from and go to; what needs a container can't be made there yet."""
        from imagesync.pipeline.artifact_sources import open_workshop
        from imagesync.plan.dependencies import externally_provided

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
            externally_provided=externally_provided(prepared.plan),
            pins=_pins(prepared.plan),
        )
        if not isinstance(prepared, Prepared):
            workshop = replace(workshop, access=prepared.access(workshop.access), locked=True)
        solver = self._conda_lock(workshop) if self.settings.solver == "conda-lock" else None
        return replace(
            workshop,
            no_isolation=self.settings.no_isolation,
            solver=solver,
            allow_inconsistent=self.settings.allow_inconsistent,
        )

    def _conda_lock(self, workshop: Workshop) -> CondaSolver | None:
        if workshop.channels is None:
            return None
        from imagesync.lock.conda.conda_lock import CondaLockSolver

        return CondaLockSolver(workshop.channels, self.environ, self.progress, self.settings.micromamba)


def remarks(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return what is said of *findings* before something is made, a line each."""
    return tuple(f"{finding.severity.value}: {finding.message}" for finding in findings)


def import_what_a_lock_needs() -> None:
    """Import, while the scanned interpreter starts, what a lock takes once it has answered."""
    import imagesync.image.base
    import imagesync.lock.make
    import imagesync.lock.resolvers.resolver_cache
    import imagesync.lock.resolvers.uv
    import imagesync.pipeline.artifact_sources
    import imagesync.plan.checks.consistency
    import imagesync.plan.make  # noqa: F401


def import_what_a_hit_needs() -> None:
    """Import, while the scanned interpreter starts, what is used anyway once it has answered."""
    import imagesync.engine.lookup
    import imagesync.image.image
    import imagesync.image.templates
    import imagesync.plan.make
    import imagesync.plan.specifiers  # noqa: F401


def _pins(plan: Plan) -> tuple[str, ...]:
    if not plan.pinned:
        return ()
    from imagesync.plan.match_specs import pins_of

    return pins_of(plan)
