"""Planning of packages whose installed files were changed: shipped as they are here, or named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import DeviationError, PlanError
from imagesync.plan.install_commands import install_command
from imagesync.plan.make_plan import has_usable_files
from imagesync.plan.plan import Plan, PlannedConda, PlannedPackage
from imagesync.plan.specifiers import arbitrary, exact, parse_version
from imagesync.scan.environment import Environment, Finding, Severity
from imagesync.scan.modifications.unrecorded import unowned_findings

if TYPE_CHECKING:
    from imagesync.scan.modifications.modification import Modification, Modifications
    from imagesync.settings.model import Settings

CODES = frozenset({"modified", "files-unowned", "startup-code"})
"""The codes of the findings that :func:`plan_modifications` adds."""

_AS_INSTALLED = "Its installed files were changed, and its wheel is made from them."


def plan_modifications(
    plan: Plan, environment: Environment, modifications: Modifications, settings: Settings
) -> Plan:
    """Return *plan* with the changed packages of *environment*, each shipped as it is here or only named.

    A package is shipped if the setting ``modified`` says so and its files can run in the image. A conda
    package is shipped as the wheels of its distributions, like one that pip has replaced.
    """
    if not modifications.packages:
        return replace(plan, findings=(*plan.findings, *unowned_findings(modifications.unowned, environment)))
    packages: list[PlannedPackage] = []
    for package in plan.packages:
        found = modifications.find("pip", package.name) if _is_planned(package) else None
        packages.append(package if found is None else _plan_package(package, found, environment, settings))
    conda: list[PlannedConda] = []
    shipped: list[PlannedConda] = []
    for entry in plan.conda:
        found = modifications.find("conda", entry.name) if entry.record is not None else None
        changed = entry if found is None else replace(entry, modification=found)
        wheels = _as_wheels(changed, plan, environment, modifications, settings)
        packages += wheels
        (shipped if wheels else conda).append(changed)
    names = {entry.name for entry in shipped}
    plan = replace(
        plan,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        conda=tuple(conda),
        provided=tuple(package for package in plan.provided if package.conda not in names),
        replaced=(*plan.replaced, *(entry.record for entry in shipped if entry.record is not None)),
        provided_modifications=modifications.provided,
    )
    of_conda: dict[str, PlannedPackage | PlannedConda]
    of_conda = {p.name: entry for entry in shipped for p in environment.packages if p.conda == entry.name}
    findings = (_finding(entry, of_conda.get(entry.name, entry), environment) for entry in _changed(plan))
    return replace(
        plan, findings=(*plan.findings, *findings, *unowned_findings(modifications.unowned, environment))
    )


def refuse_modifications(plan: Plan, settings: Settings) -> None:
    """Raise an error if *settings* allow no changed package, or none that the image can't get.

    Raises
    ------
    PlanError
        The setting ``modified`` is ``error``, and a package was changed.
    DeviationError
        The plan is strict, and the image wouldn't get a change.
    """
    changed = list(_changed(plan))
    hint = "Install them again, to have what their installers wrote"
    if changed and settings.modified == "error":
        raise PlanError(
            "Packages aren't as they were installed, and the setting 'modified' is 'error':\n"
            + "\n".join(_lines(changed)),
            hint=f'{hint}; or ship them as they are here: modified = "ship".',
        )
    if plan.strict and (lost := [entry for entry in changed if not is_whole(entry)]):
        raise DeviationError(
            "The image can't get what was changed in these packages, and you asked for no difference "
            "(strict):\n" + "\n".join(_lines(lost)),
            hint=f"{hint}; or build without --strict.",
        )


def is_whole(entry: PlannedPackage | PlannedConda) -> bool:
    """Return True if the image gets everything that was changed in a package."""
    if entry.modification is None:
        return True
    return isinstance(entry, PlannedPackage) and entry.as_installed and not entry.modification.generated


def _changed(plan: Plan) -> Iterator[PlannedPackage | PlannedConda]:
    yield from (package for package in plan.packages if package.modification is not None)
    yield from (package for package in plan.conda if package.modification is not None)


def _is_planned(package: PlannedPackage) -> bool:
    return package.installed is not None and package.installed.version == package.version


def _plan_package(
    package: PlannedPackage, modification: Modification, environment: Environment, settings: Settings
) -> PlannedPackage:
    changed = replace(package, modification=modification)
    installed = package.installed
    if installed is None or settings.modified != "ship" or modification.only_generated:
        return changed
    specifier = _pinned(package.version)
    if specifier is None or not has_usable_files(installed, environment.python, settings.platform):
        return changed
    return replace(changed, as_installed=True, specifier=specifier, reason=_AS_INSTALLED)


def _pinned(version: str) -> str | None:
    parsed = parse_version(version)
    return arbitrary(version) if parsed is None else exact(parsed)


def _as_wheels(
    entry: PlannedConda,
    plan: Plan,
    environment: Environment,
    modifications: Modifications,
    settings: Settings,
) -> list[PlannedPackage]:
    """Return the distributions of a changed conda package, if wheels can replace it."""
    if entry.modification is None or entry.record is None or settings.modified != "ship":
        return []
    from imagesync.wheels.installed_fallback import has_only

    distributions = [package for package in plan.provided if package.conda == entry.name]
    usable = all(has_usable_files(package, environment.python, plan.platform) for package in distributions)
    known = any(package.name in modifications.provided for package in distributions)
    if not (usable and known and has_only(entry.record, distributions, Path(environment.python.prefix))):
        return []
    return [
        PlannedPackage(
            name=package.name,
            version=package.version,
            level=entry.level,
            specifier=_pinned(package.version) or "",
            reason=_AS_INSTALLED,
            requested=entry.requested,
            installed=replace(package, manager="pip", conda=""),
            modification=modifications.provided.get(package.name),
            as_installed=True,
            strict=entry.strict,
        )
        for package in distributions
    ]


def _finding(
    entry: PlannedPackage | PlannedConda, owner: PlannedPackage | PlannedConda, environment: Environment
) -> Finding:
    """Return the finding about a changed package; *owner* is the installed one, maybe conda's of a wheel."""
    assert entry.modification is not None  # noqa: S101  the caller's condition
    again = f"{entry.name}=={entry.version}"
    if isinstance(owner, PlannedConda):
        command = f"conda install --force-reinstall {owner.name}={owner.version}={owner.build}"
    elif owner.source.kind == "index":
        command = install_command(environment, [again], "--force-reinstall", "--no-deps")
    else:
        command = f"install {entry.name} again from where it came from"
    return Finding(
        Severity.WARNING,
        "modified",
        f"{entry.name} {entry.version} isn't as it was installed: {entry.modification.summary}; "
        f"{modification_effect(entry)}.",
        path=None if isinstance(entry, PlannedConda) or entry.installed is None else entry.installed.location,
        package=entry.name,
        hint=f"To undo the changes: {command}. To keep them, make them where the package comes from.",
    )


def modification_effect(entry: PlannedPackage | PlannedConda) -> str:
    """Return the clause about a changed package: the files that the image gets."""
    if is_whole(entry):
        return "the image gets it as it is here"
    if isinstance(entry, PlannedPackage) and entry.as_installed:
        return "the image gets it as it is here, but with the commands that installers write"
    if isinstance(entry, PlannedPackage) and entry.source.kind != "index":
        return "the image gets what its source has"
    return "the image gets it unchanged"


def _lines(entries: Iterable[PlannedPackage | PlannedConda]) -> Iterator[str]:
    for entry in entries:
        if entry.modification is not None:
            yield f"- {entry.name} {entry.version}: {entry.modification.summary}"
