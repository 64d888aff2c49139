"""Making a plan from an environment and the user's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.core.names import Level, canonical_name
from imagesync.core.platforms import Platform
from imagesync.errors import CriticalPackageMissing, PlanError
from imagesync.plan.choose_levels import Choice, Chooser, choose_levels, make_chooser
from imagesync.plan.dependencies import Key
from imagesync.plan.install_commands import install_command, install_critical
from imagesync.plan.levels import CriticalPackage, Profile, find_profile
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
from imagesync.plan.requirements import target_markers
from imagesync.plan.settings_findings import left_out_findings, unmatched, unmatched_settings
from imagesync.plan.specifiers import arbitrary, compatible, exact, parse_version
from imagesync.plan.tools import with_requests
from imagesync.plan.undeclared_imports import ImportSearch, no_imports
from imagesync.scan.environment import Environment, Finding, Interpreter, Package, Severity
from imagesync.settings.model import Settings

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

_REFUSED = (
    "Nothing is fetched from where it was installed from, and its installed files don't do for the image."
)
_NO_SPECIFIER = "Its version can't be written as a requirement, so no index can be asked for it."
_LABEL_KEPT = "The build label '+{label}' is part of the version, so an index that has this build is needed."
_LABEL_DROPPED = "The build label '+{label}' is set aside: another build of the same version will do."
_SERIES = "Later fixes of the same release series will do."
_SHORT_VERSION = "Its version has fewer than three parts, which name no series of fixes, so it is pinned."


def make_plan(environment: Environment, *, settings: Settings, imports: ImportSearch = no_imports) -> Plan:
    """Return the plan for *environment*: the packages of the image, each with a level and a reason.

    Package names in *settings* may be written in any form, and ``*`` matches several. *imports* finds who
    imports packages that would be left out.

    Raises
    ------
    CriticalPackageMissing
        A critical package of the profile or of the settings isn't installed.
    PlanError
        No image can be made of the environment.
    UsageError
        The settings have an unknown profile or level, or an invalid requirement.
    """
    _refuse_unsupported(environment, settings)
    markers = target_markers(environment.python, settings.platform)
    environment = with_requests(environment, markers)
    profile = find_profile(settings.profile, environment)
    chooser = make_chooser(environment, settings=settings, profile=profile, markers=markers)
    choices, required = choose_levels(environment, chooser=chooser, markers=markers, imports=imports)
    _refuse_missing(environment, _all_critical(profile, chooser), profile)

    findings = unmatched_settings(environment, settings)
    findings += left_out_findings(environment, choices, required, chooser)
    planned, left_out, about_pip = _plan_pip(environment, choices, settings=settings)
    findings += about_pip
    conda, about_conda = _plan_conda(environment, choices, settings=settings)
    findings += about_conda
    if settings.add_pip:
        findings += _add(settings.add_pip, planned, conda, environment=environment, markers=markers)
        left_out = [package for package in left_out if package.name not in planned]
    left_out += [
        LeftOut(r.name, r.version, choice.level, choice.reason, bool(r.requested_spec), "conda")
        for r in environment.conda
        if not (choice := choices["conda", r.name]).kept and r.name not in conda
    ]
    provided = _provided(environment, conda.values())

    vendored = {package.name for package in planned.values() if package.vendored}
    kind = "package whose wheel is made on this machine"
    named = [entry for entry in settings.no_isolation if entry != "auto"]
    findings += unmatched("no-isolation", named, vendored, kind=kind)

    from_conda = "python" in conda
    python = _plan_python(environment.python, exactly=settings.strict or from_conda)
    names = {*planned, *(package.name for package in provided)}
    return Plan(
        python=environment.python,
        packages=tuple(sorted((python, *planned.values()), key=lambda package: package.name)),
        left_out=tuple(sorted(left_out, key=_by_weight)),
        findings=tuple(findings),
        apt=tuple(sorted(set(settings.apt))),
        profile=profile.name,
        critical_imports=tuple(
            critical.import_name for critical in profile.critical if critical.name in names
        ),
        strict=settings.strict,
        platform=settings.platform,
        conda=tuple(conda[name] for name in sorted(conda)),
        channels=environment.channels if conda else (),
        interpreter="conda" if from_conda else "base",
        provided=provided,
        replaced=environment.replaced,
        pinned=environment.pinned if conda else (),
        channel_priority=environment.channel_priority if conda else "",
    )


def _plan_pip(
    environment: Environment, choices: Mapping[Key, Choice], *, settings: Settings
) -> tuple[dict[NormalizedName, PlannedPackage], list[LeftOut], list[Finding]]:
    """Return the packages of pip that the image gets, those that are left out, and findings about them."""
    findings: list[Finding] = []
    planned: dict[NormalizedName, PlannedPackage] = {}
    left_out: list[LeftOut] = []
    for package in environment.packages:
        if package.conda:
            continue
        choice = choices["pip", package.name]
        if not choice.kept:
            left_out.append(_leave_out(package, choice))
            continue
        if package.source.refused:
            is_usable = has_usable_files(package, environment.python, settings.platform)
            findings.append(_refused_finding(package, is_usable=is_usable))
            if not is_usable:
                left_out.append(_leave_out(package, Choice(choice.level, _REFUSED, kept=False)))
                continue
        entry, about_version = _plan_package(package, choice, strict=settings.strict)
        findings += [
            replace(finding, hint=f"Install a later release: {_upgrade(environment, package)}")
            for finding in about_version
        ]
        if entry is None:
            left_out.append(_leave_out(package, Choice(choice.level, _NO_SPECIFIER, kept=False)))
        else:
            planned[package.name] = entry
    return planned, left_out, findings


def _plan_conda(
    environment: Environment, choices: Mapping[Key, Choice], *, settings: Settings
) -> tuple[dict[str, PlannedConda], list[Finding]]:
    if not environment.conda and settings.python_source != "conda" and not settings.add_conda:
        return {}, []
    from imagesync.plan.conda import plan_conda

    return plan_conda(environment, choices, settings=settings)


def _provided(environment: Environment, conda: Iterable[PlannedConda]) -> tuple[Package, ...]:
    records = {entry.name for entry in conda if entry.record is not None}
    return tuple(package for package in environment.packages if package.conda in records)


def _refuse_unsupported(environment: Environment, settings: Settings) -> None:
    python = environment.python
    if python.implementation != "cpython":
        raise PlanError(
            f"The environment runs {python.implementation} {python.version}, and an image has CPython.",
            hint="Use an environment of CPython 3.8 or later (imagesync build --python PATH).",
        )
    if python.abi.removeprefix("cp").strip("0123456789").startswith("t"):
        raise PlanError(
            f"The environment runs the free-threaded build of CPython {python.version}, and an image has the "
            "usual one.",
            hint=f"Use an environment of the usual CPython {python.minor} (imagesync build --python PATH).",
        )
    if settings.add_conda and settings.python_source == "base" and not environment.conda:
        raise PlanError(
            f"The setting 'add.conda' names {len(settings.add_conda)} conda package(s), which need conda's "
            "Python, and the setting 'python' is 'base'.",
            hint='Take the interpreter from a conda channel, too (python = "conda"), or name what is on PyPI '
            "in 'add.pip' and system packages in 'apt'.",
        )


def _all_critical(profile: Profile, chooser: Chooser) -> Iterable[CriticalPackage]:
    for critical in profile.critical:
        rule = chooser.levels.find(critical.name)
        if rule is None or rule.level is Level.CRITICAL:
            yield critical
    for name, rule in chooser.levels.names.items():
        if rule.level is Level.CRITICAL and name not in chooser.critical:
            yield CriticalPackage(canonical_name(name), "", "Your settings call it critical.")


def _refuse_missing(environment: Environment, critical: Iterable[CriticalPackage], profile: Profile) -> None:
    versions: dict[str, str] = {canonical_name(record.name): record.version for record in environment.conda}
    versions |= {package.name: package.version for package in environment.packages}
    missing = [package for package in critical if package.name not in versions]
    if not missing:
        return
    wanted = {
        package: versions.get(package.same_version_as) if package.same_version_as else None
        for package in missing
    }
    reasons = " ".join(f"{package.name}: {package.reason}" for package in missing)
    names = ", ".join(package.name for package in missing)
    way_out = "" if profile.name == "none" else "\nFor an image without a cluster, use --profile none."
    raise CriticalPackageMissing(
        f"{names} must be installed in {environment.python.prefix} (profile '{profile.name}') and "
        f"{'is' if len(missing) == 1 else 'are'} not. {reasons}",
        hint=f"{install_critical(environment, wanted)}{way_out}",
    )


def _by_weight(package: LeftOut) -> tuple[bool, bool, str]:
    # Requested packages come first, ignored ones last among them: ensurepip marks pip as requested in
    # each new virtual environment.
    return not package.requested, package.level is Level.IGNORE, package.name


def _leave_out(package: Package, choice: Choice) -> LeftOut:
    return LeftOut(package.name, package.version, choice.level, choice.reason, package.requested)


def _plan_package(
    package: Package, choice: Choice, *, strict: bool
) -> tuple[PlannedPackage | None, list[Finding]]:
    level, reason = choice.level, choice.reason
    strict = strict and level is not Level.CRITICAL
    if strict:
        level, reason = Level.EXACT, "You asked for exactly what is installed here (strict)."
    vendored = package.source.kind != "index"
    findings = []
    version = parse_version(package.version)
    if version is None:
        specifier = arbitrary(package.version)
        findings.append(_legacy_finding(package, specifier))
        if specifier is None:
            return None, findings
        reason = f"{reason} PEP 440 doesn't know its version, so exactly this one is asked for.".strip()
    elif level.is_pinned or vendored:
        specifier = exact(version)
        if version.local and not vendored:
            reason = f"{reason} {_LABEL_KEPT.format(label=version.local)}"
    else:
        specifier = compatible(version)
        reason = f"{reason} {_SHORT_VERSION if specifier.startswith('==') else _SERIES}".strip()
        if version.local:
            reason = f"{reason} {_LABEL_DROPPED.format(label=version.local)}"
    return (
        PlannedPackage(
            name=package.name,
            version=package.version,
            level=level,
            specifier=specifier,
            reason=reason,
            source=package.source,
            requested=package.requested,
            installed=package,
            strict=strict,
        ),
        findings,
    )


def _upgrade(environment: Environment, package: Package) -> str:
    return install_command(environment, [package.name], "--upgrade")


def _legacy_finding(package: Package, specifier: str | None) -> Finding:
    if specifier is None:
        message = f"{package.name} has the version {package.version!r}, which no requirement can express."
    else:
        message = (
            f"{package.name} has the version '{package.version}', which PEP 440 doesn't know; "
            "it is pinned as it is."
        )
    return Finding(
        severity=Severity.WARNING if specifier else Severity.ERROR,
        code="legacy-version",
        message=message,
        path=package.metadata_path or None,
        package=package.name,
    )


def has_usable_files(package: Package, python: Interpreter, platform: Platform) -> bool:
    """Return True if the installed files of *package* can be made into a wheel that runs on *platform*."""
    is_pure = bool(package.purelib) and all(tag.endswith("-none-any") for tag in package.tags)
    is_complete = package.has_record and package.has_identity and bool(package.tags)
    return is_complete and (is_pure or python.platform == platform.sysconfig_name)


def _refused_finding(package: Package, *, is_usable: bool) -> Finding:
    instead = (
        "the image gets its installed files."
        if is_usable
        else "its installed files don't do for the image, so it is left out."
    )
    return Finding(
        severity=Severity.WARNING if is_usable else Severity.ERROR,
        code="source-refused",
        message=f"{package.name} {package.version} isn't fetched from where it was installed from: "
        f"{package.source.refused}; {instead}",
        path=f"{package.metadata_path}/direct_url.json",
        package=package.name,
        hint="Install it again, from an index, a folder or a git URL; or leave it out yourself: "
        f"--ignore {package.name}",
    )


def _plan_python(python: Interpreter, *, exactly: bool) -> PlannedPackage:
    # Debian and builds from git end the version with a plus sign, which PEP 440 doesn't allow.
    version = python.version.rstrip("+")
    return PlannedPackage(
        name=canonical_name("python"),
        version=version,
        level=Level.CRITICAL,
        specifier=f"=={version}" if exactly else f"=={python.minor}.*",
        reason=f"Bytecode and pickled functions belong to Python {python.minor}.",
        requested=True,
    )


def _add(
    lines: Iterable[str],
    planned: dict[NormalizedName, PlannedPackage],
    conda: Mapping[str, PlannedConda],
    *,
    environment: Environment,
    markers: Mapping[str, str],
) -> list[Finding]:
    from imagesync.plan.additions import apply_addition, parse_additions, refuse_over_conda

    installed = {package.name: package for package in environment.packages}
    findings = []
    for name, requirement in parse_additions(lines, markers, environment).items():
        if name in installed and installed[name].conda in conda:
            refuse_over_conda(installed[name], requirement)
            continue
        entry = planned.get(name)
        if entry is None and name in installed and not requirement.specifier:
            entry, _ = _plan_package(installed[name], Choice(Level.COMPATIBLE, "", kept=True), strict=False)
        planned[name], finding = apply_addition(
            name, requirement, planned=entry, installed=installed.get(name)
        )
        if finding:
            findings.append(finding)
    return findings
