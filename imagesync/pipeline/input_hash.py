"""The input hash: one digest over what decides the content of an image, known before anything is resolved.

It is no name: under it the environment hash is remembered, so that an unchanged environment costs a look-up.
It covers neither times, nor paths of this machine, nor the order of anything. ``docs/hashes.md`` says which
input counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imagesync.core.digests import sha256_of_json
from imagesync.core.names import canonical_pattern, matches
from imagesync.pipeline.environment_hash import (
    FORMAT_VERSION,
    PACKAGES_FORMAT_VERSION,
    BaseInputs,
    is_elsewhere,
    is_resolved,
)
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.settings.model import Settings
from imagesync.wheels.wheel_contents import installed_for_builds

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


def input_hash(
    plan: Plan,
    *,
    source_digests: Mapping[NormalizedName, str],
    indexes: Sequence[str],
    built_here: Mapping[str, str],
    base: BaseInputs,
    settings: Settings,
) -> str:
    """Return ``sha256:<hex>`` over the plan and everything else that decides what the image holds.

    Parameters
    ----------
    plan
        The plan.
    source_digests
        For each vendored package the digest of what its wheel is made from.
    indexes
        The URLs of the user's indexes, without credentials, and the digest of what else decides which file of
        theirs is taken: another index may have a version that these lack.
    built_here
        The digest of the installed files of each package of an index that was built on this machine.
    base
        The inputs that all hashes cover.
    settings
        The settings of the command.
    """
    covered = {
        "format": FORMAT_VERSION,
        "platform": plan.platform.name,
        "python": [plan.python.implementation, plan.python.version],
        "packages": sorted(_covered_package(package, source_digests) for package in plan.packages),
        "modified": plan.modified,
        "built_here": dict(built_here),
        **_covered_conda(plan, settings),
        # Installed records name their archives.
        "channels": list(plan.channels) if _is_solved(plan) else [],
        "indexes": list(indexes),
        "code": plan.code.digest,
        "options": plan.options.digest,
        "base": base.base_hash,
        "templates": base.templates_digest,
        "strict": plan.strict,
        "imports": sorted(plan.critical_imports),
        "allow_inconsistent": settings.allow_inconsistent,
        "resolver": settings.resolver,
    }
    patterns = [canonical_pattern(entry) for entry in settings.no_isolation]
    unisolated = sorted(
        package.name for package in plan.packages if package.vendored and matches(patterns, package.name)
    )
    if unisolated:
        covered["no_isolation"] = unisolated  # their wheels may differ from those of isolated builds
    vendored = [package for package in plan.packages if package.vendored]
    if installed := installed_for_builds(plan, vendored, settings.no_isolation):
        covered["installed"] = installed
    if settings.no_build:
        covered["no_build"] = True  # installed files may replace sdists
    return sha256_of_json(covered)


def packages_input_hash(
    plan: Plan,
    *,
    indexes: Sequence[str],
    built_here: Mapping[str, str],
    base: BaseInputs,
    settings: Settings,
) -> str:
    """Return ``sha256:<hex>`` over everything that decides what the packages image of *plan* holds.

    It doesn't change with the user's own packages, except with their requirements where these are resolved.

    Parameters
    ----------
    plan
        The plan.
    indexes
        The URLs of the user's indexes, without credentials, and the digest of what else decides which file of
        theirs is taken: another index may have other files of the same version.
    built_here
        The digest of the installed files of each package of an index that was built on this machine.
    base
        The inputs that all hashes cover.
    settings
        The settings of the command.
    """
    local = plan.python
    indexed = [package for package in plan.packages if not package.vendored]
    vendored = [package for package in plan.packages if package.vendored]
    shipped = {f"pip/{package.name}" for package in vendored}
    covered = {
        "format": PACKAGES_FORMAT_VERSION,
        "platform": plan.platform.name,
        "python": [local.implementation, local.version, local.platform, local.libc],
        "packages": sorted(_covered_package(package, {}) for package in indexed),
        "modified": {key: digest for key, digest in plan.modified.items() if key not in shipped},
        "built_here": dict(built_here),
        **_covered_conda(plan, settings),
        "channels": list(plan.channels),
        "indexes": list(indexes),
        "own": sorted([package.name, package.version, *_requires(package)] for package in vendored)
        if is_resolved(plan, indexed)
        else [],
        "base": base.base_hash,
        "templates": base.templates_digest,
        "strict": plan.strict,
        "allow_inconsistent": settings.allow_inconsistent,  # contradictions are refused where it is resolved
        "resolver": settings.resolver,
    }
    if settings.no_build:
        covered["no_build"] = True
    return sha256_of_json(covered)


def _requires(package: PlannedPackage) -> list[str]:
    return sorted(package.installed.requires) if package.installed is not None else []


def _covered_conda(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return the part of the input hashes about conda packages and the interpreter's source."""
    return {
        "conda": sorted(
            [
                package.name,
                package.version,
                package.build,
                package.level.value,
                package.specifier,
                *_archive(package),
            ]
            for package in plan.conda
        ),
        # A conda environment has its own Python, whatever the setting says.
        "interpreter": "conda" if plan.interpreter == "conda" else settings.python_source,
        "interpreter_reason": plan.interpreter_reason,
        "cuda": settings.cuda if plan.conda else "",
        "solver": settings.solver if plan.conda else "",
        # Without a solve neither changes anything.
        "pinned": sorted(plan.pinned) if _is_solved(plan) else [],
        "channel_priority": plan.channel_priority if _is_solved(plan) else "",
    }


def _is_solved(plan: Plan) -> bool:
    """Return True if a solver chooses versions of conda packages, rather than the installed records."""
    return is_elsewhere(plan) or any(package.record is None for package in plan.conda)


def _archive(package: PlannedConda) -> tuple[str, str]:
    """Return subdirectory and digest or name of a conda package's archive, the same on every channel."""
    record = package.record
    return ("", "") if record is None else (record.subdir, record.sha256 or record.md5 or record.filename)


def _covered_package(package: PlannedPackage, source_digests: Mapping[NormalizedName, str]) -> list[Any]:
    return [
        package.name,
        package.version,
        package.level.value,
        package.specifier,
        sorted(package.extras),
        # Of a package that is built again tags may change, and nothing else.
        sorted(package.installed.tags) if package.installed is not None else [],
        source_digests.get(package.name, ""),
    ]
