"""The stages of the pipeline in their order, from an environment to an image: the Python API.

    scan -> plan -> lock -> fetch -> render -> build -> run

Scan, plan and lock have folders of their own; pipeline/, image/ and engine/ do the rest. Each stage makes one
frozen value from another. What an unchanged environment doesn't need is imported where it is used: a build
that finds its image stays fast.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.progress import Severity, SilentProgress
from imagesync.pipeline.context import Context
from imagesync.pipeline.engine_finder import EngineFinder, check_base_of_engine
from imagesync.pipeline.environment_inputs import EnvironmentInputs, environment_inputs
from imagesync.pipeline.environment_plan import (
    image_findings,
    plan_environment,
    remembered_system_findings,
)
from imagesync.scan.discovery import FoundEnvironment, discover, locate
from imagesync.scan.scan import scan_environment
from imagesync.store.layout import CONDA_RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesync.image.built_image import Image
    from imagesync.lock.lock import Lock
    from imagesync.lock.lockfile.differences import Difference
    from imagesync.lock.lockfile.models import Selection
    from imagesync.lock.lockfile.write import Bundle
    from imagesync.lock.manifest_files import Manifest
    from imagesync.pipeline.image_finder import ImageFinder
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.pipeline.verify_build import Verification
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment


@dataclass(frozen=True)
class Session:
    """One environment and the settings that apply to it; the methods are the stages.

    Parameters
    ----------
    context
        The settings, environment variables and progress.
    python, prefix
        The interpreter to ask, or the folder to read; by default the running interpreter.
    discovers
        Whether to look for an environment where neither is given, as commands do: the active one, or the
        project's (:func:`imagesync.scan.discovery.discover`).
    scanned
        What :meth:`scan` returns without a scan; ``None`` to scan.
    """

    context: Context
    python: Path | None = None
    prefix: Path | None = None
    discovers: bool = False
    scanned: Environment | None = field(default=None, repr=False)

    @cached_property
    def found(self) -> FoundEnvironment:
        """Return the path of the environment, and how it was found; warnings are reported once."""
        environ = self.context.environ
        if self.discovers:
            found = discover(python=self.python, prefix=self.prefix, environ=environ, cwd=Path.cwd())
        else:
            found = locate(python=self.python, prefix=self.prefix, environ=environ)
        for warning in found.warnings:
            self.context.progress.line(warning, Severity.WARNING)
        return found

    @cached_property
    def _reported(self) -> set[str]:
        return set()

    def scan(self) -> Environment:
        """Return the installed packages, and where each one came from; the environment is reported once."""
        if self.scanned is not None:
            return self.scanned
        context = self.context
        environment = scan_environment(
            self.found,
            environ=context.environ,
            cache=lambda: context.cache_folder / CONDA_RECORDS,
            progress=context.progress,
        )
        line = self.found.describe(environment.python)
        if line not in self._reported:
            self._reported.add(line)
            context.progress.line(line)
        return environment

    def for_platforms(self, *, scans: bool = True) -> tuple[Session, ...]:
        """Return a session for each platform that the settings name, in their order.

        Several share one scan, which is made now if *scans*.
        """
        contexts = self.context.for_platforms()
        if len(contexts) == 1:
            return (self,)
        scanned = self.scan() if scans else self.scanned
        return tuple(replace(self, context=context, scanned=scanned) for context in contexts)

    def on_engine(self) -> Session:
        """Return the session of the engine's own platform, of several ones; an error if it runs none."""
        return replace(self, context=self.context.on_engine())

    def plan(self) -> Plan:
        """Return the plan of the image; contradictions between installed packages are findings."""
        from imagesync.plan.checks.consistency import inconsistencies

        self.context.check_platforms()
        environment = self.scan()
        plan = plan_environment(environment, self.context)
        conflicts = (conflict.to_finding() for conflict in inconsistencies(environment))
        findings = image_findings(plan, environment, self.context)
        system = remembered_system_findings(plan, self.context)
        return replace(plan, findings=(*plan.findings, *findings, *system, *conflicts))

    def inputs(self) -> EnvironmentInputs:
        """Return the inputs of a build: the environment, its plan, and the digests of its local sources."""
        self.context.check_platforms()
        return environment_inputs(self.scan(), self.context)

    def _build_inputs(self, *, without_engine: bool = False) -> EnvironmentInputs:
        """Return the inputs with the origin of the image's Python, for which channels may be asked."""
        return environment_inputs(
            self.scan(), self.context, asks_channels=True, without_engine=without_engine
        )

    def lock(self) -> Lock:
        """Return the exact artifact of each package."""
        from imagesync.pipeline.builders import base_finder

        with base_finder(self.context) as finder:
            inputs = self._build_inputs().checked(for_lock=True)
            base = finder().base_to_lock_for(inputs.plan)
            return inputs.lock(base, inputs.artifact_sources(for_files=True))

    def freeze(self, *, with_pip: bool = False) -> Bundle:
        """Return the lock with the files that others need beside it; wheels of local packages are built.

        Parameters
        ----------
        with_pip
            Whether to add conda's pip, which tools of conda install pip's part with.
        """
        from imagesync.pipeline.builders import base_finder, open_builder
        from imagesync.pipeline.freeze import freeze

        with base_finder(self.context) as answering:
            inputs = self._build_inputs().checked(for_lock=True, for_files=True)
            finder = answering()
            builder = open_builder(finder, inputs, finder.base_to_lock_for(inputs.plan), for_files=True)
            return freeze(inputs.plan, builder.lock, builder.sources, with_pip=with_pip)

    def solve(self, manifest: Manifest, *, with_pip: bool = False) -> Bundle:
        """Return the lock of a manifest for the image; no environment is scanned.

        *with_pip* is as for :meth:`freeze`.
        """
        from imagesync.pipeline.builders import base_finder
        from imagesync.pipeline.manifest_lock import lock_manifest

        with base_finder(self.context) as finder:
            return lock_manifest(
                manifest, self.context, base=lambda: finder().base_to_read_for(), with_pip=with_pip
            )

    def check_lock(self, path: Path, selection: Selection | None = None) -> tuple[Difference, ...]:
        """Return the packages by which the environment differs from the lock file at *path*.

        *selection* is the part of the lock file that counts; by default the project's dependencies.
        """
        from imagesync.pipeline.lock_drift import lock_differences, read_to_compare

        self.context.check_platforms()
        environment = self.scan()
        lock_file = read_to_compare(
            path, self.context, python=lambda: environment.python.version, selection=selection
        )
        return lock_differences(lock_file, environment_inputs(environment, self.context))

    def warn_of_drift(self) -> None:
        """Report by which packages the environment differs from the lock file of the settings, if any."""
        path = self.context.settings.locked
        if path is not None:
            from imagesync.pipeline.lock_drift import warn_of_drift

            def compare() -> Iterator[Difference]:
                for each in self.for_platforms():
                    yield from each.check_lock(path)

            warn_of_drift(path, compare, self.context.progress)

    def render(self, folder: Path) -> None:
        """Write the build context into *folder*, artifacts included."""
        from imagesync.image.image_context import write_context
        from imagesync.pipeline.artifact_sources import check_conda_installer
        from imagesync.pipeline.engine_builder import EngineBuilder

        self.context.check_platforms()
        check_base_of_engine(self.context.settings)
        finder = EngineFinder(self.context)
        finder.query_in_background()
        inputs = self._build_inputs().checked()
        check_conda_installer(inputs.plan, self.context.settings)
        builder = EngineBuilder(inputs, finder.base_to_lock_for(inputs.plan), finder, for_files=True)
        write_context(builder.single_stage_context(standalone=True), folder)

    def build(
        self,
        *,
        tags: tuple[str, ...] = (),
        no_cache: bool = False,
        push: bool | None = None,
        locked: Path | None = None,
        selection: Selection | None = None,
        as_installed: bool = False,
        with_digest: bool = False,
        outputs: tuple[str, ...] = (),
    ) -> Image:
        """Return the image of this environment: found by its hash, or built, verified and tagged.

        Parameters
        ----------
        tags
            Further references that the image gets.
        no_cache
            Whether to build anew, even if the image exists.
        push
            Whether to push the image to the registry that the repository names; by default what the settings
            say. An image that is in the registry already is pulled only if it gets tags.
        locked
            A lock file to build from: no environment is scanned then, and nothing is solved. By default that
            of the settings.
        selection
            The part of the lock file to take; by default the project's dependencies.
        as_installed
            Whether to take this environment even if the settings name a lock file.
        with_digest
            Whether to ask the registry for the digest of an image that isn't pushed. A registry that doesn't
            answer is a warning.
        outputs
            Where else the image is put; see :func:`~imagesync.pipeline.outputs.parse_output`.
        """
        from imagesync.pipeline.open_requests import request_options, requested_image
        from imagesync.pipeline.writable_cache import writable_cache

        locked = locked or (None if as_installed else self.context.settings.locked)
        if selection:
            selection.require_file(locked)
        with writable_cache(self.context) as context:
            options = request_options(
                context,
                tags=tags,
                outputs=outputs,
                no_cache=no_cache,
                push=push,
                is_locked=locked is not None,
                with_digest=with_digest,
            )
            session = self if context is self.context else replace(self, context=context)
            sessions = session.for_platforms(scans=locked is None)
            targets = [(each.context, partial(each._inputs_of, locked, selection)) for each in sessions]
            return requested_image(targets, options)

    def verify(
        self, reference: str, *, locked: Path | None = None, selection: Selection | None = None
    ) -> Verification:
        """Build an image again without an engine, and return by what it differs from the one that is there.

        Parameters
        ----------
        reference
            Of a registry or the cache folder, or a location such as ``oci:DIR:TAG``.
        locked, selection
            As for :meth:`build`.
        """
        from imagesync.pipeline.verify_build import verify_build

        self.context.check_platforms()
        path = locked or self.context.settings.locked
        if selection:
            selection.require_file(path)

        def inputs_of(context: Context, finder: ImageFinder) -> BuildInputs:
            return replace(self, context=context)._inputs_of(path, selection, finder)

        return verify_build(reference, self.context, inputs_of)

    def _inputs_of(
        self, lock_file: Path | None, selection: Selection | None, finder: ImageFinder
    ) -> BuildInputs:
        if lock_file is None:
            from imagesync.pipeline.modified_packages import refuse_modifications

            inputs = self._build_inputs(without_engine=not isinstance(finder, EngineFinder))
            refuse_modifications(inputs.plan, self.context.settings)
            return inputs
        from imagesync.pipeline.lock_file_inputs import lock_file_inputs

        return lock_file_inputs(lock_file, self.context, base=finder.base_to_read_for, selection=selection)

    def run(
        self,
        command: tuple[str, ...],
        *,
        variables: tuple[str, ...] = (),
        ports: tuple[str, ...] = (),
        mounts: tuple[str, ...] = (),
        user: str = "",
        network: str = "",
        gpus: str = "",
        shm_size: str = "",
        tty: bool | None = None,
    ) -> int:
        """Run *command* in the environment's image, with this folder mounted, and return its exit code.

        Parameters
        ----------
        command
            The program and its arguments.
        variables
            ``NAME=VALUE``, or ``NAME`` for the value that it has here.
        ports
            ``OUTSIDE:INSIDE``, or one number for both; published on loopback.
        mounts
            Further mounts, as ``docker run --volume`` or ``--mount`` takes them.
        user, network, gpus, shm_size
            As the options of ``docker run``; by default the caller's ids, the engine's network, no GPUs, 1
            GiB.
        tty
            Whether to give the terminal to the command; by default if stdin and stdout are one.
        """
        from imagesync.engine import run_options
        from imagesync.engine.endpoint import find_endpoint
        from imagesync.engine.interactive import run_container, uses_terminal

        environ, folder = self.context.environ, Path.cwd()
        request = run_options.ContainerRun(
            reference="",
            command=command,
            folder=folder,
            environment=run_options.parse_variables(variables, environ),
            ports=run_options.parse_ports(ports),
            mounts=run_options.parse_mounts(mounts, folder=folder),
            user=run_options.check_user(user),
            network=network,
            gpus=gpus,
            shm_size=run_options.parse_size(shm_size) if shm_size else run_options.SHM_SIZE,
            tty=tty,
        )
        uses_terminal(request)
        image = self.on_engine().build(push=False, outputs=("docker",))
        return run_container(find_endpoint(environ), replace(request, reference=image.reference))


def open_session(
    *, python: Path | None = None, prefix: Path | None = None, quiet: bool = False, **settings: object
) -> Session:
    """Return a session of the running interpreter or another one, with the settings of the working folder.

    Parameters
    ----------
    python, prefix
        The interpreter to ask, or the folder to read; by default the interpreter that runs this.
    quiet
        Whether to report nothing; progress and warnings go to stderr otherwise.
    settings
        Fields of :class:`~imagesync.settings.model.Settings`; they override variables and files.

    Raises
    ------
    UsageError
        A setting doesn't exist, or doesn't take the value.
    """
    from imagesync.core.terminal import make_progress
    from imagesync.settings.load import load_settings

    environ = dict(os.environ)
    context = Context(
        settings=load_settings(cwd=Path.cwd(), environ=environ, flags=settings),
        environ=environ,
        progress=SilentProgress() if quiet else make_progress(),
    )
    return Session(context, python=python, prefix=prefix)
