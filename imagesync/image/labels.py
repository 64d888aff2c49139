"""The labels of an image, which later builds and other commands read: the same whichever builder makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from imagesync.core.image_reference import split_reference
from imagesync.image_layout import Label
from imagesync.inventory.inventory import to_text as inventory_to_label
from imagesync.lock.layers import to_label
from imagesync.registry.manifest import BASE_DIGEST, BASE_NAME, REF_NAME

if TYPE_CHECKING:
    from imagesync.image_layout import BaseImage
    from imagesync.inventory.inventory import Inventory
    from imagesync.lock.lock import Lock

Part = Literal["whole", "packages", "environment"]


def image_labels(
    lock: Lock,
    base: BaseImage,
    *,
    environment_hash: str,
    input_hash: str,
    name: str,
    version: str,
    created: int,
    part: Part = "whole",
    file_conflicts: Mapping[str, str] | None = None,
    shared_conda_files: Mapping[str, tuple[str, ...]] | None = None,
    critical_imports: Sequence[str] = (),
    inventory: Inventory | None = None,
    own: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the labels of the image of *lock* on *base*.

    Parameters
    ----------
    environment_hash, input_hash
        ``sha256:<hex>``; those of the packages image for the part ``packages``.
    name
        The reference that the image is going to have.
    version
        Of imagesync.
    created
        Seconds since the epoch.
    part
        What is built: everything, the packages image, or what comes on top of it.
    file_conflicts, shared_conda_files
        Which files are installed locally that several packages have; ``None`` if it isn't known.
    critical_imports
        The modules whose imports are verified in the image.
    inventory
        The content of the image, or ``None``.
    own
        Labels of the user's own, which win over the titles and descriptions here.
    """
    labels = _identity(
        lock,
        base,
        environment_hash=environment_hash,
        input_hash=input_hash,
        name=name,
        version=version,
        created=created,
        part=part,
    )
    if part != "packages":
        labels |= _file_labels(file_conflicts, shared_conda_files)
        labels[Label.VERIFIED_IMPORTS] = " ".join(critical_imports)
    if inventory is not None:
        labels[Label.INVENTORY] = inventory_to_label(inventory)
    return {**labels, **own}


def _file_labels(
    file_conflicts: Mapping[str, str] | None, shared_conda_files: Mapping[str, tuple[str, ...]] | None
) -> dict[str, str]:
    labels = {}
    if file_conflicts is not None:
        labels[Label.FILE_CONFLICTS] = json.dumps(dict(file_conflicts), sort_keys=True)
    if shared_conda_files is not None:
        labels[Label.SHARED_CONDA_FILES] = json.dumps(dict(shared_conda_files), sort_keys=True)
    return labels


def _identity(
    lock: Lock,
    base: BaseImage,
    *,
    environment_hash: str,
    input_hash: str,
    name: str,
    version: str,
    created: int,
    part: Part,
) -> dict[str, str]:
    deviations = json.dumps([deviation.to_dict() for deviation in lock.deviations], sort_keys=True)
    if part == "packages":
        identity = {Label.PACKAGES_HASH: environment_hash, Label.PACKAGES_LOCK: to_label(lock)}
        identity[Label.PACKAGES_INPUT_HASH] = input_hash
    else:
        identity = {Label.ENVIRONMENT_HASH: environment_hash, Label.LOCK_DIGEST: lock.digest}
        identity |= {Label.INPUT_HASH: input_hash, Label.ARTIFACTS: lock.artifacts_digest}
        identity[Label.COMPILED] = " ".join(p.name for p in lock.packages if p.artifact.is_compiled)
        identity[Label.DEVIATIONS] = deviations
        identity[Label.REPACKED] = json.dumps(lock.repacked_to_list(), sort_keys=True)
    if part == "environment":
        # Replaces the inherited label, which is long and unused.
        identity[Label.PACKAGES_LOCK] = ""
    count = len(lock.packages) + len(lock.vendored) + len(lock.conda)
    _, tag = split_reference(name)
    timestamp = datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "org.opencontainers.image.title": "Python environment",
        "org.opencontainers.image.description": f"Python {lock.target.python_version} with {count} packages",
        # These replace the root image's version and name.
        "org.opencontainers.image.version": tag,
        REF_NAME: name,
        "org.opencontainers.image.created": timestamp,
        BASE_NAME: base.root,
        **({BASE_DIGEST: base.digest} if base.digest else {}),
        Label.VERSION: version,
        **identity,
    }
