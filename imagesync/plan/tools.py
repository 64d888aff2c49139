"""Tools that manage environments, which have no part in an image, and what they alone brought along."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from imagesync.core.names import canonical_name
from imagesync.plan.dependencies import Candidate, Key, closure_of
from imagesync.plan.requirements import line_applies
from imagesync.scan.environment import Environment, Package

TOOLS: Final = frozenset(
    {"imagesync", "conda", "conda-libmamba-solver", "libmamba", "libmambapy", "mamba", "menuinst"}
)
"""Their dependencies stay out of the image with them."""
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def with_requests(environment: Environment, markers: Mapping[str, str]) -> Environment:
    """Return *environment* with what the user asked for, also where the installer didn't record it.

    Only pip records that truly (``REQUESTED``). Of other installers a package that no other one requires
    counts as requested.
    """
    unknown = {package.name for package in environment.packages if _is_unknown(package)}
    if not unknown:
        return environment
    required: set[str] = set()
    for package in environment.packages:
        for line in package.requires:
            match = _NAME.match(line)
            name = canonical_name(match[1]) if match else None
            if name is None or name not in unknown or name in required or name == package.name:
                continue
            if line_applies(line, markers):
                required.add(name)
    return replace(
        environment,
        packages=tuple(
            replace(package, requested=package.name not in required) if package.name in unknown else package
            for package in environment.packages
        ),
    )


def _is_unknown(package: Package) -> bool:
    return package.requested is None and bool(package.installer) and not package.conda


def tool_dependencies(
    environment: Environment,
    packages: Collection[Candidate],
    left_out: Collection[Key],
    markers: Mapping[str, str],
) -> frozenset[Key]:
    """Return the dependencies of the :data:`TOOLS` among *left_out*, without those that the user asked for.

    Extras don't count: ``imagesync[dask]`` is how a notebook gets dask. Packages that are kept may require
    some of them.
    """
    roots = {key for key in left_out if key[1] in TOOLS}
    if not roots:
        return frozenset()
    requested = {each.key for each in packages if each.requested or each.source != "index"}
    return closure_of(environment, roots, markers) - roots - requested
