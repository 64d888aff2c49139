"""The inputs of a build from a lock file: nothing is scanned, and nothing solved.

The input hash covers the file's bytes, and the sources of its local packages. With it the environment hash is
remembered, and so are the sources that a file names: a second build that finds its image doesn't parse it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.digests import sha256_of, sha256_of_json
from imagesync.core.names import Level, canonical_name
from imagesync.core.progress import Severity
from imagesync.errors import BaseImageError
from imagesync.image_layout import ImageOptions
from imagesync.pipeline.environment_hash import FORMAT_VERSION, BaseInputs, lock_content
from imagesync.pipeline.environment_plan import image_options
from imagesync.pipeline.known_hashes import KnownHash
from imagesync.pipeline.lock_file_sources import (
    recall_source_digests,
    recall_wheels,
    remember_sources,
    source_digests,
    sources_key,
    with_digests,
)
from imagesync.pipeline.target_environment import critical_imports, running_interpreter, target_interpreter
from imagesync.plan.loose_code import Code
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import Environment

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock, Target
    from imagesync.lock.lockfile.models import ReadLock, Selection
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.context import Context
    from imagesync.plan.checks.system_libraries import SystemFiles
    from imagesync.scan.environment import Finding
    from imagesync.wheels.wheel_contents import WheelContent


@dataclass(frozen=True)
class LockFileInputs:
    """A lock file to build from; see :class:`~imagesync.pipeline.inputs.BuildInputs`.

    Parameters
    ----------
    path
        The lock file.
    context
        The context of the command.
    code
        The loose code that goes into the image; it isn't part of the lock file.
    base
        Returns the base image, as far as it is known: its interpreter is the image's where the file has none.
    selection
        The part of the file to take; ``None`` for the project's dependencies.
    options
        What the settings say of the image besides its packages.
    """

    path: Path
    context: Context
    code: Code
    base: Callable[[], BaseImage]
    selection: Selection | None = None
    options: ImageOptions = field(default_factory=ImageOptions)

    @property
    def subject(self) -> str:
        """Return the lock file, as messages name it."""
        return f"The lock file {self.path}"

    @cached_property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` of the lock file, whatever ends its lines.

        Raises
        ------
        UsageError
            It can't be read.
        """
        try:
            content = self.path.read_bytes().replace(b"\r\n", b"\n")
        except OSError as error:
            from imagesync.lock.lockfile.models import unreadable

            raise unreadable(self.path, error) from error
        return sha256_of(content)

    @cached_property
    def lock_file(self) -> ReadLock:
        """Return the content of the lock file for the image's platform."""
        from imagesync.lock.lockfile.models import ReadRequest, Selection
        from imagesync.lock.lockfile.read import read_lock

        selection = self.selection or Selection()
        read = read_lock(
            ReadRequest(
                self.path, self._target_with_python, self.context.environ, self.context.platform, selection
            )
        )
        if self._may_have_sources:
            remember_sources(self.context.cache_folder, self._sources_key, read.lock.vendored)
        vendored = with_digests(read.lock.vendored, cache=self.context.cache_folder)
        return replace(read, lock=replace(read.lock, vendored=vendored))

    @cached_property
    def _target(self) -> Target:
        from imagesync.lock.lock import Target

        base = self.base()
        return Target(self.context.platform, base.python_version, base.glibc)

    def _target_with_python(self) -> Target:
        if not self._target.python_version:
            raise BaseImageError(
                f"{self.path} is read for the Python of the base image {self.base().root}, which has none.",
                hint="Name one that has it, as python:3.12-slim does, with --base.",
            )
        return self._target

    @property
    def _sources_key(self) -> str:
        """Return the digest of all that decides which source trees the lock file names for the image."""
        from imagesync.lock.lockfile.read import kind_of

        target = self.context.platform if kind_of(self.path) == "pixi" else self._target
        return sources_key(self.path, self.digest, self.selection, target)

    @property
    def source_digests(self) -> Mapping[NormalizedName, str]:
        """Return the digest of what each local package's wheel is made from, without reading a known file."""
        if self._may_have_sources and "lock_file" not in vars(self):
            known = recall_source_digests(self.context.cache_folder, self._sources_key)
            if known is not None:
                return known
        return source_digests(self.lock_file.lock.vendored)

    @property
    def shared_conda_files(self) -> Mapping[str, tuple[str, ...]] | None:
        """Return the files that several conda packages had where imagesync made the lock file."""
        return self.lock_file.custom_metadata.shared_conda_files

    @property
    def file_conflicts(self) -> None:
        """Return ``None``: no installed files are known."""

    @cached_property
    def plan(self) -> Plan:
        """Return the plan that holds what the lock file says."""
        from imagesync.lock.lockfile.lock_entries import REASON
        from imagesync.lock.lockfile.read import planned_packages

        lock, head = self.lock_file.lock, self.lock_file.custom_metadata.head
        version = self.lock_file.interpreter_version or self._target.python_version
        names = {*(p.name for p in lock.packages), *(p.name for p in lock.vendored)}
        names |= {name for package in lock.conda for name in package.distributions}
        names |= {canonical_name(package.name) for package in lock.conda}
        python = PlannedPackage(canonical_name("python"), version, Level.CRITICAL, "", REASON)
        return Plan(
            python=target_interpreter(version),
            packages=tuple(
                sorted((python, *planned_packages(self.lock_file)), key=lambda package: package.name)
            ),
            code=self.code,
            options=self.options,
            profile=head.get("profile", "none"),
            critical_imports=tuple(head.get("critical_imports", critical_imports(names))),
            strict=self.context.settings.strict,
            platform=self.context.platform,
            conda=tuple(
                PlannedConda(
                    package.name,
                    package.version,
                    package.build,
                    self.lock_file.custom_metadata.level("conda", package.name),
                    f"=={package.version}",
                    REASON,
                )
                for package in lock.conda
            ),
            channels=lock.channels,
            interpreter="conda" if any(p.name == "python" for p in lock.conda) else "base",
            apt=tuple(sorted(set(self.context.settings.apt))),
        )

    def input_hash(self, base: BaseInputs) -> str:
        """Return ``sha256:<hex>`` over the lock file and everything else that decides the image's content."""
        covered: dict[str, object] = {
            "locked": self.digest,
            "code": self.code.digest,
            "options": self.options.digest,
        }
        if self.selection:
            covered["selection"] = asdict(self.selection)
        if self._may_have_sources:
            covered["sources"] = dict(self.source_digests)
        return self._input_hash(covered, base)

    @property
    def _may_have_sources(self) -> bool:
        """Return True if the file may name source trees, whose digests aren't in it."""
        from imagesync.lock.lockfile.read import kind_of

        return kind_of(self.path) in ("uv", "pylock", "pixi")

    def packages_input_hash(self, base: BaseInputs) -> str:
        """Return ``sha256:<hex>`` over what the packages image holds: not the wheels beside the lock file."""
        from imagesync.lock.layers import shared_layer

        lock = self.lock_file.lock
        # Their sha256 will be known once they are fetched.
        unknown = [[p.name, p.artifact.url, p.md5] for p in lock.conda if not p.artifact.digest]
        unknown += [[name, *sorted(digests)] for name, digests in sorted(self.lock_file.hashes.items())]
        return self._input_hash({"packages": shared_layer(lock).digest, "unknown": unknown}, base)

    def _input_hash(self, covered: Mapping[str, object], base: BaseInputs) -> str:
        common = {
            "format": FORMAT_VERSION,
            "strict": self.context.settings.strict,
            "base": base.base_hash,
            "templates": base.templates_digest,
        }
        return sha256_of_json({**common, **covered})

    def known_hash(
        self, base: BaseInputs, wheels: Mapping[NormalizedName, WheelContent] | None = None
    ) -> KnownHash | None:
        """Return the environment hash of the parsed lock file, if that fits and names all it holds."""
        from imagesync.lock.lockfile.prepare import with_target

        target = self.lock_file.lock.target
        if self.plan.interpreter == "base":
            target = replace(target, python_version=base.python_version)
            if self.lock_file.interpreter_version and self.plan.python.minor != target.minor:
                return None  # the build says so
        if wheels is None:
            no_isolation, cache = self.context.settings.no_isolation, self.context.cache_folder
            vendored = self.lock_file.lock.vendored
            wheels = recall_wheels(vendored, self.plan, no_isolation=no_isolation, cache=cache)
        known = target.python_version and self.lock_file.lock.artifacts_digest
        if not known or not wheels.keys() >= set(self.source_digests):
            return None
        return self.locked_hash(with_target(self.lock_file, target), base, wheels)

    def locked_hash(
        self, lock: Lock, base: BaseInputs, wheels: Mapping[NormalizedName, WheelContent]
    ) -> KnownHash:
        """Return the environment hash of an image of *lock*."""
        content = lock_content(
            lock,
            wheels={name: content.digest for name, content in wheels.items()},
            code=self.code.digest,
            options=self.options.digest,
            base=base,
            only_interpreter=self._has_only_interpreter,
        )
        deviations = tuple(deviation.to_dict() for deviation in lock.deviations)
        artifacts = self.lock_file.lock.artifacts_digest or lock.artifacts_digest
        return KnownHash(content.digest, deviations, artifacts, self.plan.critical_imports)

    @property
    def _has_only_interpreter(self) -> bool:
        """Return True if only the interpreter of the locked environment is conda's."""
        metadata, conda = self.lock_file.custom_metadata, self.lock_file.lock.conda
        planned = {package.name for package in conda if "level" in metadata.package("conda", package.name)}
        return metadata.is_ours and planned == {"python"}

    def with_sources(self, source_digests: Mapping[NormalizedName, str]) -> LockFileInputs:
        """Return these inputs: the lock file has the digests of its wheels."""
        del source_digests
        return self

    def accepts(self, image: Image) -> bool:
        """Return True if *image* has the shared files of conda packages that the lock file names.

        An image may have been made from an environment in which those of another package are installed.
        """
        from imagesync.lock.lockfile.custom_metadata import SHARED_FILES

        if not image.shared_conda_files and SHARED_FILES.encode() not in self.path.read_bytes():
            return True  # without conda-lock, whose import takes a second
        return (image.shared_conda_files or {}) == (self.shared_conda_files or {})

    @property
    def has_image_binaries(self) -> bool:
        """Return ``False``: no installed files are known."""
        return False

    def system_findings(self, there: SystemFiles, base: str) -> tuple[Finding, ...]:
        """Return no findings: no installed files are known."""
        del there, base
        return ()

    def checked(self) -> LockFileInputs:
        """Return these inputs, after a line about what is taken of the file, if that isn't all of it."""
        from imagesync.lock.lockfile.read import describe_selection

        line = describe_selection(self.lock_file, self.selection)
        if line:
            self.context.progress.line(line)
        return self

    def artifact_sources(self, *, for_files: bool = False) -> ArtifactSources:
        """Return the sources of the artifacts, with the credentials of the URLs in the lock file."""
        from imagesync.pipeline.artifact_sources import open_artifact_sources, with_credentials

        private = self.lock_file.private
        archives = [url for url in private if url.endswith((".conda", ".tar.bz2"))]
        sources = open_artifact_sources(
            self.plan,
            self.context,
            private_channels=[url.rsplit("/", 2)[0] for url in archives],
            project=self.path.absolute().parent,
            for_files=for_files,
        )
        access = with_credentials(sources.access, [url for url in private if url not in archives])
        return replace(sources, access=access, is_locked=True)

    def lock(self, base: BaseImage, sources: ArtifactSources) -> Lock:
        """Return the lock of the file, checked against the base image.

        Raises
        ------
        LockError
            The lock doesn't fit the base image.
        FetchError
            Another tool wrote the lock file, and an archive that has to be read can't be fetched.
        """
        from imagesync.lock.lock import Target
        from imagesync.lock.lockfile.prepare import check_target, unasked_indexes, with_artifacts

        target = Target(self.context.platform, base.python_version, base.glibc)
        read = self.lock_file
        if read.hashes:
            for line in unasked_indexes(read, sources.resolver.indexes):
                self.context.progress.line(line, Severity.WARNING)
            read = replace(read, lock=with_artifacts(read, target, sources.resolver))
        lock = check_target(read, base, target)
        if self.lock_file.custom_metadata.is_ours or not lock.conda:
            return lock
        from imagesync.lock.conda.locked_records import refuse_duplicates
        from imagesync.lock.lockfile.prepare import enrich

        lock = enrich(lock, sources.channels)
        refuse_duplicates(lock.conda, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
        return lock


def lock_file_inputs(
    path: Path, context: Context, *, base: Callable[[], BaseImage], selection: Selection | None = None
) -> LockFileInputs:
    """Return the inputs of a build from the lock file at *path*; see :class:`LockFileInputs`."""
    settings = context.settings
    options, findings = image_options(context)
    for finding in findings:
        context.progress.line(finding.message, finding.severity)
    code = Code()
    if settings.code:
        from imagesync.loose_code.collect import collect_code

        code = collect_code(
            settings.code,
            max_size=settings.code_max_size,
            # No ownership check: there is no installed environment to check against.
            environment=Environment(running_interpreter(), ()),
            platform=context.platform,
            shipped=(),
            cache=context.cache_folder,
        )
    inputs = LockFileInputs(path, context, code, base, selection, options)
    _ = inputs.digest  # a file that can't be read ends the build before anything is asked
    return inputs
