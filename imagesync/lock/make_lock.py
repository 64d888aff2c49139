"""Making a lock: from a plan to the exact artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import canonical_name
from imagesync.core.platforms import runs_on
from imagesync.core.progress import Progress, Severity
from imagesync.core.text import counted
from imagesync.errors import DeviationError, LockError
from imagesync.lock.conda.lock_conda import lock_conda
from imagesync.lock.conda.locked_records import (
    provided_distributions,
    refuse_duplicates,
    refuse_free_threaded,
)
from imagesync.lock.conda.solver import CondaResult, CondaSolver
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import LockedPackage, VendoredPackage
from imagesync.lock.resolve_installed import (
    InstalledDigest,
    Resolved,
    no_installed_digest,
    pin,
    resolve_on_usable_indexes,
)
from imagesync.lock.resolvers.resolver import Resolver
from imagesync.plan.install_commands import install_command
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.settings.bases import base_hint

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.conda.missing_archives import RecordDistributions

_PYTHON = canonical_name("python")
_NOT_SHIPPED = "its installed files were changed here ({summary}), and the image doesn't get that"


def make_lock(
    plan: Plan,
    *,
    target: Target,
    source_digests: Mapping[NormalizedName, str],
    resolver: Resolver,
    progress: Progress,
    installed_digest: InstalledDigest = no_installed_digest,
    on_silent: Callable[[Sequence[str]], None] | None = None,
    solver: CondaSolver | None = None,
    record_distributions: RecordDistributions | None = None,
    allow_inconsistent: bool = False,
) -> Lock:
    """Return the exact artifact of each package of *plan* for *target*.

    On the target's own platform the installed versions are the lock, and only their artifacts are looked
    up. For another platform the resolver solves within the plan's specifiers, and prefers the local versions.
    A package whose local version is on no index is made from its installed files, if they fit the target.

    Parameters
    ----------
    plan
        The plan.
    target
        The platform and interpreter of the image.
    source_digests
        For each vendored package the digest of what its wheel is made from.
    resolver
        Asks the indexes.
    progress
        Shows the progress, and warnings.
    installed_digest
        Returns the digest of a package's installed files, if they fit the target.
    on_silent
        Called with the indexes that don't answer and were left out.
    solver
        Asks the channels; required if the plan has conda packages.
    record_distributions
        Returns the installed files of a conda package, if they can replace it.
    allow_inconsistent
        Accept added packages that violate requirements of installed ones.

    Raises
    ------
    UnsolvableError
        No set of artifacts satisfies the plan.
    DeviationError
        The plan is strict, and a version differs from the local one.
    LockError
        The resolver doesn't support the target, or no index can be reached.
    """
    conda, conda_repacked = _lock_conda(plan, target, solver, record_distributions)
    # Checked before resolving, which would fail with a less helpful message.
    refuse_free_threaded(conda.packages)
    refuse_duplicates(conda.packages, (package.name for package in plan.packages if package.name != _PYTHON))
    target = conda.target(target)
    _refuse_other_python(plan, target)
    resolver.check(target)
    vendored = [package for package in plan.packages if package.vendored]
    indexed = [package for package in plan.packages if not package.vendored and package.name != _PYTHON]
    installed = [package for package in indexed if package.installed is not None]
    additions = [package for package in indexed if package.installed is None or package.extras]
    with progress.task("Locking", total=len(indexed), unit="packages") as task:
        resolved, repacked, resolver = resolve_on_usable_indexes(
            installed,
            install=lambda requirements: install_command(plan, requirements),
            target=target,
            resolver=resolver,
            installed_digest=installed_digest,
            progress=progress,
            on_silent=on_silent,
        )
        present = [
            *vendored,
            *(package.planned for package in repacked),
            *(package.planned for package in conda_repacked),
            *provided_distributions(conda.packages, plan.provided),
        ]
        task.advance(len(installed))
        packages: tuple[LockedPackage, ...] = ()
        deviations: tuple[Deviation, ...] = ()
        if indexed:
            packages, deviations = _with_additions(
                plan,
                resolved,
                additions=additions,
                vendored=present,
                target=target,
                resolver=resolver,
                allow_inconsistent=allow_inconsistent,
                on_progress=task.describe,
            )
        else:
            task.describe("nothing is from an index")
        task.advance(len(indexed) - len(installed))
    for problem in resolver.refusals():
        progress.line(f"{problem.url} {problem.reason}; it was passed over. {problem.hint}", Severity.WARNING)
    made = [VendoredPackage(p.name, p.version, source_digests[p.name], p) for p in vendored]
    lock = Lock(
        target=target,
        packages=_with_planned(packages, indexed),
        vendored=tuple(sorted((*made, *repacked, *conda_repacked), key=lambda package: package.name)),
        deviations=_deviations(plan, target, resolved, packages, (*conda.deviations, *deviations)),
        resolver=resolver.name,
        conda=conda.packages,
        channels=conda.channels,
    )
    refuse_duplicates(lock.conda, [*(p.name for p in lock.packages), *(p.name for p in lock.vendored)])
    refuse_deviations(plan, lock)
    return lock


def _with_additions(
    plan: Plan,
    resolved: Sequence[Resolved],
    *,
    additions: Sequence[PlannedPackage],
    vendored: Sequence[PlannedPackage],
    target: Target,
    resolver: Resolver,
    allow_inconsistent: bool,
    on_progress: Callable[[str], None],
) -> tuple[tuple[LockedPackage, ...], tuple[Deviation, ...]]:
    """Return the artifacts of *resolved* and *additions*; another platform needs a new solution."""
    if not same_platform(plan, target):
        from imagesync.lock.resolve_platform import solve_platform

        on_progress(f"resolving for {target.platform}")
        missing = [package for package in additions if package.installed is None]
        return solve_platform(
            plan,
            resolved,
            additions=missing,
            vendored=vendored,
            target=target,
            resolver=resolver,
            on_progress=on_progress,
        )
    packages = tuple(entry.locked for entry in resolved)
    if not additions:
        return packages, ()
    from imagesync.lock.resolve_platform import solve_additions

    on_progress("resolving what is added for the cluster")
    added = solve_additions(
        plan,
        resolved,
        additions=additions,
        vendored=vendored,
        target=target,
        resolver=resolver,
        allow_inconsistent=allow_inconsistent,
        on_progress=on_progress,
    )
    return (*packages, *added), ()


def _lock_conda(
    plan: Plan, target: Target, solver: CondaSolver | None, record_distributions: RecordDistributions | None
) -> tuple[CondaResult, tuple[VendoredPackage, ...]]:
    """Return the locked conda packages, and wheels for those that no channel has."""
    if solver is None or not plan.conda:
        return CondaResult(), ()
    conda = lock_conda(plan, target=target, same_platform=same_platform(plan, target), solver=solver)
    if not conda.missing:
        return conda, ()
    from imagesync.lock.conda.missing_archives import no_record_distributions, repack_missing

    return conda, repack_missing(
        conda.missing, conda.channels, target.platform, record_distributions or no_record_distributions
    )


def refuse_deviations(plan: Plan, lock: Lock) -> None:
    """Raise an error if *plan* is strict and *lock* has deviations.

    Raises
    ------
    DeviationError
        It has; the message names each.
    """
    if plan.strict and lock.deviations:
        raise _strict_refusal(lock.deviations)


def _with_planned(
    packages: Iterable[LockedPackage], planned: Iterable[PlannedPackage]
) -> tuple[LockedPackage, ...]:
    """Return *packages*, sorted, each with its planned package if that has the same version."""
    by_pin = {pin(package.name, package.version): package for package in planned}
    return tuple(
        replace(package, planned=by_pin.get(pin(package.name, package.version)))
        for package in sorted(packages, key=lambda package: package.name)
    )


def same_platform(plan: Plan, target: Target) -> bool:
    """Return True if local binaries run on *target*: on Linux with glibc, on the same architecture."""
    return runs_on(target.platform, local=plan.python.platform, libc=plan.python.libc)


def _refuse_other_python(plan: Plan, target: Target) -> None:
    if plan.python.minor != target.minor:
        raise LockError(
            f"Your environment runs Python {plan.python.minor}, the image has {target.python_version}.",
            hint=f"{base_hint(plan.python.minor)}\nOr make the environment with Python {target.minor}.",
        )


def _deviations(
    plan: Plan,
    target: Target,
    resolved: Iterable[Resolved],
    packages: Iterable[LockedPackage],
    others: Iterable[Deviation],
) -> tuple[Deviation, ...]:
    by_name = {(deviation.name, deviation.manager): deviation for deviation in others}
    locked = {package.name: package.version for package in packages}
    for entry in resolved:
        package = entry.planned
        if entry.reason:
            by_name.setdefault(
                (package.name, "pip"),
                Deviation(package.name, package.version, locked[package.name], package.level, entry.reason),
            )
    for other in modification_deviations(plan):
        by_name.setdefault((other.name, other.manager), other)
    if plan.interpreter == "base" and (python := python_deviation(plan, target.python_version)) is not None:
        by_name[_PYTHON, "pip"] = python
    return tuple(sorted(by_name.values(), key=lambda deviation: deviation.weight))


def modification_deviations(plan: Plan) -> Iterator[Deviation]:
    """Yield the changes of installed files in *plan* that the image doesn't get, as deviations."""
    for package in plan.packages:
        changed = package.modification
        if changed is not None and (not package.as_installed or changed.generated):
            reason = _NOT_SHIPPED.format(summary=changed.summary)
            yield Deviation(package.name, package.version, package.version, package.level, reason)
    for entry in plan.conda:
        if entry.modification is not None:
            reason = _NOT_SHIPPED.format(summary=entry.modification.summary)
            yield Deviation(entry.name, entry.version, entry.version, entry.level, reason, "conda")


