"""The two parts of a lock: what other environments may share, and what is the user's own.

The first changes with what is installed from indexes; the second with every edit. The first is kept as
text beside what was built from it, so that an edit asks no index.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from packaging.utils import NormalizedName

from imagesync.core.names import Level
from imagesync.lock.conda.provided_distributions import planned_distribution
from imagesync.lock.lock import (
    Artifact,
    Deviation,
    Lock,
    LockedConda,
    LockedPackage,
    Target,
    VendoredPackage,
)
from imagesync.plan.plan import Plan, PlannedConda

_FORMAT = 2


def index_part(lock: Lock) -> Lock:
    """Return *lock* without the user's own packages: what is from indexes, or stands in for that."""
    own = set(own_part(lock).deviations)
    return replace(
        lock,
        vendored=lock.repacked,
        deviations=tuple(deviation for deviation in lock.deviations if deviation not in own),
    )


def own_part(lock: Lock) -> Lock:
    """Return *lock* with the user's own packages alone."""
    own = tuple(package for package in lock.vendored if not package.repacked)
    names = {package.name for package in own}
    deviations = tuple(d for d in lock.deviations if d.name in names and d.manager == "pip")
    return replace(lock, packages=(), vendored=own, deviations=deviations, conda=(), channels=())


def own_packages(plan: Plan, contents: Mapping[NormalizedName, str]) -> tuple[VendoredPackage, ...]:
    """Return the user's own packages of *plan* as a lock has them; no index is asked for that.

    Parameters
    ----------
    contents
        For each of them what its wheel is made from, as a digest.
    """
    own = (package for package in plan.packages if package.vendored)
    return tuple(VendoredPackage(p.name, p.version, contents[p.name], p) for p in own)


def join(index: Lock, own: Lock) -> Lock:
    """Return the lock that has both parts."""
    return replace(
        index,
        vendored=tuple(sorted((*index.vendored, *own.vendored), key=lambda package: package.name)),
        deviations=tuple(sorted((*index.deviations, *own.deviations), key=lambda each: each.weight)),
    )


def to_text(index: Lock) -> str:
    """Return the part that is shared as one line of ASCII: compressed, because URLs are long and many."""
    content = {
        "format": _FORMAT,
        "resolver": index.resolver,
        "target": asdict(index.target),
        "channels": index.channels,
        "conda": [_conda_fields(package) for package in index.conda],
        "packages": [[p.name, p.version, asdict(p.artifact)] for p in index.packages],
        "repacked": [[p.name, p.version, p.content, p.repacked] for p in index.vendored],
        "deviations": [deviation.to_dict() for deviation in index.deviations],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(zlib.compress(canonical.encode(), 9)).decode()


def from_text(text: str, plan: Plan) -> Lock | None:
    """Return what :func:`to_text` made into text; ``None`` where it isn't that, or *plan* lacks a package."""
    try:
        content = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
        return _lock(content, plan) if content["format"] == _FORMAT else None
    except (binascii.Error, zlib.error, ValueError, LookupError, TypeError):
        return None


def _conda_fields(package: LockedConda) -> dict[str, Any]:
    known = {field.name: getattr(package, field.name) for field in fields(package) if field.name != "planned"}
    return {**known, "artifact": asdict(package.artifact)}


def _lock(content: Mapping[str, Any], plan: Plan) -> Lock:
    planned = {package.name: package for package in plan.packages}
    planned |= {package.name: planned_distribution(package) for package in plan.provided}
    conda = {package.name: package for package in plan.conda}
    target = content["target"]
    return Lock(
        target=Target(**{**target, "glibc": tuple(target["glibc"])}),
        packages=tuple(
            LockedPackage(name, version, Artifact(**artifact))
            for name, version, artifact in content["packages"]
        ),
        vendored=tuple(
            VendoredPackage(name, version, digest, planned[name], repacked=why)
            for name, version, digest, why in content["repacked"]
        ),
        deviations=tuple(
            Deviation(**{**deviation, "level": Level(deviation["level"])})
            for deviation in content["deviations"]
        ),
        resolver=content["resolver"],
        conda=tuple(_locked_conda(known, conda) for known in content["conda"]),
        channels=tuple(content["channels"]),
    )


def _locked_conda(known: Mapping[str, Any], planned: Mapping[str, PlannedConda]) -> LockedConda:
    lists = {key: tuple(known[key]) for key in ("depends", "constrains", "distributions")}
    artifact = Artifact(**known["artifact"])
    return LockedConda(**{**known, **lists, "artifact": artifact}, planned=planned.get(known["name"]))
