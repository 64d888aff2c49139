"""The two layers of a lock: packages that environments share, and the user's local packages.

The shared layer changes with the packages from indexes and channels, the local layer with every edit. The
shared layer is kept in a label of the image that was built from it, so that an edit asks no index.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.limits import LABEL, inflate
from imagesync.core.strict_json import load_json
from imagesync.lock.conda.locked_records import planned_distributions
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.plan.plan import Plan

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_FORMAT = 3


def shared_layer(lock: Lock) -> Lock:
    """Return *lock* without the user's local packages: packages from indexes, repacked ones included."""
    local = set(local_layer(lock).deviations)
    return replace(
        lock,
        vendored=lock.repacked,
        deviations=tuple(deviation for deviation in lock.deviations if deviation not in local),
    )


def local_layer(lock: Lock) -> Lock:
    """Return *lock* with the user's local packages alone."""
    local = tuple(package for package in lock.vendored if not package.repacked)
    names = {package.name for package in local}
    deviations = tuple(d for d in lock.deviations if d.name in names and d.manager == "pip")
    return replace(lock, packages=(), vendored=local, deviations=deviations, conda=(), channels=())


def local_packages(plan: Plan, digests: Mapping[NormalizedName, str]) -> tuple[VendoredPackage, ...]:
    """Return the user's local packages of *plan* as they are locked; no index is asked.

    *digests* has for each local package the digest of its sources.
    """
    local = (package for package in plan.packages if package.name in digests)
    return tuple(VendoredPackage(p.name, p.version, digests[p.name], p) for p in local)


def join_layers(shared: Lock, local: Lock) -> Lock:
    """Return the lock with both layers."""
    return replace(
        shared,
        vendored=tuple(sorted((*shared.vendored, *local.vendored), key=lambda package: package.name)),
        deviations=tuple(sorted((*shared.deviations, *local.deviations), key=lambda each: each.weight)),
    )


def to_label(shared: Lock) -> str:
    """Return the shared layer as the value of an image label: one line of ASCII, compressed."""
    document = {"format": _FORMAT, **shared.to_dict()}
    for entry in document["vendored"]:
        del entry["source"]  # may be a path of this machine
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(zlib.compress(canonical.encode(), 9)).decode()


def from_label(text: str, plan: Plan) -> Lock | None:
    """Return the shared layer of a label.

    Parameters
    ----------
    text
        The value that :func:`to_label` returned.
    plan
        The plan of the environment, which provides the planned packages.

    Returns
    -------
    Lock or None
        ``None`` if the label is damaged or of another format, or if *plan* lacks a package.
    """
    planned = {package.name: package for package in plan.packages}
    planned |= {package.name: package for package in planned_distributions(plan)}
    conda = {package.name: package for package in plan.conda}
    try:
        document = load_json(inflate(base64.b64decode(text, validate=True), most=LABEL))
        if document["format"] != _FORMAT:
            return None
        return Lock.from_dict(document, planned=planned, planned_conda=conda)
    except (binascii.Error, zlib.error, ValueError, LookupError, TypeError, AttributeError):
        return None
