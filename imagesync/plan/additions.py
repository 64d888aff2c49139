"""Requirements that a user adds for the cluster (``[tool.imagesync.add]``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact
from imagesync.core.names import Level, canonical_name
from imagesync.errors import UsageError
from imagesync.plan.plan import PlannedPackage
from imagesync.plan.requirements import applies
from imagesync.scan.environment import Finding, Package, Severity

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName


def parse_additions(lines: Iterable[str], markers: Mapping[str, str]) -> dict[NormalizedName, Requirement]:
    """Return the added requirements that hold for the image, by canonical name.

    Parameters
    ----------
    lines
        PEP 508 requirements. Two for one name are taken together.
    markers
        The image's marker values.

    Raises
    ------
    UsageError
        A line isn't a requirement, or names a URL.
    """
    # Only where something is added: 10 ms that an ordinary hit doesn't pay.
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
                hint=f"Install it in your environment (python -m pip install '{redact(line)}'): then the "
                "image gets it from there.",
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
    """Return the planned package after an addition, and what to tell the user about it.

    The added specifier wins over the local version. Without a specifier only the extras
    are added to a package that is planned anyway.
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
    """Stop where *requirement* would put a distribution of pip's over the one that conda provides.

    Raises
    ------
    UsageError
        It names versions or extras; its bare name is met by conda's.
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
