"""Requirements that the setting ``add.pip`` adds for the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact
from imagesync.core.names import Level, canonical_name
from imagesync.errors import UsageError
from imagesync.plan.install_commands import install_command
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.requirements import applies
from imagesync.scan.environment import Environment, Finding, Package, Severity

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName


def parse_additions(
    lines: Iterable[str], markers: Mapping[str, str], environment: Environment
) -> dict[NormalizedName, Requirement]:
    """Return the added requirements whose markers hold for the image, by canonical name.

    Several requirements for one name are combined.

    Raises
    ------
    UsageError
        A line isn't a valid requirement, or has a URL.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    added: dict[NormalizedName, Requirement] = {}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"The setting 'add.pip' holds '{redact(line)}', which isn't a requirement: {redact(reason)}",
                hint="Write a name, with extras and versions where needed, such as 'torch[opt-einsum]>=2.4'.",
            ) from None
        if requirement.url:
            raise UsageError(
                f"The setting 'add.pip' gives a URL for {requirement.name}, and only packages of an index "
                "can be added.",
                hint="Install it in your environment, and the image gets it from there: "
                + install_command(environment, [redact(line)]),
            )
        if not applies(requirement, markers):
            continue
        name = canonical_name(requirement.name)
        if earlier := added.get(name):
            requirement.specifier &= earlier.specifier
            requirement.extras |= earlier.extras
        added[name] = requirement
    return added


def apply_addition(
    name: NormalizedName,
    requirement: Requirement,
    *,
    planned: PlannedPackage | None,
    installed: Package | None,
) -> tuple[PlannedPackage, Finding | None]:
    """Return the planned package after an addition, and a finding if the addition overrides a local version.

    The added specifier takes precedence over the local version. Without a specifier only the extras are
    added to a package that is planned already.
    """
    extras = tuple(sorted(requirement.extras))
    specifier = str(requirement.specifier)
    if planned is not None and not specifier:
        reason = f"{planned.reason} Your setting 'add.pip' adds it for the cluster too."
        return replace(planned, extras=extras, reason=reason), None
    added = PlannedPackage(
        name=name,
        version="",
        level=Level.COMPATIBLE,
        specifier=specifier,
        reason="Your setting 'add.pip' adds it for the cluster.",
        requested=True,
        extras=extras,
    )
    if installed is None:
        return added, None
    reason = f"{added.reason} It wins over the local version {installed.version}."
    finding = Finding(
        severity=Severity.INFO,
        code="addition-wins",
        message=f"{name} {installed.version} is installed, and the image gets {name}{specifier}, "
        "because the setting 'add.pip' says so.",
        package=name,
    )
    if requirement.specifier.contains(installed.version, prereleases=True):
        kept = replace(added, version=installed.version, source=installed.source, installed=installed)
        return replace(kept, reason=reason), finding
    return replace(added, reason=reason), replace(finding, severity=Severity.WARNING)


def refuse_over_conda(installed: Package, requirement: Requirement) -> None:
    """Refuse a *requirement* that would replace a distribution of conda by one of pip.

    A requirement without versions and extras is met by the installed distribution.

    Raises
    ------
    UsageError
        The requirement has versions or extras.
    """
    if not requirement.specifier and not requirement.extras:
        return
    what = "versions" if requirement.specifier else "extras"
    raise UsageError(
        f"The setting 'add.pip' names {what} for {installed.name}, and {installed.name} {installed.version} "
        f"is conda's ({installed.conda}): a package is conda's or pip's, never both.",
        hint=f"Name what you want of {installed.conda} in 'add.conda'."
        if requirement.specifier
        else "Name the packages that the extra stands for.",
    )
