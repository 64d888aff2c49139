"""Resolving with dependencies: for another platform, and for the additions of the setting ``add.pip``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import Level
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.lock import Deviation, Target
from imagesync.lock.locked_packages import LockedPackage
from imagesync.lock.resolve_installed import Resolved, pin
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.plan.install_commands import install_command
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.plan.requirements import requirements_on, requirers, target_markers

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_SEARCHING = "looking for what contradicts what"
# The time limit for the check whether an addition only conflicts with requirements of installed packages.
_SECONDS = 5.0


def solve_additions(
    plan: Plan,
    resolved: Sequence[Resolved],
    *,
    additions: Sequence[PlannedPackage],
    vendored: Sequence[PlannedPackage],
    target: Target,
    resolver: Resolver,
    allow_inconsistent: bool = False,
    on_progress: Callable[[str], object] = str,
) -> tuple[LockedPackage, ...]:
    """Return *additions* and their new dependencies; the *resolved* packages keep their versions.

    An addition may replace an installed package. Then it must meet the requirements of the others, unless
    *allow_inconsistent* is set.

    Raises
    ------
    UnsolvableError
        An addition conflicts with installed packages; the hint has the smallest remedies.
    """
    names = {package.name for package in additions}
    required = (
        ()
        if allow_inconsistent
        else [line for entry in resolved for line in _requirements_on(entry, plan, names)]
    )
    pins = tuple(pin(entry.locked.name, entry.locked.version) for entry in resolved)
    request = ResolutionRequest(
        target,
        requirements=tuple(_requirement(package) for package in additions),
        constraints=pins,
        vendored=tuple(vendored),
        dependencies=True,
    )
    try:
        answer = resolver.resolve(replace(request, constraints=(*pins, *required)))
    except UnsolvableError as error:
        on_progress(_SEARCHING)
        refusal = _cannot_add(
            error,
            additions,
            resolved,
            plan=plan,
            request=request,
            resolver=resolver,
            consistent=not allow_inconsistent,
        )
        if required and _solvable(request, resolver):
            refusal.hint = f"{refusal.hint}\nOr take it as it is: --allow-inconsistent"
        raise refusal from error
    installed = {entry.locked.name for entry in resolved}
    return tuple(package for package in answer if package.name not in installed)


def _cannot_add(
    error: UnsolvableError,
    additions: Sequence[PlannedPackage],
    resolved: Sequence[Resolved],
    *,
    plan: Plan,
    request: ResolutionRequest,
    resolver: Resolver,
    consistent: bool,
) -> UnsolvableError:
    from imagesync.lock.explain import constraints
    from imagesync.lock.explain.unsolvable import with_explanation

    markers = target_markers(plan.python, plan.platform)
    known = {p.name for part in (additions, request.vendored, [e.planned for e in resolved]) for p in part}
    pinned = [
        constraints.pinned(entry, line, _requirements_on(entry, plan, known) if consistent else (), markers)
        for entry, line in zip(resolved, request.constraints, strict=True)
    ]
    return with_explanation(
        "The packages in 'add.pip' can't be added to what is installed",
        error,
        [
            *(constraints.added(package, _requirement(package)) for package in additions),
            *pinned,
            *(constraints.present(package, markers) for package in request.vendored),
        ],
        request=ResolutionRequest(request.target, (), preferred=_preferred(resolved), dependencies=True),
        resolver=resolver,
        plan=plan,
        hint="Change the versions in [tool.imagesync.add], or install the package locally first, which shows "
        f"what has to move for it: {install_command(plan, [additions[0].name])}",
    )


def _solvable(request: ResolutionRequest, resolver: Resolver) -> bool:
    try:
        resolver.resolve(replace(request, versions_only=True, timeout=_SECONDS))
    except LockError:
        return False
    return True


def _preferred(resolved: Sequence[Resolved]) -> dict[NormalizedName, str]:
    return {entry.locked.name: entry.locked.version for entry in resolved}


def _requirements_on(entry: Resolved, plan: Plan, names: Collection[NormalizedName]) -> list[str]:
    """Return the requirements of an installed package on the packages *names*, as constraints."""
    installed = entry.planned.installed
    if installed is None or entry.locked.version != entry.planned.version:
        return []
    required = requirements_on(installed, target_markers(plan.python, plan.platform), names)
    return [f"{each.name}{each.specifier}" for each in required if each.specifier]


def _requirement(package: PlannedPackage) -> str:
    extras = f"[{','.join(package.extras)}]" if package.extras else ""
    return f"{package.name}{extras}{package.specifier}"


def solve_platform(
    plan: Plan,
    resolved: Sequence[Resolved],
    *,
    additions: Sequence[PlannedPackage],
    vendored: Sequence[PlannedPackage],
    target: Target,
    resolver: Resolver,
    on_progress: Callable[[str], object] = str,
) -> tuple[tuple[LockedPackage, ...], tuple[Deviation, ...]]:
    """Return the packages from indexes for another platform, and their deviations from the local ones.

    The dependencies of planned packages on the target are included. The local versions are preferred, within
    the plan's specifiers.

    Raises
    ------
    UnsolvableError
        No set of versions satisfies the plan on the target; the hint has the smallest remedies.
    """
    request = ResolutionRequest(
        target,
        requirements=(
            *(_allowed_requirement(entry) for entry in resolved),
            *(_requirement(package) for package in additions),
        ),
        preferred=_preferred(resolved),
        vendored=tuple(vendored),
        dependencies=True,
    )
    try:
        answer = resolver.resolve(request)
    except UnsolvableError as error:
        from imagesync.lock.explain import constraints
        from imagesync.lock.explain.unsolvable import with_explanation

        on_progress(_SEARCHING)
        markers = target_markers(plan.python, plan.platform)
        raise with_explanation(
            f"No set of versions satisfies the plan on {target.platform}",
            error,
            [
                *(constraints.limited(entry, _allowed_requirement(entry), markers) for entry in resolved),
                *(constraints.added(package, _requirement(package)) for package in additions),
                *(constraints.present(package, markers) for package in vendored),
            ],
            request=ResolutionRequest(target, (), preferred=_preferred(resolved), dependencies=True),
            resolver=resolver,
            plan=plan,
            hint='Allow more for what is named: levels = { NAME = "compatible" } in [tool.imagesync].',
        ) from error
    planned = {entry.planned.name: entry for entry in resolved}
    changed = tuple(
        _changed_version(planned[package.name], package, request, resolver)
        for package in answer
        if package.name in planned and package.version != planned[package.name].locked.version
    )
    added = {package.name for package in additions}
    new = [package for package in answer if package.name not in planned and package.name not in added]
    return answer, (*changed, *_new_dependencies(plan, new))


def _allowed_requirement(entry: Resolved) -> str:
    planned = entry.planned
    extras = f"[{','.join(planned.extras)}]" if planned.extras else ""
    if planned.takes_nearest:
        return pin(planned.name, entry.locked.version).replace(planned.name, planned.name + extras, 1)
    return f"{planned.name}{extras}{planned.specifier}"


def _changed_version(
    entry: Resolved, package: LockedPackage, request: ResolutionRequest, resolver: Resolver
) -> Deviation:
    # A request with the local version as a constraint fails with the reason.
    constraint = pin(entry.locked.name, entry.locked.version)
    reason = "the resolver chose it together with the other packages"
    try:
        resolver.resolve(replace(request, constraints=(constraint,), preferred={}, versions_only=True))
    except UnsolvableError as error:
        reason = " ".join(error.message.split())
    planned = entry.planned
    return Deviation(planned.name, planned.version, package.version, planned.level, reason)


def _new_dependencies(plan: Plan, new: Sequence[LockedPackage]) -> tuple[Deviation, ...]:
    names = {package.name for package in new}
    installed = [package.installed for package in plan.packages if package.installed is not None]
    required_by: Mapping[NormalizedName, list[NormalizedName]] = requirers(
        installed, names, target_markers(plan.python, plan.platform)
    )
    left_out = {package.name: package for package in plan.left_out}
    deviations = []
    for package in new:
        by = ", ".join(sorted(required_by.get(package.name, ()))) or "a package that comes in"
        reason = f"required by {by} on {plan.platform}"
        if (known := left_out.get(package.name)) is None:
            deviations.append(Deviation(package.name, "", package.version, Level.COMPATIBLE, reason))
        elif known.version != package.version:
            reason = f"left out by the plan, and {reason}"
            deviations.append(Deviation(package.name, known.version, package.version, known.level, reason))
    return tuple(deviations)
