"""The environment hash: one digest over everything that decides what an image holds.

It is known after planning, before any solve, and that is what makes an unchanged environment
cheap. It doesn't cover times, paths of the machine, or the order of anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from imagesync.core.names import canonical_pattern, matches
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.settings import Settings

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

# Raise it when the same inputs begin to give another image: no older image is then taken for a new one.
FORMAT_VERSION = 2
PACKAGES_FORMAT_VERSION = 2


class Foundation(TypedDict):
    """What both hashes cover beside the plan and the settings; see :func:`environment_hash`."""

    base_hash: str
    templates_digest: str


def environment_hash(
    plan: Plan,
    *,
    contents: Mapping[NormalizedName, str],
    base_hash: str,
    templates_digest: str,
    settings: Settings,
) -> str:
    """Return ``sha256:<hex>`` over the plan and all else that reaches the image.

    Parameters
    ----------
    contents
        For each vendored package the digest of what its wheel is made from.
    base_hash
        The hash of the base image's inputs: root image digest, ``Dockerfile.base``, apt packages.
    templates_digest
        ``sha256:<hex>`` over the templates, the user's own included.
    """
    covered = {
        "format": FORMAT_VERSION,
        "platform": plan.platform,
        "python": [plan.python.implementation, plan.python.version],
        "packages": sorted(_covered(package, contents) for package in plan.packages),
        **_covered_conda(plan, settings),
        "code": plan.code.digest,
        "base": base_hash,
        "templates": templates_digest,
        # Both change what is accepted into an image, so an image made without them may not be handed out.
        "strict": plan.strict,
        "allow_inconsistent": settings.allow_inconsistent,
        "resolver": settings.resolver,
    }
    patterns = [canonical_pattern(entry) for entry in settings.no_isolation]
    bare = sorted(
        package.name for package in plan.packages if package.vendored and matches(patterns, package.name)
    )
    if bare:
        # Else an image with the wheels of isolated builds would be found, and the setting do nothing.
        covered["no_isolation"] = bare
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def packages_hash(
    plan: Plan, *, indexes: Sequence[str], base_hash: str, templates_digest: str, settings: Settings
) -> str:
    """Return ``sha256:<hex>`` over what the packages image of *plan* is made from.

    That is everything but the user's own packages: an edit of them leaves it as it is. Where packages
    are resolved, what the user's own require has a say in it, and so it counts.

    Parameters
    ----------
    indexes
        The URLs of the user's indexes, without credentials: one version may be another thing elsewhere, and
        this image is shared by all projects.
    base_hash, templates_digest
        As in :func:`environment_hash`.
    """
    local = plan.python
    indexed = [package for package in plan.packages if not package.vendored]
    own = [package for package in plan.packages if package.vendored] if _is_resolved(plan, indexed) else []
    covered = {
        "format": PACKAGES_FORMAT_VERSION,
        "platform": plan.platform,
        "python": [local.implementation, local.version, local.platform, local.libc],
        "packages": sorted(_covered(package, {}) for package in indexed),
        **_covered_conda(plan, settings),
        "channels": list(plan.channels),
        "indexes": list(indexes),
        "own": sorted([package.name, package.version, *_requires(package)] for package in own),
        "base": base_hash,
        "templates": templates_digest,
        "strict": plan.strict,
        "resolver": settings.resolver,
    }
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _is_resolved(plan: Plan, indexed: Sequence[PlannedPackage]) -> bool:
    """Return whether more than what is installed has a say in the lock."""
    additions = (p for p in indexed if p.name != "python" and (p.installed is None or p.extras))
    return _is_elsewhere(plan) or next(additions, None) is not None


def _is_elsewhere(plan: Plan) -> bool:
    """Return whether what is installed here is for another platform than the image's."""
    return plan.python.platform != "linux-x86_64" or plan.python.libc.startswith("musl")


def _requires(package: PlannedPackage) -> list[str]:
    return sorted(package.installed.requires) if package.installed is not None else []


def _covered_conda(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return what counts of conda's part, and of whose Python it is."""
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
        # A conda environment has its own Python. For others the setting counts and not what comes of "auto":
        # that takes a channel's answer, and a look-up has to do without.
        "interpreter": plan.interpreter if plan.interpreter == "conda" else settings.python_source,
        "cuda": settings.cuda if plan.conda else "",
        "solver": settings.solver if plan.conda else "",
        # Where nothing is chosen a pin changes nothing.
        **({"pinned": sorted(plan.pinned)} if plan.pinned and _is_solved(plan) else {}),
    }


def _is_solved(plan: Plan) -> bool:
    """Return whether versions of conda packages are chosen, and not only read off what is installed."""
    return _is_elsewhere(plan) or any(package.record is None for package in plan.conda)


def _archive(package: PlannedConda) -> str:
    """Return what tells one archive of a conda package from another, wherever it is from."""
    record = package.record
    return "" if record is None else record.sha256 or record.md5 or record.filename


def _covered(package: PlannedPackage, contents: Mapping[NormalizedName, str]) -> list[Any]:
    return [
        package.name,
        package.version,
        package.level.value,
        package.specifier,
        sorted(package.extras),
        contents.get(package.name, ""),
    ]
