"""The inputs of a build; their input hash needs neither an engine nor a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.image.built_image import Image
    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.pipeline.context import Context
    from imagesync.pipeline.environment_hash import BaseInputs
    from imagesync.pipeline.known_hashes import KnownHash
    from imagesync.plan.checks.system_libraries import SystemFiles
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Finding
    from imagesync.wheels.wheel_contents import WheelContent


class BuildInputs(Protocol):
    """The inputs of a build: an installed environment, or a lock file."""

    @property
    def context(self) -> Context:
        """Return the settings, environment variables, progress and store of the build."""

    @property
    def subject(self) -> str:
        """Return the subject of messages about the inputs: ``The environment``, or the lock file."""

    @property
    def plan(self) -> Plan:
        """Return the plan: what the image must hold."""

    @property
    def source_digests(self) -> Mapping[NormalizedName, str]:
        """Return the digest of what each vendored package's wheel is made from."""

    @property
    def shared_conda_files(self) -> Mapping[str, tuple[str, ...]] | None:
        """Return the files that several conda packages have, each with the package of the installed one.

        ``None`` if nothing says which are installed; see
        :func:`~imagesync.scan.conda.shared_files.shared_files`.
        """

    @property
    def file_conflicts(self) -> Mapping[str, str] | None:
        """Return the files that several packages have, each with the sha256 of the installed one.

        ``None`` if no installed files are known.
        """

    def input_hash(self, base: BaseInputs) -> str:
        """Return the hash of everything that decides the content of the image, ``sha256:<hex>``."""

    def packages_input_hash(self, base: BaseInputs) -> str:
        """Return the hash of everything that decides the content of the packages image, ``sha256:<hex>``."""

    def known_hash(
        self, base: BaseInputs, wheels: Mapping[NormalizedName, WheelContent] | None = None
    ) -> KnownHash | None:
        """Return the environment hash as far as no lock, no network and no build is needed for it.

        Parameters
        ----------
        base
            The inputs that all hashes cover.
        wheels
            What is in the wheels of local packages; by default what is remembered of them.
        """

    def locked_hash(
        self, lock: Lock, base: BaseInputs, wheels: Mapping[NormalizedName, WheelContent]
    ) -> KnownHash:
        """Return the environment hash of an image of *lock*.

        Parameters
        ----------
        lock
            The lock.
        base
            The inputs that all hashes cover.
        wheels
            What is in the wheels of local packages.
        """

    def with_sources(self, source_digests: Mapping[NormalizedName, str]) -> BuildInputs:
        """Return the inputs with other digests, where a build has put more files into its wheels."""

    def accepts(self, image: Image) -> bool:
        """Return True if *image*, of the right hash, also has what the environment hash doesn't cover."""

    @property
    def has_image_binaries(self) -> bool:
        """Return True if installed binaries run in the image, so that they say what it needs."""

    def system_findings(self, there: SystemFiles, base: str) -> tuple[Finding, ...]:
        """Return the findings about what packages need of the system and the base image lacks.

        Parameters
        ----------
        there
            The libraries and programs of the base image.
        base
            Its reference, for messages.
        """

    def checked(self) -> BuildInputs:
        """Return the inputs of a build that will take place: checked, warned about, and completed.

        Raises
        ------
        InconsistentEnvironment
            Installed packages contradict each other.
        """

    def artifact_sources(self, *, for_files: bool = False) -> ArtifactSources:
        """Return the sources of the artifacts.

        Parameters
        ----------
        for_files
            Whether only files are written, a lock or a build context, and no image is built.
        """

    def lock(self, base: BaseImage, sources: ArtifactSources) -> Lock:
        """Return the exact artifact of each package, for an image on *base*.

        Raises
        ------
        LockError
            There is no such lock.
        """
