"""The environment hash: one digest over everything that decides what an image holds.

It is known after planning, before anything is resolved: that makes the build of an unchanged environment
fast. It covers neither times, nor paths of this machine, nor the order of anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from imagesync.core.names import canonical_pattern, matches
from imagesync.core.platforms import runs_on
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.settings.model import Settings

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

# To be raised when the same inputs give another image than before, so that no older image is found for them.
FORMAT_VERSION = 2
PACKAGES_FORMAT_VERSION = 2


class BaseInputs(NamedTuple):
    """What all hashes cover besides the plan and the settings.

    Parameters
    ----------
    base_hash
        The hash of the base image's inputs: root image digest, ``Dockerfile.base``, apt packages.
    templates_digest
        ``sha256:<hex>`` over the templates, the user's own included.
    """

    base_hash: str
    templates_digest: str


def environment_hash(
    plan: Plan,
    *,
    source_digests: Mapping[NormalizedName, str],
    base: BaseInputs,
    settings: Settings,
) -> str:
    """Return ``sha256:<hex>`` over the plan and everything else that decides what the image holds.

    Parameters
    ----------
    source_digests
        For each vendored package the digest of what its wheel is made from.
    """
    covered = {
        "format": FORMAT_VERSION,
        "platform": plan.platform,
        "python": [plan.python.implementation, plan.python.version],
        "packages": sorted(_covered_package(package, source_digests) for package in plan.packages),
        **_covered_conda(plan, settings),
        "modified": plan.modified,
        "code": plan.code.digest,
        "base": base.base_hash,
        "templates": base.templates_digest,
        # Each changes what an image may hold, so an image built without them isn't the right one.
        "strict": plan.strict,
        "allow_inconsistent": settings.allow_inconsistent,
        "resolver": settings.resolver,
    }
    patterns = [canonical_pattern(entry) for entry in settings.no_isolation]
    unisolated = sorted(
        package.name for package in plan.packages if package.vendored and matches(patterns, package.name)
    )
    if unisolated:
        # Otherwise an image with the wheels of isolated builds would be found.
        covered["no_isolation"] = unisolated
    if settings.no_build:
        covered["no_build"] = True  # installed files may replace sdists
    return digest_of(covered)


def packages_hash(plan: Plan, *, indexes: Sequence[str], base: BaseInputs, settings: Settings) -> str:
    """Return ``sha256:<hex>`` over everything that decides what the packages image of *plan* holds.

    It doesn't change with the user's own packages, except with their requirements where these are resolved.

    Parameters
    ----------
    indexes
        The URLs of the user's indexes, without credentials: projects share this image, and another index may
        have other files of the same version.
    """
    local = plan.python
    indexed = [package for package in plan.packages if not package.vendored]
    vendored = [package for package in plan.packages if package.vendored]
    shipped = {f"pip/{package.name}" for package in vendored}
    covered = {
        "format": PACKAGES_FORMAT_VERSION,
        "platform": plan.platform,
        "python": [local.implementation, local.version, local.platform, local.libc],
        "packages": sorted(_covered_package(package, {}) for package in indexed),
        **_covered_conda(plan, settings),
        "modified": {key: digest for key, digest in plan.modified.items() if key not in shipped},
        "channels": list(plan.channels),
        "indexes": list(indexes),
        "own": sorted([package.name, package.version, *_requires(package)] for package in vendored)
        if _is_resolved(plan, indexed)
        else [],
        "base": base.base_hash,
        "templates": base.templates_digest,
        "strict": plan.strict,
        "resolver": settings.resolver,
    }
    if settings.no_build:
        covered["no_build"] = True
    return digest_of(covered)


def digest_of(covered: Mapping[str, object]) -> str:
    """Return ``sha256:<hex>`` over the canonical JSON form of *covered*."""
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _is_resolved(plan: Plan, indexed: Sequence[PlannedPackage]) -> bool:
    """Return whether a resolver chooses some of the locked versions."""
    additions = (p for p in indexed if p.name != "python" and (p.installed is None or p.extras))
    return _is_elsewhere(plan) or next(additions, None) is not None


def _is_elsewhere(plan: Plan) -> bool:
    """Return whether the scanned environment is for another platform than the image."""
    return not runs_on(plan.platform, local=plan.python.platform, libc=plan.python.libc)


def _requires(package: PlannedPackage) -> list[str]:
    return sorted(package.installed.requires) if package.installed is not None else []


def _covered_conda(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return the part of the hashes about conda packages and the interpreter's source."""
    return {
        "conda": sorted(
            [
                package.name,
                package.version,
                package.build,
                package.level.value,
                package.specifier,
                _archive(package),
            ]
            for package in plan.conda
        ),
        # A conda environment has its own Python. For others the setting counts and not the result of "auto",
        # because that takes a channel's answer, and finding an image has to work without one.
        "interpreter": plan.interpreter if plan.interpreter == "conda" else settings.python_source,
        "cuda": settings.cuda if plan.conda else "",
        "solver": settings.solver if plan.conda else "",
        # Without a solve a pin changes nothing.
        **({"pinned": sorted(plan.pinned)} if plan.pinned and _is_solved(plan) else {}),
    }


def _is_solved(plan: Plan) -> bool:
    """Return whether a solver chooses versions of conda packages, rather than the installed records."""
    return _is_elsewhere(plan) or any(package.record is None for package in plan.conda)


def _archive(package: PlannedConda) -> str:
    """Return the digest or name of a conda package's archive, which is the same on every channel."""
    record = package.record
    return "" if record is None else record.sha256 or record.md5 or record.filename


def _covered_package(package: PlannedPackage, source_digests: Mapping[NormalizedName, str]) -> list[Any]:
    return [
        package.name,
        package.version,
        package.level.value,
        package.specifier,
        sorted(package.extras),
        source_digests.get(package.name, ""),
    ]
