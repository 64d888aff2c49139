"""Making a lock: from what the image must hold to the exact artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import canonical_name
from imagesync.core.progress import Progress
from imagesync.errors import DeviationError, LockError, UnsolvableError
from imagesync.lock.conda.make import CondaPart, lock_conda
from imagesync.lock.conda.provided_distributions import refuse_shared, stand_ins
from imagesync.lock.conda.solver import CondaSolver
from imagesync.lock.lock import Deviation, Lock, LockedPackage, Target, VendoredPackage
from imagesync.lock.resolve_installed import Held, InstalledContent, hold, no_installed_content, pin
from imagesync.lock.resolvers.resolver import Resolver
from imagesync.lock.tags import machine
from imagesync.plan.plan import Plan, PlannedPackage

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.conda.replace_missing import RecordContent

_PYTHON = canonical_name("python")


def make_lock(
    plan: Plan,
    *,
    target: Target,
    contents: Mapping[NormalizedName, str],
    resolver: Resolver,
    progress: Progress,
    installed_content: InstalledContent = no_installed_content,
    silent: Callable[[Sequence[str]], None] | None = None,
    solver: CondaSolver | None = None,
    record_content: RecordContent | None = None,
    allow_inconsistent: bool = False,
) -> Lock:
    """Return the exact artifact of each package of *plan* for *target*.

    Where the plan was made on the target's own platform, the installed versions are the lock: only
    their artifacts are looked up. Elsewhere the resolver solves for the target, with the plan's
    specifiers as what is allowed and the local versions as what is preferred. What no index has at the
    local version is made from its installed files, where these hold for the target.

    Parameters
    ----------
    contents
        For each vendored package what its wheel is made from, as a digest.
    installed_content
        Gives the digest of a package's installed files, if they hold for the target.
    silent
        Gets the indexes that don't answer and were left out, if there are any.
    solver
        Answers from the channels; only a plan without conda packages can do without.
    record_content
        Gives the installed files of a conda package, if they can stand in for it.
    allow_inconsistent
        Whether an added package may be another than what installed ones require.

    Raises
    ------
    UnsolvableError
        No set of artifacts satisfies the plan.
    DeviationError
        The plan is strict, and a version would differ from the local one.
    LockError
        The target isn't one that can be locked for, or no index can be reached.
    """
    conda, stand_in = _lock_conda(plan, target, solver, record_content)
    # Before anything is resolved beside them, which would fail in other words.
    refuse_shared(conda.packages, (package.name for package in plan.packages if package.name != _PYTHON))
    target = conda.target(target)
    _refuse_other_python(plan, target)
    resolver.check(target)
    vendored = [package for package in plan.packages if package.vendored]
    indexed = [package for package in plan.packages if not package.vendored and package.name != _PYTHON]
    installed = [package for package in indexed if package.installed is not None]
    additions = [package for package in indexed if package.installed is None or package.extras]
    with progress.task("Locking", total=len(indexed), unit="packages") as task:
        held, repacked, resolver = _hold(
            installed,
            target=target,
            resolver=resolver,
            installed_content=installed_content,
            progress=progress,
            report=silent,
        )
        beside = [
            *vendored,
            *(package.planned for package in repacked),
            *(package.planned for package in stand_in),
            *stand_ins(conda.packages, plan.provided),
        ]
        task.advance(len(installed))
        packages: tuple[LockedPackage, ...] = ()
        deviations: tuple[Deviation, ...] = ()
        if not indexed:
            task.describe("nothing is from an index")
        elif not same_platform(plan, target):
            from imagesync.lock.solve import solve_platform

            task.describe(f"resolving for {target.platform}")
            missing = [package for package in additions if package.installed is None]
            packages, deviations = solve_platform(
                plan,
                held,
                additions=missing,
                vendored=beside,
                target=target,
                resolver=resolver,
                say=task.describe,
            )
        else:
            packages = tuple(entry.locked for entry in held)
            if additions:
                from imagesync.lock.solve import solve_additions

                task.describe("resolving what is added for the cluster")
                packages += solve_additions(
                    plan,
                    held,
                    additions=additions,
                    vendored=beside,
                    target=target,
                    resolver=resolver,
                    allow_inconsistent=allow_inconsistent,
                    say=task.describe,
                )
        task.advance(len(indexed) - len(installed))
    made = [VendoredPackage(p.name, p.version, contents[p.name], p) for p in vendored]
    lock = Lock(
        target=target,
        packages=_beside_installed(packages, indexed),
        vendored=tuple(sorted((*made, *repacked, *stand_in), key=lambda package: package.name)),
        deviations=_deviations(plan, target, held, packages, (*conda.deviations, *deviations)),
        resolver=resolver.name,
        conda=conda.packages,
        channels=conda.channels,
    )
    refuse_shared(lock.conda, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
    refuse_deviations(plan, lock)
    return lock


def _lock_conda(
    plan: Plan, target: Target, solver: CondaSolver | None, record_content: RecordContent | None
) -> tuple[CondaPart, tuple[VendoredPackage, ...]]:
    """Return the conda part, and what stands in for packages that no channel has."""
    if solver is None or not plan.conda:
        return CondaPart(), ()
    conda = lock_conda(plan, target=target, same_platform=same_platform(plan, target), solver=solver)
    if not conda.missing:
        return conda, ()
    from imagesync.lock.conda.replace_missing import no_record_content, repack_missing

    return conda, repack_missing(conda.missing, conda.channels, record_content or no_record_content)


def refuse_deviations(plan: Plan, lock: Lock) -> None:
    """Stop where *plan* is strict, and *lock* has versions that differ from the local ones.

    Raises
    ------
    DeviationError
        It does; each is named.
    """
    if plan.strict and lock.deviations:
        raise _strict_refusal(lock.deviations)


def _beside_installed(
    packages: Iterable[LockedPackage], planned: Iterable[PlannedPackage]
) -> tuple[LockedPackage, ...]:
    """Return *packages*, sorted, each with what is installed here if that is of the same version."""
    here = {pin(package.name, package.version): package for package in planned}
    return tuple(
        replace(package, planned=here.get(pin(package.name, package.version)))
        for package in sorted(packages, key=lambda package: package.name)
    )


def _hold(
    packages: Sequence[PlannedPackage],
    *,
    target: Target,
    resolver: Resolver,
    installed_content: InstalledContent,
    progress: Progress,
    report: Callable[[Sequence[str]], None] | None,
) -> tuple[tuple[Held, ...], tuple[VendoredPackage, ...], Resolver]:
    """Hold *packages* by the indexes that answer, and return the resolver that asks these as well."""
    failure: LockError | None = None
    held: tuple[Held, ...] = ()
    repacked: tuple[VendoredPackage, ...] = ()
    try:
        held, repacked = hold(packages, target=target, resolver=resolver, installed_content=installed_content)
    except UnsolvableError:
        raise
    except LockError as error:
        failure = error
    # What is missing may be on an index that doesn't answer; pip doesn't always say that of one.
    silent = resolver.silent_indexes(packages[0].name) if failure is not None or repacked else ()
    if not silent:
        if failure is not None:
            raise failure
        return held, repacked, resolver
    _refuse_silence(resolver, silent, failure)
    for url in silent:
        progress.line(f"warning: {url} doesn't answer; going on without it.")
    if report is not None:
        report(silent)
    resolver = resolver.without(silent)
    held, repacked = hold(
        packages, target=target, resolver=resolver, installed_content=installed_content, silent=silent
    )
    return held, repacked, resolver


def _refuse_silence(resolver: Resolver, silent: Sequence[str], failure: LockError | None) -> None:
    """Raise if none of the indexes answers; pip goes on without one of several, and so does this."""
    # Where pip is told of no main index there is PyPI beside the others.
    named = resolver.indexes.public_urls
    if resolver.indexes.index_url is None or not named or not set(named) <= set(silent):
        return
    said = "" if failure is None else f" {failure.message}"
    raise LockError(
        f"None of the indexes answers ({', '.join(silent)}).{said}",
        hint="Look at the network, and at the URLs in `pip config list`.\n"
        "To take everything as it is installed here and ask no index: PIP_NO_INDEX=1 imagesync build",
    ) from failure


def same_platform(plan: Plan, target: Target) -> bool:
    """Return whether what runs here may run on *target* as it is: Linux with glibc, the same machine."""
    python = plan.python
    return python.platform == f"linux-{machine(target)}" and not python.libc.startswith("musl")


def _refuse_other_python(plan: Plan, target: Target) -> None:
    if plan.python.minor != target.minor:
        raise LockError(
            f"Your environment runs Python {plan.python.minor}, the image has {target.python_version}.",
            hint=f"Choose a base image that has Python {plan.python.minor} (--base), "
            f"or make the environment with Python {target.minor}.",
        )


def _deviations(
    plan: Plan,
    target: Target,
    held: Iterable[Held],
    packages: Iterable[LockedPackage],
    others: Iterable[Deviation],
) -> tuple[Deviation, ...]:
    by_name = {(deviation.name, deviation.manager): deviation for deviation in others}
    locked = {package.name: package.version for package in packages}
    for entry in held:
        package = entry.planned
        if entry.why:
            by_name.setdefault(
                (package.name, "pip"),
                Deviation(package.name, package.version, locked[package.name], package.level, entry.why),
            )
    if plan.interpreter == "base" and (python := _python_deviation(plan, target)) is not None:
        by_name[_PYTHON, "pip"] = python
    return tuple(sorted(by_name.values(), key=lambda deviation: deviation.weight))


def _python_deviation(plan: Plan, target: Target) -> Deviation | None:
    planned: PlannedPackage | None = next((p for p in plan.packages if p.name == _PYTHON), None)
    if planned is None or planned.version == target.python_version:
        return None
    reason = f"the base image has Python {target.python_version}"
    return Deviation(_PYTHON, planned.version, target.python_version, planned.level, reason)


def _strict_refusal(deviations: tuple[Deviation, ...]) -> DeviationError:
    lines = [
        f"- {deviation.name} {deviation.local or '(not installed)'} would "
        f"{'be left out' if deviation.left_out else f'become {deviation.locked}'}: {deviation.reason}"
        for deviation in deviations
    ]
    subject = "1 version" if len(lines) == 1 else f"{len(lines)} versions"
    return DeviationError(
        f"{subject} would differ from the local ones, and you asked for none to (strict):\n"
        + "\n".join(lines),
        hint="Install locally what the image can have, choose another base image (--base), "
        "or build without --strict.",
    )