def python_deviation(plan: Plan, version: str) -> Deviation | None:
    """Return the deviation of the image's Python *version*, or ``None``.

    The base image's Python in place of a conda channel's is one, too, if only the channel's silence is why.
    """
    planned: PlannedPackage | None = next((p for p in plan.packages if p.name == _PYTHON), None)
    if planned is None or (planned.version == version and not plan.interpreter_reason):
        return None
    reason = f"the base image has Python {version}"
    if plan.interpreter_reason and planned.version == version:
        # Another build of the same version: the image has another name once the channel answers.
        because = f'because {plan.interpreter_reason}; `python = "base"` asks none'
        reason = f"it is the base image's build and not a channel's, {because}"
    elif plan.interpreter_reason:
        reason += f", and {plan.interpreter_reason}"
    return Deviation(_PYTHON, planned.version, version, planned.level, reason)


def _strict_refusal(deviations: tuple[Deviation, ...]) -> DeviationError:
    lines = [f"- {each.name} {_would_become(each)}: {each.reason}" for each in deviations]
    subject = counted(len(lines), "package")
    return DeviationError(
        f"{subject} would differ from the local ones, but --strict allows no difference:\n"
        + "\n".join(lines),
        hint="Install locally what the image can have, choose another base image (--base), "
        "or build without --strict.",
    )


def _would_become(deviation: Deviation) -> str:
    if deviation.local == deviation.locked:
        return deviation.change
    fate = "be left out" if deviation.left_out else f"become {deviation.locked}"
    return f"{deviation.local or '(not installed)'} would {fate}"
