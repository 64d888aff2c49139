"""Planning of conda packages: the installed ones, and those that the setting ``add.conda`` adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact, strip_credentials
from imagesync.core.names import Level
from imagesync.errors import UsageError
from imagesync.plan.choose_levels import PYTHON_REASON, Choice
from imagesync.plan.plan import PlannedConda
from imagesync.plan.specifiers import conda_compatible, conda_exact
from imagesync.scan.environment import CondaRecord, Environment, Finding, Severity

if TYPE_CHECKING:
    from rattler import MatchSpec

    from imagesync.plan.dependencies import Key
    from imagesync.settings.model import Settings

_SERIES = "Later fixes of the same release series will do."
_SHORT_VERSION = "Its version doesn't name a series of fixes, so it is pinned."
_ADDED = "Your setting 'add.conda' adds it for the cluster."
DEFAULT_CHANNEL = "https://conda.anaconda.org/conda-forge"


def plan_conda(
    environment: Environment, choices: Mapping[Key, Choice], *, settings: Settings
) -> tuple[dict[str, PlannedConda], list[Finding]]:
    """Return the conda packages of the image by name, and findings about them.

    If the settings require it, an environment without conda gets Python from conda, at exactly its version.

    Raises
    ------
    UsageError
        An entry of the setting ``add.conda`` can't be added.
    """
    planned = {
        record.name: _plan_record(record, choice, strict=settings.strict)
        for record in environment.conda
        if (choice := choices["conda", record.name]).kept
    }
    if "python" not in planned:
        # Debian and builds from git end the version with a plus sign.
        version = environment.python.version.rstrip("+")
        planned["python"] = PlannedConda(
            "python", version, "", Level.CRITICAL, conda_exact(version), PYTHON_REASON, requested=True
        )
    return _add(settings.add_conda, planned) if settings.add_conda else (planned, [])


def _plan_record(record: CondaRecord, choice: Choice, *, strict: bool) -> PlannedConda:
    level, reason = choice.level, choice.reason
    strict = strict and level is not Level.CRITICAL
    if strict:
        level, reason = Level.EXACT, "You asked for exactly what is installed here (strict)."
    if level.is_pinned:
        specifier = conda_exact(record.version)
    else:
        specifier = conda_compatible(record.version)
        reason = f"{reason} {_SHORT_VERSION if specifier.startswith('==') else _SERIES}".strip()
    return PlannedConda(
        name=record.name,
        version=record.version,
        build=record.build,
        level=level,
        specifier=specifier,
        reason=reason,
        requested=bool(record.requested_spec),
        record=record,
        strict=strict,
    )


def _add(
    lines: Iterable[str], planned: Mapping[str, PlannedConda]
) -> tuple[dict[str, PlannedConda], list[Finding]]:
    entries = dict(planned)
    findings = []
    for line in lines:
        spec = _parse(line)
        name, specifier = spec.name.normalized, _specifier(spec)
        entry = entries.get(name)
        if entry is None:
            entries[name] = PlannedConda(name, "", "", Level.COMPATIBLE, specifier, _ADDED, True)
        elif not specifier:
            entries[name] = replace(entry, reason=f"{entry.reason} Your setting 'add.conda' adds it too.")
        elif entry.level is Level.CRITICAL:
            raise UsageError(
                f"The setting 'add.conda' asks for {name} {specifier}, and {name} {entry.version}, which is "
                "installed here, is critical.",
                hint=f"Install the version that you want here, too, or remove '{name}' from 'add.conda'.",
            )
        else:
            matches = _matches(spec, entry)
            entries[name] = replace(
                entry,
                version=entry.version if matches else "",
                build=entry.build if matches else "",
                record=entry.record if matches else None,
                specifier=specifier,
                requested=True,
                reason=f"{_ADDED} It wins over the local version {entry.version}.",
            )
            findings.append(_override(entry, specifier, matches=matches))
    return entries, findings


def _override(entry: PlannedConda, specifier: str, *, matches: bool) -> Finding:
    return Finding(
        severity=Severity.INFO if matches else Severity.WARNING,
        code="addition-wins",
        message=f"{entry.name} {entry.version} is installed, and the image gets {entry.name} {specifier}, "
        "because the setting 'add.conda' says so.",
        package=entry.name,
    )


def _matches(spec: MatchSpec, entry: PlannedConda) -> bool:
    from fnmatch import fnmatchcase

    from rattler import Version, VersionSpec

    version = spec.version is None or VersionSpec(spec.version).matches(Version(entry.version))
    return version and (spec.build is None or fnmatchcase(entry.build, spec.build))


def _parse(line: str) -> MatchSpec:
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    hint = "Write a name, with versions and a build where needed, such as 'pytorch >=2.4 cuda*'."
    try:
        spec = MatchSpec(line)
    except (InvalidMatchSpecError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"The setting 'add.conda' holds '{redact(line)}', which isn't a match spec: {redact(reason)}",
            hint=hint,
        ) from None
    if spec.channel is not None:
        raise UsageError(
            f"The setting 'add.conda' names a channel in '{redact(line)}'.",
            hint="Name the channel in the setting 'channels', and here the package alone.",
        )
    if str(spec) != " ".join((spec.name.normalized, _specifier(spec))).strip():
        raise UsageError(
            f"The setting 'add.conda' holds '{redact(line)}', which says more than name, version and build.",
            hint=hint,
        )
    return spec


def _specifier(spec: MatchSpec) -> str:
    version = spec.version or ("*" if spec.build else "")
    return f"{version} {spec.build or ''}".strip()


def with_channels(
    environment: Environment, channels: Sequence[str], *, environ: Mapping[str, str]
) -> Environment:
    """Return *environment* with the channels that provide the conda packages of its image.

    Parameters
    ----------
    environment
        Its own channels are used if *channels* is empty.
    channels
        Names or URLs from the settings. Without any and without channels of *environment*: those of conda's
        configuration, or else conda-forge.
    environ
        Environment variables, which conda's configuration depends on.

    Raises
    ------
    ScanError
        conda's configuration can't be read.
    """
    if environment.channels and not channels:
        return environment
    # Lazy, because an environment without conda packages never reads conda's configuration.
    from imagesync.indexes.conda.conda_configuration import read_conda_configuration

    configuration = read_conda_configuration(Path(environment.python.prefix), environ)
    urls = [strip_credentials(url) for url in configuration.urls(channels)] if channels else None
    found = configuration.public_urls if urls is None else tuple(dict.fromkeys(urls))
    return replace(
        environment, channels=found or (DEFAULT_CHANNEL,), channel_priority=configuration.channel_priority
    )
