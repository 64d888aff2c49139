"""Everything that imagesync raises on purpose, as one tree.

::

    ImagesyncError
    +-- UsageError                   the command line or the settings are wrong (exit 2)
    +-- ScanError                    the environment can't be read at all
    +-- PlanError                    the plan can't be made
    |   +-- CriticalPackageMissing   a package that must be there is not
    |   +-- InconsistentEnvironment  installed packages contradict each other
    +-- LockError                    the plan can't be locked
    |   +-- UnsolvableError          no set of versions satisfies the plan
    |   +-- DeviationError           --strict, and a version would differ
    +-- StoreError                   the artifact store can't be used (disk full, permissions)
    +-- FetchError                   an artifact can't be had
    |   +-- HashMismatch             an artifact isn't what the lock says
    |   +-- ArtifactGone             an index lists it, and doesn't have it any more
    +-- WheelError                   a wheel can't be built, repacked, or used on the target
    |   +-- ModuleMissing            a build imports a module that its environment lacks
    +-- RenderError                  a template fails
    +-- LayoutError                  an image in a folder or an archive can't be read or written
    +-- MismatchError                a cluster doesn't run what the client runs
    +-- ClusterError                 a cluster can't be started or found, or has been lost
    +-- EngineError                  the engine answers with an error
        +-- EngineNotFound           no engine answers
        +-- ForeignPlatform          the engine doesn't run the image's platform
        +-- BaseImageError           the base image can't be had, or doesn't fit
        +-- BuildError               a build step failed
        +-- VerifyError              the built image isn't what the lock says
        +-- RegistryError            an image can't be pulled or pushed
"""

from __future__ import annotations


class ImagesyncError(Exception):
    """Something can't be done, and the message says what, to which package or file.

    Parameters
    ----------
    message
        What happened, in one or more sentences, free of credentials.
    hint
        What to do next; a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class UsageError(ImagesyncError):
    """The command line or the settings are wrong."""

    exit_code = 2


class ScanError(ImagesyncError):
    """The environment can't be read at all."""


class PlanError(ImagesyncError):
    """The plan can't be made."""


class CriticalPackageMissing(PlanError):
    """A package that the profile calls critical is not installed."""


class InconsistentEnvironment(PlanError):
    """Installed packages contradict each other's requirements."""


class LockError(ImagesyncError):
    """The plan can't be locked."""


class UnsolvableError(LockError):
    """No set of versions satisfies the plan."""


class DeviationError(LockError):
    """``--strict`` was asked for, and a version would differ from the local one."""


class StoreError(ImagesyncError):
    """The artifact store can't be used: the disk is full, or not writable."""


class FetchError(ImagesyncError):
    """An artifact can't be had from where the lock says it is."""


class HashMismatch(FetchError):
    """An artifact's content isn't what the lock says."""


class ArtifactGone(FetchError):
    """An index lists an artifact, and answers that it isn't there."""


class WheelError(ImagesyncError):
    """A wheel can't be built or repacked, or can't be used on the target."""


class ModuleMissing(WheelError):
    """A build imports a module that its isolated environment doesn't have.

    Parameters
    ----------
    module
        The name of the top-level module.
    """

    def __init__(self, message: str, *, hint: str | None = None, module: str) -> None:
        super().__init__(message, hint=hint)
        self.module = module


class RenderError(ImagesyncError):
    """A template fails."""


class LayoutError(ImagesyncError):
    """An image in a folder or an archive can't be read or written."""


class MismatchError(ImagesyncError):
    """A cluster doesn't run what the client runs, and that was asked for (``strict``)."""


class ClusterError(ImagesyncError):
    """A cluster can't be started, can't be found, or has been lost."""


class MismatchWarning(UserWarning):
    """A cluster doesn't run what the client runs."""


class EngineError(ImagesyncError):
    """The container engine answers with an error."""


class EngineNotFound(EngineError):
    """No container engine answers."""


class ForeignPlatform(EngineError):
    """The container engine doesn't run programs of the image's platform."""


class BaseImageError(EngineError):
    """The base image can't be had, or doesn't fit the environment."""


class BuildError(EngineError):
    """A step of the image build failed."""


class VerifyError(EngineError):
    """The image that was built isn't what the lock says."""


class RegistryError(EngineError):
    """An image can't be pulled from or pushed to a registry."""
