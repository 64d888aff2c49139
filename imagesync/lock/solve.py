"""Resolving with dependencies: for another platform, and for packages that only the cluster gets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import Level
from imagesync.errors import LockError, UnsolvableError
from imagesync.lock.lock import Deviation, LockedPackage, Target
from imagesync.lock.resolve_installed import Held, pin
from imagesync.lock.resolvers.resolver import ResolutionRequest, Resolver
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.plan.requirements import requirements_on, requirers, target_markers

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_SEARCHING = "looking for what contradicts what"
# How long it may take to see whether what is installed is all that stands against an addition.
_SECONDS = 5.0


def solve_additions(
    plan: Plan,
    held: Sequence[Held],
    *,
    additions: Sequence[PlannedPackage],
    vendored: Sequence[PlannedPackage],
    target: Target,
    resolver: Resolver,
    allow_inconsistent: bool = False,
    say: Callable[[str], object] = str,
) -> tuple[LockedPackage, ...]:
    """Return what *additions* bring in beside the *held* packages, none of which moves.

    An addition may take the place of an installed package: then it has to be what the held ones require,
    unless *allow_inconsistent*.

    Parameters
    ----------
    say
        Gets what is being done, where it takes longer.

    Raises
    ------
    UnsolvableError
        An added package can't live with what is installed; with the smallest remedies.
    """
    names = {package.name for package in additions}
    demanded = () if allow_inconsistent else [line for entry in held for line in _demands(entry, plan, names)]
    pins = tuple(pin(entry.locked.name, entry.locked.version) for entry in held)
    request = ResolutionRequest(
        target,
        requirements=tuple(_requirement(package) for package in additions),
        constraints=pins,
        vendored=tuple(vendored),
        dependencies=True,
    )
    try:
        answer = resolver.resolve(replace(request, constraints=(*pins, *demanded)))
    except UnsolvableError as error:
        say(_SEARCHING)
        refusal = _cannot_add(
            error,
            additions,
            held,
            plan=plan,
            request=request,
            resolver=resolver,
            consistent=not allow_inconsistent,
        )
        if demanded and _solvable(request, resolver):
            refusal.hint = f"{refusal.hint}\nOr take it as it is: --allow-inconsistent"
        raise refusal from error
    here = {entry.locked.name for entry in held}
    return tuple(package for package in answer if package.name not in here)


def _cannot_add(
    error: UnsolvableError,
    additions: Sequence[PlannedPackage],
    held: Sequence[Held],
    *,
    plan: Plan,
    request: ResolutionRequest,
    resolver: Resolver,
    consistent: bool,
) -> UnsolvableError:
    from imagesync.lock.explain import constraints as entries
    from imagesync.lock.explain.unsolvable import explained

    markers = target_markers(plan.python)
    known = {p.name for part in (additions, request.vendored, [e.planned for e in held]) for p in part}
    pinned = [
        entries.pinned(entry, line, _demands(entry, plan, known) if consistent else (), markers)
        for entry, line in zip(held, request.constraints, strict=True)
    ]
    return explained(
        "The packages in 'add.pip' can't be added to what is installed",
        error,
        [
            *(entries.added(package, _requirement(package)) for package in additions),
            *pinned,
            *(entries.beside(package, markers) for package in request.vendored),
        ],
        request=ResolutionRequest(request.target, (), preferred=_preferred(held), dependencies=True),
        resolver=resolver,
        plan=plan,
        hint="Change the versions in [tool.imagesync.add], or install the package locally first: "
        "`python -m pip install NAME` shows what has to move for it.",
    )


def _solvable(request: ResolutionRequest, resolver: Resolver) -> bool:
    try:
        resolver.resolve(replace(request, versions_only=True, timeout=_SECONDS))
    except LockError:
        return False
    return True


def _preferred(held: Sequence[Held]) -> dict[NormalizedName, str]:
    return {entry.locked.name: entry.locked.version for entry in held}


def _demands(entry: Held, plan: Plan, names: Collection[NormalizedName]) -> list[str]:
    """Return what a held package requires of the packages *names*, as constraints."""
    installed = entry.planned.installed
    if installed is None or entry.locked.version != entry.planned.version:
        return []
    required = requirements_on(installed, target_markers(plan.python), names)
    return [f"{each.name}{each.specifier}" for each in required if each.specifier]


def _requirement(package: PlannedPackage) -> str:
    extras = f"[{','.join(package.extras)}]" if package.extras else ""
    return f"{package.name}{extras}{package.specifier}"


def solve_platform(
    plan: Plan,
    held: Sequence[Held],
    *,
    additions: Sequence[PlannedPackage],
    vendored: Sequence[PlannedPackage],
    target: Target,
    resolver: Resolver,
    say: Callable[[str], object] = str,
) -> tuple[tuple[LockedPackage, ...], tuple[Deviation, ...]]:
    """Return all packages from indexes for another platform than the local one, and what differs.

    What a planned package needs on the target comes in with it. The versions that
    :func:`~imagesync.lock.resolve_installed.hold` found are preferred, and the plan's specifiers are
    what is allowed.

    Parameters
    ----------
    say
        Gets what is being done, where it takes longer.

    Raises
    ------
    UnsolvableError
        No set of versions satisfies the plan on the target; with the smallest remedies.
    """
    request = ResolutionRequest(
        target,
        requirements=(
            *(_allowed(entry) for entry in held),
            *(_requirement(package) for package in additions),
        ),
        preferred=_preferred(held),
        vendored=tuple(vendored),
        dependencies=True,
    )
    try:
        answer = resolver.resolve(request)
    except UnsolvableError as error:
        from imagesync.lock.explain import constraints as entries
        from imagesync.lock.explain.unsolvable import explained

        say(_SEARCHING)
        markers = target_markers(plan.python)
        raise explained(
            f"No set of versions satisfies the plan on {target.platform}",
            error,
            [
                *(entries.limited(entry, _allowed(entry), markers) for entry in held),
                *(entries.added(package, _requirement(package)) for package in additions),
                *(entries.beside(package, markers) for package in vendored),
            ],
            request=ResolutionRequest(target, (), preferred=_preferred(held), dependencies=True),
            resolver=resolver,
            plan=plan,
            hint='Allow more for what is named: levels = { NAME = "compatible" } in [tool.imagesync].',
        ) from error
    planned = {entry.planned.name: entry for entry in held}
    moved = tuple(
        _moved(planned[package.name], package, request, resolver)
        for package in answer
        if package.name in planned and package.version != planned[package.name].locked.version
    )
    added = {package.name for package in additions}
    newcomers = [package for package in answer if package.name not in planned and package.name not in added]
    return answer, (*moved, *_came_in(plan, newcomers))


def _allowed(entry: Held) -> str:
    planned = entry.planned
    extras = f"[{','.join(planned.extras)}]" if planned.extras else ""
    if planned.level is Level.EXACT:
        return pin(planned.name, entry.locked.version).replace(planned.name, planned.name + extras, 1)
    return f"{planned.name}{extras}{planned.specifier}"


def _moved(entry: Held, package: LockedPackage, request: ResolutionRequest, resolver: Resolver) -> Deviation:
    # Asking for the local version beside everything else tells what stands against it.
    constraint = pin(entry.locked.name, entry.locked.version)
    reason = "the resolver chose it together with the other packages"
    try:
        resolver.resolve(replace(request, constraints=(constraint,), preferred={}, versions_only=True))
    except UnsolvableError as error:
        reason = " ".join(error.message.split())
    planned = entry.planned
    return Deviation(planned.name, planned.version, package.version, planned.level, reason)


def _came_in(plan: Plan, newcomers: Sequence[LockedPackage]) -> tuple[Deviation, ...]:
    wanted = {package.name for package in newcomers}
    installed = [package.installed for package in plan.packages if package.installed is not None]
    required_by: Mapping[NormalizedName, list[NormalizedName]] = requirers(
        installed, wanted, target_markers(plan.python)
    )
    left_out = {package.name: package for package in plan.left_out}
    deviations = []
    for package in newcomers:
        by = ", ".join(sorted(required_by.get(package.name, ()))) or "a package that comes in"
        reason = f"required by {by} on {plan.platform}"
        if (left := left_out.get(package.name)) is None:
            deviations.append(Deviation(package.name, "", package.version, Level.COMPATIBLE, reason))
        elif left.version != package.version:
            reason = f"left out by the plan, and {reason}"
            deviations.append(Deviation(package.name, left.version, package.version, left.level, reason))
    return tuple(deviations)
