"""Attach SBOM and provenance to an image in its registry, whichever builder made it."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from imagesync.core.image_reference import parse_reference
from imagesync.errors import RegistryError, UsageError
from imagesync.image.attestations import SBOM_TYPE, STATEMENT_TYPE, attestations, own_types
from imagesync.registry.artifacts import push_artifact

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagesync.image_layout import BaseImage
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.context import Context


def require_sbom() -> None:
    """Check, before a build, that an SBOM can be written.

    Raises
    ------
    UsageError
        The package for that isn't installed.
    """
    if find_spec("cyclonedx") is None:
        raise UsageError(
            "An SBOM needs the package cyclonedx-python-lib.",
            hint="Install it: pip install 'cyclonedx-python-lib>=11.5'",
        )


def attest(digest: str, lock_and_base: Callable[[], tuple[Lock, BaseImage]], *, context: Context) -> None:
    """Attach SBOM and provenance to an image in a registry, unless it has them.

    The image and its digest stay as they are.

    Parameters
    ----------
    digest
        ``repository@sha256:<hex>``.
    lock_and_base
        Returns the image's lock and its base image; called only where something is missing.
    context
        The context of the command.

    Raises
    ------
    RegistryError
        The registry refuses.
    """
    with context.open_repository(digest) as repository:
        found = repository.manifest(repository.wanted)
        if found is None:
            raise RegistryError(f"The registry has no {digest}.", hint="Push the image again.")
        subject, _ = found
        known = own_types(repository.referrers(subject.digest))
        if {SBOM_TYPE, STATEMENT_TYPE} <= known:
            return
        lock, base = lock_and_base()
        for artifact in attestations(
            lock,
            base,
            subject=subject,
            name=parse_reference(digest).name,
            version=version("imagesync"),
            created=context.source_date_epoch or 0,
        ):
            if artifact.descriptor.artifact_type not in known:
                push_artifact(artifact, repository, progress=context.progress)
