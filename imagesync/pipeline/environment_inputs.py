"""The inputs of a build from an installed environment: scanned, planned, and its sources digested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from imagesync.core.platforms import runs_on
from imagesync.errors import InconsistentEnvironment, UnsolvableError, WheelError
from imagesync.pipeline.environment_hash import (
    BaseInputs,
    EnvironmentContent,
    has_only_interpreter,
    lock_content,
    plan_content,
)
from imagesync.pipeline.environment_plan import (
    image_findings,
    plan_environment,
    report_always,
    report_if_not_found,
    system_findings,
    takes_own_python,
)
from imagesync.pipeline.input_hash import input_hash, packages_input_hash
from imagesync.pipeline.known_hashes import KnownHash
from imagesync.pipeline.modified_packages import refuse_modifications
from imagesync.store.layout import TREES

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.context import Context
    from imagesync.plan.checks.consistency import Conflict
    from imagesync.plan.checks.system_libraries import SystemFiles
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment, Finding, Package
    from imagesync.wheels.wheel_contents import WheelContent


@dataclass(frozen=True)
class EnvironmentInputs:
    """An environment to build from; see :class:`~imagesync.pipeline.inputs.BuildInputs`.

    Parameters
    ----------
    context
        The context of the command.
    environment
        The scanned environment.
    plan
        Its plan.
    source_digests
        For each vendored package the digest of what its wheel is made from.
    """

    context: Context
    environment: Environment
    plan: Plan
    source_digests: Mapping[NormalizedName, str]

    @property
    def subject(self) -> str:
        """Return the environment, as the subject of messages."""
        return "The environment"

    @cached_property
    def built_here(self) -> Mapping[str, str]:
        """Return the digest of the installed files of each index package that was built on this machine."""
        from imagesync.lock.built_here import was_built_here

        built = [p for p in self.plan.packages if not p.vendored and was_built_here(p.installed)]
        if not built:
            return {}
        from imagesync.wheels.sources.source_digests import installed_digest

        return {package.name: installed_digest(package.installed, package.modification) for package in built}

    def input_hash(self, base: BaseInputs) -> str:
        """Return the hash of everything that decides the content of the image, ``sha256:<hex>``."""
        return input_hash(
            self.plan,
            source_digests=self.source_digests,
            indexes=(*self.environment.indexes, self.environment.file_choice),
            built_here=self.built_here,
            base=base,
            settings=self.context.settings,
        )

    def packages_input_hash(self, base: BaseInputs) -> str:
        """Return the hash of everything that decides the content of the packages image, ``sha256:<hex>``."""
        return packages_input_hash(
            self.plan,
            indexes=(*self.environment.indexes, self.environment.file_choice),
            built_here=self.built_here,
            base=base,
            settings=self.context.settings,
        )

    def known_hash(
        self, base: BaseInputs, wheels: Mapping[NormalizedName, WheelContent] | None = None
    ) -> KnownHash | None:
        """Return the environment hash where the installed versions are the lock, and all wheels are known.

        ``None`` also where installed packages contradict each other and the user hasn't accepted that.
        """
        wheels = self._remembered_wheels() if wheels is None else wheels
        digests = {name: content.digest for name, content in wheels.items()}
        content = plan_content(self.plan, wheels=digests, modified=self.built_here, base=base)
        if content is None or self._refused_conflicts:
            return None
        deviations = self._deviations(content, wheels)
        return KnownHash(content.digest, deviations, imports=self.plan.critical_imports)

    def locked_hash(
        self, lock: Lock, base: BaseInputs, wheels: Mapping[NormalizedName, WheelContent]
    ) -> KnownHash:
        """Return the environment hash of an image of *lock*."""
        content = lock_content(
            lock,
            wheels={name: content.digest for name, content in wheels.items()},
            code=self.plan.code.digest,
            options=self.plan.options.digest,
            base=base,
            only_interpreter=has_only_interpreter(self.plan),
        )
        deviations = tuple(deviation.to_dict() for deviation in lock.deviations)
        return KnownHash(content.digest, deviations, imports=self.plan.critical_imports)

    def with_sources(self, source_digests: Mapping[NormalizedName, str]) -> EnvironmentInputs:
        """Return the inputs with other digests of sources."""
        return replace(self, source_digests={**self.source_digests, **source_digests})

    def _remembered_wheels(self) -> Mapping[NormalizedName, WheelContent]:
        if not self.source_digests:
            return {}
        from imagesync.wheels.wheel_contents import recall_contents

        return recall_contents(
            self.plan,
            self.source_digests,
            no_isolation=self.context.settings.no_isolation,
            cache=self.context.cache_folder,
        )

    def _deviations(
        self, content: EnvironmentContent, wheels: Mapping[NormalizedName, WheelContent]
    ) -> tuple[dict[str, Any], ...]:
        """Return the deviations of an image of *content*, where the lock changes no version."""
        from imagesync.lock.make_lock import modification_deviations, python_deviation
        from imagesync.lock.update_lock import version_deviation

        python = python_deviation(self.plan, content.interpreter[1])
        found = [*modification_deviations(self.plan), *([] if python is None else [python])]
        packages = {package.name: package for package in self.plan.packages}
        for name, wheel in wheels.items():
            package = packages[name]
            deviation = version_deviation(package, package.version, wheel.version)
            found += [] if deviation is None else [deviation]
        return tuple(deviation.to_dict() for deviation in found)

    @cached_property
    def _refused_conflicts(self) -> tuple[Conflict, ...]:
        """Return the contradictions between installed packages that the user hasn't accepted."""
        if self.context.settings.allow_inconsistent:
            return ()
        from imagesync.plan.checks.consistency import inconsistencies

        return tuple(inconsistencies(self.environment))

    def accepts(self, image: Image) -> bool:
        """Return True if the installed files in *image* haven't changed since.

        A scan doesn't tell which packages no index has, so the hash doesn't always cover their files.
        """
        if (
            self._is_compiled_instead(image)
            or not self._has_file_conflicts(image.file_conflicts)
            or not self._has_shared_conda_files(image.shared_conda_files)
        ):
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

    @cached_property
    def file_conflicts(self) -> Mapping[str, str]:
        """Return the files that several packages have, each with the sha256 of the installed one."""
        from imagesync.plan.checks.file_conflicts import conflicting_files

        return conflicting_files(self._installed)

    @property
    def _installed(self) -> Iterable[Package]:
        packages = (package.installed for package in self.plan.packages)
        return (package for package in packages if package is not None)

    def _has_file_conflicts(self, known: Mapping[str, str] | None) -> bool:
        """Return True if the files that several packages have are those that an image was built with.

        Unknown for images of lock files: they have the right ones if there are none.
        """
        if known is None:
            return not self.file_conflicts
        from imagesync.plan.checks.file_conflicts import are_installed

        return not known or are_installed(known, self._installed)

    def _has_shared_conda_files(self, known: Mapping[str, tuple[str, ...]] | None) -> bool:
        """Return True if the shared files of conda packages are those that an image was built with.

        Unknown for images of other tools' lock files: they have the right ones if there are none.
        """
        records = [package.record for package in self.plan.conda if package.record is not None]
        if not records or known == {}:
            return True
        from imagesync.scan.conda.shared_files import shared_files

        names = {name for names in (known or {}).values() for name in names}
        concerned = [record for record in records if known is None or record.name in names]
        return shared_files(concerned, self.plan.python) == (known or {})

    @cached_property
    def shared_conda_files(self) -> Mapping[str, tuple[str, ...]]:
        """Return the files that several conda packages have, each with the package of the installed one."""
        from imagesync.scan.conda.shared_files import shared_files

        records = (package.record for package in self.plan.conda)
        return shared_files((record for record in records if record is not None), self.plan.python)

    def _is_compiled_instead(self, image: Image) -> bool:
        """Return True if *image* has a compiled wheel of a package that is pure Python here."""
        if not image.compiled:
            return False
        from imagesync.lock.built_here import is_pure

        names = frozenset(image.compiled)
        compiled = (p.installed for p in self.plan.packages if p.name in names and not p.vendored)
        return any(package is not None and bool(package.tags) and is_pure(package) for package in compiled)

    def checked(self, *, for_lock: bool = False, for_files: bool = False) -> EnvironmentInputs:
        """Return the inputs after a check of the environment, of which findings are reported.

        Only what isn't found goes through here: the environment of an image that exists was checked before.

        Parameters
        ----------
        for_lock
            Whether only a lock is made: warnings about files and loose code don't concern it.
        for_files
            Whether wheels are made for it, too.

        Raises
        ------
        InconsistentEnvironment
            Installed packages contradict each other.
        WheelError
            A wheel can't be made for the image's platform.
        """
        from imagesync.pipeline.wheel_container import missing_container
        from imagesync.plan.checks.sources import unmet_requirements

        # What needs a build back-end is left out of the lock of a folder.
        builds = for_files and self.plan.python.executable
        if builds and (finding := next(missing_container(self.plan, self.context), None)):
            raise WheelError(finding.message, hint=finding.hint)
        if for_lock:
            warnings: Iterable[Finding] = (
                *missing_container(self.plan, self.context),
                *unmet_requirements(self.plan, self.environment),
            )
        else:
            warnings = image_findings(self.plan, self.environment, self.context)
        report_if_not_found(self.plan, warnings, self.context.progress)
        refuse_modifications(self.plan, self.context.settings)
        if conflicts := self._refused_conflicts:
            remedies = dict.fromkeys(conflict.remedy for conflict in conflicts)
            raise InconsistentEnvironment(
                "The installed packages contradict each other:\n"
                + "\n".join(f"  {conflict.message}" for conflict in conflicts),
                hint="\n".join((*remedies, "Or build it as it is: --allow-inconsistent")),
            )
        if self.plan.interpreter == "conda" and has_only_interpreter(self.plan):
            self.context.progress.line(
                f"Python {self.plan.python.version} comes from {self.plan.channels[0]}"
                ' (python = "base" for the base\'s)'
            )
        return self

    @property
    def has_image_binaries(self) -> bool:
        """Return True if installed binaries run in the image, so that they say what it needs."""
        python = self.plan.python
        return runs_on(self.plan.platform, local=python.platform, libc=python.libc)

    def system_findings(self, there: SystemFiles, base: str) -> tuple[Finding, ...]:
        """Return the findings about what packages need of the system and the base image lacks."""
        return system_findings(self.plan, there, base, cache=self.context.cache_folder)

    def artifact_sources(self, *, for_files: bool = False) -> ArtifactSources:
        """Return the sources of the artifacts; with *for_files* no image is built."""
        from imagesync.pipeline.artifact_sources import open_artifact_sources

        return open_artifact_sources(self.plan, self.context, for_files=for_files)

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


