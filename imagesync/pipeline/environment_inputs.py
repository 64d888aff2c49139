"""The inputs of a build from an installed environment: scanned, planned, and its sources digested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.background import BackgroundCall
from imagesync.errors import InconsistentEnvironment, UnsolvableError
from imagesync.pipeline.environment_hash import BaseInputs, environment_hash, packages_hash
from imagesync.pipeline.modified_packages import CODES as MODIFIED
from imagesync.pipeline.modified_packages import plan_modifications, refuse_modifications
from imagesync.plan.make_plan import make_plan
from imagesync.scan.modifications.compare import find_modifications
from imagesync.store.layout import PYTHONS, TREES

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.context import Context
    from imagesync.plan.checks.system_libraries import SystemFiles
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment, Finding


@dataclass(frozen=True)
class EnvironmentInputs:
    """An environment to build from; see :class:`~imagesync.pipeline.inputs.BuildInputs`.

    Parameters
    ----------
    source_digests
        For each vendored package the digest of what its wheel is made from.
    hashed_plan
        The plan that the environment hash covers, if *plan* has got its interpreter from a channel since.
    """

    context: Context
    environment: Environment
    plan: Plan
    source_digests: Mapping[NormalizedName, str]
    hashed_plan: Plan | None = None

    def environment_hash(
        self, base: BaseInputs, source_digests: Mapping[NormalizedName, str] | None = None
    ) -> str:
        """Return the environment hash, ``sha256:<hex>``; *source_digests* replace the known ones."""
        return environment_hash(
            self.hashed_plan or self.plan,
            source_digests=self.source_digests if source_digests is None else source_digests,
            base=base,
            settings=self.context.settings,
        )

    def packages_hash(self, base: BaseInputs) -> str:
        """Return the hash of the packages image, ``sha256:<hex>``."""
        return packages_hash(
            self.plan, indexes=self.environment.indexes, base=base, settings=self.context.settings
        )

    def is_current(self, image: Image) -> bool:
        """Return True if the installed files in *image* haven't changed since.

        The environment hash doesn't cover them: only the lock tells which packages are on no index.
        """
        installed = {package.name: package.installed for package in self.plan.packages}
        if image.file_conflicts:
            from imagesync.plan.checks.file_conflicts import are_installed

            packages = (package for package in installed.values() if package is not None)
            if not are_installed(image.file_conflicts, packages):
                return False
        if image.shared_conda_files:
            from imagesync.scan.conda.shared_files import shared_files

            names = {name for names in image.shared_conda_files.values() for name in names}
            records = [p.record for p in self.plan.conda if p.record is not None and p.name in names]
            if shared_files(records, self.plan.python) != image.shared_conda_files:
                return False
        if not image.repacked:
            return True
        from imagesync.lock.conda.locked_records import planned_distributions
        from imagesync.wheels.sources.source_digests import installed_digest

        planned = {
            package.name: package for package in (*self.plan.packages, *planned_distributions(self.plan))
        }
        return all(
            (package := planned.get(entry["name"])) is not None
            and installed_digest(package.installed, package.modification) == entry["content"]
            for entry in image.repacked
        )

    def checked(self, *, for_lock: bool = False) -> EnvironmentInputs:
        """Return the inputs with the image's interpreter decided, after a check of the environment.

        Only what isn't found goes through here: an image that exists was checked when it was built, and needs
        no channel's answer.

        Parameters
        ----------
        for_lock
            Whether only a lock is made: warnings about files and loose code don't concern it.

        Raises
        ------
        InconsistentEnvironment
            Installed packages contradict each other.
        """
        from imagesync.plan.checks.consistency import inconsistencies
        from imagesync.plan.checks.sources import unmet_requirements

        if for_lock:
            warnings: Iterable[Finding] = unmet_requirements(self.plan, self.environment)
        else:
            warnings = image_findings(self.plan, self.environment, self.context)
        for finding in (*self.plan.findings, *warnings):
            if finding.code in MODIFIED:
                continue  # reported with every plan
            self.context.progress.line(f"{finding.severity.value}: {finding.message}")
        refuse_modifications(self.plan, self.context.settings)
        conflicts = inconsistencies(self.environment)
        if conflicts and not self.context.settings.allow_inconsistent:
            remedies = dict.fromkeys(conflict.remedy for conflict in conflicts)
            raise InconsistentEnvironment(
                "The installed packages contradict each other:\n"
                + "\n".join(f"  {conflict.message}" for conflict in conflicts),
                hint="\n".join((*remedies, "Or build it as it is: --allow-inconsistent")),
            )
        return self._with_interpreter()

    def system_findings(self, there: SystemFiles, base: str) -> tuple[Finding, ...]:
        """Return the findings about what packages need of the system and the base image lacks."""
        return system_findings(self.plan, there, base, cache=self.context.cache_folder)

    def _with_interpreter(self) -> EnvironmentInputs:
        from imagesync.image.conda.conda_python import with_conda_python
        from imagesync.pipeline.artifact_sources import open_channels

        plan = with_conda_python(
            self.plan,
            self.environment,
            settings=self.context.settings,
            environ=self.context.environ,
            open_channels=lambda urls: open_channels(urls, self.plan.python, self.context),
            cache=self.context.cache_folder / PYTHONS,
            progress=self.context.progress,
        )
        return self if plan is self.plan else replace(self, plan=plan, hashed_plan=self.plan)

    def artifact_sources(self, *, for_lock: bool = False) -> ArtifactSources:
        """Return the sources of the artifacts; with *for_lock* only a lock is made, and no image."""
        from imagesync.pipeline.artifact_sources import open_artifact_sources

        return open_artifact_sources(self.plan, self.context, for_lock=for_lock)

    def lock(self, base: BaseImage, sources: ArtifactSources) -> Lock:
        """Return the exact artifact of each package; see :func:`~imagesync.lock.make_lock.make_lock`."""
        from imagesync.image.base import target_of
        from imagesync.lock.make_lock import make_lock

        target = target_of(self.plan, base)
        try:
            return make_lock(
                self.plan,
                target=target,
                source_digests=self.source_digests,
                resolver=sources.resolver,
                progress=self.context.progress,
                installed_digest=sources.installed_digests(target),
                on_silent=sources.build_indexes.leave_out,
                solver=sources.conda_solver(),
                record_distributions=sources.record_distributions(target),
                allow_inconsistent=self.context.settings.allow_inconsistent,
            )
        except UnsolvableError as error:
            raise sources.with_hint(error) from error.__cause__
        finally:
            sources.channels.close()


def environment_inputs(environment: Environment, context: Context) -> EnvironmentInputs:
    """Return the inputs of a build of *environment*.

    Raises
    ------
    PlanError, WheelError
        No image can be made of it, or a source can't be read.
    """
    plan = plan_environment(environment, context)
    for finding in plan.findings:
        if finding.code in MODIFIED:
            context.progress.line(f"{finding.severity.value}: {finding.message}")
    source_digests: Mapping[NormalizedName, str] = {}
    if any(package.vendored for package in plan.packages):
        from imagesync.wheels.sources.source_digests import digest_sources

        source_digests = digest_sources(plan, cache=context.cache_folder / TREES)
    return EnvironmentInputs(context, environment, plan, source_digests)


def plan_environment(environment: Environment, context: Context) -> Plan:
    """Return the plan of an image of *environment*, with loose code and changed packages.

    The installed files are compared with what their installers wrote while everything else is planned.
    """
    settings = context.settings
    if settings.channels or settings.add_conda or settings.python_source == "conda":
        from imagesync.plan.conda import with_channels

        environment = with_channels(environment, settings.channels, environ=context.environ)
    comparison = BackgroundCall(lambda: find_modifications(environment, cache=context.cache_folder / TREES))
    plan = _with_code(make_plan(environment, settings=settings), environment, context)
    return plan_modifications(plan, environment, comparison.result(), settings)


def _with_code(plan: Plan, environment: Environment, context: Context) -> Plan:
    settings = context.settings
    if not settings.code:
        return plan
    from imagesync.loose_code.collect import collect_code

    code = collect_code(
        settings.code,
        max_size=settings.code_max_size,
        environment=environment,
        shipped=[*(p.name for p in plan.packages), *(p.name for p in plan.provided)],
        cache=context.cache_folder,
    )
    return replace(plan, code=code, findings=plan.findings + code.findings)


def image_findings(plan: Plan, environment: Environment, context: Context) -> Iterable[Finding]:
    """Return the findings that concern an image: odd files of packages, and loose code that stays out."""
    from imagesync.loose_code.detect import find_loose_code
    from imagesync.plan.checks.file_conflicts import check_files

    cwd = Path.cwd()
    # PYTHONPATH belongs to this machine's interpreters, and a prefix may be another platform's.
    environ = context.environ if environment.python.executable else {}
    loose = find_loose_code(environment, environ=environ, cwd=cwd, code=context.settings.code)
    return (*check_files(plan, environment), *(folder.to_finding(cwd) for folder in loose))


def system_findings(plan: Plan, there: SystemFiles, base: str, *, cache: Path) -> tuple[Finding, ...]:
    """Return the findings about what packages of *plan* need of the system and the base image lacks.

    Parameters
    ----------
    there
        The libraries and programs of the base image.
    base
        Its reference, for messages.
    cache
        The folder of all caches.
    """
    from imagesync.plan.checks.system_libraries import check_system_files, local_system_files

    return check_system_files(plan, here=local_system_files(), there=there, base=base, cache=cache / TREES)


def remembered_system_findings(plan: Plan, context: Context) -> tuple[Finding, ...]:
    """Return the same findings without an engine; none if the base image hasn't been listed yet."""
    from imagesync.image.base_files import remembered_system_files

    settings, cache = context.settings, context.cache_folder
    there = remembered_system_files(settings.base, settings.apt, cache=cache)
    return () if there is None else system_findings(plan, there, settings.base, cache=cache)