def environment_inputs(
    environment: Environment,
    context: Context,
    *,
    asks_channels: bool = False,
    without_engine: bool = False,
) -> EnvironmentInputs:
    """Return the inputs of a build of *environment*.

    Parameters
    ----------
    environment
        The scanned environment.
    context
        The context of the command.
    asks_channels
        As in :func:`~imagesync.pipeline.environment_plan.plan_environment`.
    without_engine
        Whether they are those of an image that no engine builds, which may have the environment's own Python.

    Raises
    ------
    PlanError, WheelError
        No image can be made of it, or a source can't be read.
    """
    asks_channels = asks_channels and not (without_engine and takes_own_python(environment, context.settings))
    plan = plan_environment(environment, context, asks_channels=asks_channels)
    report_always(plan, context.progress)
    source_digests: Mapping[NormalizedName, str] = {}
    if any(package.vendored for package in plan.packages):
        from imagesync.wheels.sources.source_digests import digest_sources
        from imagesync.wheels.wheel_contents import first_sources

        cache = context.cache_folder
        source_digests = digest_sources(plan, cache=cache / TREES)
        no_isolation = context.settings.no_isolation
        source_digests = first_sources(plan, source_digests, no_isolation=no_isolation, cache=cache)
    return EnvironmentInputs(context, environment, plan, source_digests)


def planned_without_engine(inputs: EnvironmentInputs) -> EnvironmentInputs:
    """Return *inputs* that were planned for an engine's image, as they are for one that no engine builds."""
    if not takes_own_python(inputs.environment, inputs.context.settings):
        return inputs
    return replace(inputs, plan=plan_environment(inputs.environment, inputs.context))
