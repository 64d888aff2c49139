"""What ``scan``, ``plan`` and ``lock`` answer a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from imagesync.cli.section import Row, Section, Tone, print_sections
from imagesync.core.names import Level
from imagesync.core.text import counted, format_size
from imagesync.lock.lock import Artifact, Deviation, Lock, LockedConda, LockedPackage
from imagesync.plan.loose_code import Code
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage
from imagesync.scan.environment import CondaRecord, Environment, Finding, Severity, Source

if TYPE_CHECKING:
    from imagesync.cli.doctor import Check

_TONES: dict[Severity, Tone] = {Severity.ERROR: "bad", Severity.WARNING: "warning", Severity.INFO: "quiet"}
_STATUS_TONES: dict[str, Tone] = {"ok": "good", "warning": "warning", "failed": "bad"}
_SEVERITIES = [Severity.ERROR, Severity.WARNING, Severity.INFO]
_LEVELS = {
    Level.CRITICAL: "the cluster doesn't work with another version",
    Level.EXACT: "this version if the target has it, else the nearest",
    Level.COMPATIBLE: "this version preferred, a compatible one allowed",
}


def print_environment(environment: Environment, stream: TextIO | None = None) -> None:
    """Print what a scan found, to stdout if no *stream* is given."""
    print_sections(environment_sections(environment), stream)


def print_plan(plan: Plan, stream: TextIO | None = None) -> None:
    """Print what the image will hold and why, to stdout if no *stream* is given."""
    print_sections(plan_sections(plan), stream)


def print_lock(lock: Lock, stream: TextIO | None = None) -> None:
    """Print what the image holds exactly, to stdout if no *stream* is given."""
    print_sections(lock_sections(lock), stream)


def environment_sections(environment: Environment) -> tuple[Section, ...]:
    """Return what a scan found: the interpreter, the packages, the findings."""
    python = environment.python
    title = f"{python.implementation} {python.version} ({python.platform}) in {python.prefix}"
    rows = tuple(
        Row((p.name, p.version, p.manager, _yes_no(p.requested), source_text(p.source)))
        for p in environment.packages
        if not p.conda
    )
    notes = [_summary(environment)]
    if environment.channels:
        notes.insert(0, f"channels: {' '.join(environment.channels)}")
    headers = ("package", "version", "manager", "requested", "source")
    packages = Section("from pip" if environment.conda else title, headers, rows, notes=tuple(notes))
    findings = finding_sections(environment.findings)
    if not environment.conda:
        return (packages, *findings)
    conda = _conda_section(environment, title)
    if not rows:
        return (replace(conda, notes=packages.notes), *findings)
    return (conda, packages, *findings)


def _conda_section(environment: Environment, title: str) -> Section:
    shown = _short_names({record.channel for record in environment.conda})
    rows = tuple(
        Row((r.name, r.version, r.build, r.requested_spec or "-", shown[r.channel], _others(r)))
        for r in environment.conda
    )
    headers = ("conda package", "version", "build", "requested", "channel", "distributions")
    return Section(title, headers, rows)


def _short_names(channels: Iterable[str]) -> dict[str, str]:
    """Return for each channel the last part of its URL, or the whole where others end alike."""
    last = {channel: channel.rpartition("/")[2] or "-" for channel in channels}
    names = list(last.values())
    return {channel: name if names.count(name) == 1 else channel for channel, name in last.items()}


def _others(record: CondaRecord) -> str:
    """Return the distributions of *record*, where it isn't one of the same name."""
    return "" if record.distributions == (record.name,) else " ".join(record.distributions)


def _summary(environment: Environment) -> str:
    kinds = [p.source.kind for p in environment.packages if not p.conda]
    local = {
        "from directories": kinds.count("directory"),
        "from repositories": kinds.count("vcs"),
        "from archives": kinds.count("archive"),
    }
    conda = [counted(len(environment.conda), "conda package")] if environment.conda else []
    of_pip = f"{len(kinds)} from pip" if conda else counted(len(kinds), "package")
    parts = [*conda, of_pip] + [f"{number} {words}" for words, number in local.items() if number]
    return ", ".join(parts)


def source_text(source: Source) -> str:
    """Return a source in a few words, the commit shortened as git does."""
    if source.kind == "index":
        return "index"
    if source.kind == "directory":
        return f"{'editable ' if source.editable else ''}directory {source.url or '(unknown)'}"
    if source.refused:
        return f"{source.vcs or 'vcs'}, refused"
    if source.kind == "vcs":
        commit = f" at {source.commit[:12]}" if source.commit else ""
        revision = f" ({source.requested_revision})" if source.requested_revision else ""
        return f"{source.vcs or 'vcs'} {source.url or '(unknown)'}{commit}{revision}"
    return f"archive {source.url or '(unknown)'}"


def finding_sections(findings: Iterable[Finding]) -> tuple[Section, ...]:
    """Return findings with the gravest first, or nothing where there are none."""
    ordered = sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))
    if not ordered:
        return ()
    rows = [
        Row((finding.severity.value, finding.code, _finding_text(finding)), _TONES[finding.severity])
        for finding in ordered
    ]
    return (Section(title=counted(len(ordered), "finding"), rows=tuple(rows)),)


def _finding_text(finding: Finding) -> str:
    text = finding.message
    if finding.path and finding.path not in text:
        text = f"{text} ({finding.path})"
    return f"{text} -> {finding.hint}" if finding.hint else text


def plan_sections(plan: Plan) -> tuple[Section, ...]:
    """Return what the image will hold and why: by level, the closest first, then what stays out."""
    levels = [_level_section(plan, level) for level in Level]
    missed = [package for package in plan.left_out if package.missed]
    rest = [package for package in plan.left_out if not package.missed]
    title = f"you asked for {counted(len(missed), 'package')} that won't be in the image"
    sections = [*_left_out_section(title, missed, "warning")]
    sections += [section for section in levels if section.rows]
    sections += _left_out_section(f"left out: {counted(len(rest), 'package')} not in the image", rest)
    sections += [*code_sections(plan.code), *finding_sections(plan.findings)]
    return (*sections, _plan_summary(plan))


def _left_out_section(title: str, left_out: Sequence[LeftOut], tone: Tone = "plain") -> tuple[Section, ...]:
    if not left_out:
        return ()
    rows = tuple(Row((p.name, p.version, p.level.value, p.reason), tone) for p in left_out)
    return (Section(title, ("package", "version", "level", "reason"), rows, tone=tone),)


def code_sections(code: Code) -> tuple[Section, ...]:
    """Return what goes in of the code that no package owns, or nothing where none was named."""
    if not code.paths:
        return ()
    rows = [
        Row(
            (
                path.path,
                " ".join(path.modules) or "-",
                str(len(path.files)),
                format_size(path.size),
                str(len(path.left_out)),
            )
        )
        for path in code.paths
    ]
    title = f"loose code: {counted(sum(1 for _ in code.files), 'file')}, {format_size(code.size)}"
    headers = ("path", "modules", "files", "size", "left out")
    return (Section(title, headers, tuple(rows), frozenset({2, 3, 4})),)


def _level_section(plan: Plan, level: Level) -> Section:
    # A conda environment's Python is one of its packages.
    conda = [_conda_cells(package) for package in plan.conda if package.level is level]
    packages = [_planned_cells(p) for p in _of_pip(plan) if p.level is level]
    words = f": {_LEVELS[level]}" if level in _LEVELS else ""
    return Section(
        title=f"{level.value} ({len(conda) + len(packages)}){words}",
        headers=("package", "here", "in the image", "source", "reason"),
        rows=tuple(map(Row, (*conda, *packages))),
    )


def _of_pip(plan: Plan) -> list[PlannedPackage]:
    return [package for package in plan.packages if package.name != "python" or plan.interpreter == "base"]


def _conda_cells(package: PlannedConda) -> tuple[str, ...]:
    here = f"{package.version} {package.build}".strip() or "-"
    return (package.name, here, package.specifier or "any", "conda", package.reason)


def _planned_cells(package: PlannedPackage) -> tuple[str, ...]:
    name = f"{package.name}[{','.join(package.extras)}]" if package.extras else package.name
    source = "editable" if package.source.editable else package.source.kind
    return (name, package.version or "-", package.specifier or "any", source, package.reason)


def _plan_summary(plan: Plan) -> Section:
    parts = [
        f"profile {plan.profile}{', strict' if plan.strict else ''}",
        *([counted(len(plan.conda), "conda package")] if plan.conda else []),
        f"{len(_of_pip(plan))} from pip" if plan.conda else counted(len(plan.packages), "package"),
        f"{len(plan.left_out)} left out",
        counted(len(plan.findings), "finding"),
    ]
    notes = [f"target {plan.platform}, Python {plan.python.minor}: {', '.join(parts)}"]
    if plan.apt:
        notes.insert(0, f"system packages: {' '.join(plan.apt)}")
    if plan.channels:
        notes.insert(0, f"channels: {' '.join(plan.channels)}")
    return Section(title="", notes=tuple(notes))


def lock_sections(lock: Lock) -> tuple[Section, ...]:
    """Return what the image holds exactly: what differs from here first, then every artifact."""
    sections = [*deviation_sections(lock.deviations)]
    if lock.repacked:
        rows = [Row((p.name, p.version, p.repacked), "warning") for p in lock.repacked]
        title = f"{counted(len(rows), 'package')} repacked from the installed files"
        sections.append(Section(title, ("package", "version", "reason"), tuple(rows), tone="warning"))
    own = [package for package in lock.vendored if not package.repacked]
    if own:
        rows = [Row((p.name, p.version, source_text(p.planned.source))) for p in own]
        sections.append(Section("wheels made on this machine", ("package", "version", "source"), tuple(rows)))
    headers = ("package", "version", "size", "artifact")
    fetched: dict[str, Sequence[LockedConda | LockedPackage]] = {
        "from conda channels": lock.conda,
        "from the indexes": lock.packages,
    }
    for title, packages in fetched.items():
        if packages:
            rows = [Row((p.name, p.version, _size(p.artifact), p.artifact.filename)) for p in packages]
            sections.append(Section(f"artifacts {title}", headers, tuple(rows), frozenset({2})))
    target = lock.target
    sizes = [package.artifact.size for packages in fetched.values() for package in packages]
    known = sum(size for size in sizes if size is not None)
    at_least = "at least " if None in sizes else ""
    conda = f"{counted(len(lock.conda), 'conda package')}, " if lock.conda else ""
    of_pip = len(lock.packages) + len(lock.vendored)
    where = "to fetch" if lock.conda else "from indexes"
    notes = (
        f"{target.platform}, {target.implementation} {target.python_version}, "
        f"glibc {'.'.join(str(part) for part in target.glibc)}, resolver {lock.resolver}",
        f"{conda}{f'{of_pip} from pip' if lock.conda else counted(of_pip, 'package')}, "
        f"{at_least}{format_size(known)} {where}, {counted(len(lock.deviations), 'deviation')}",
        f"lock {lock.digest}",
    )
    return (*sections, Section(title="", notes=notes))


def _size(artifact: Artifact) -> str:
    return "" if artifact.size is None else format_size(artifact.size)


def deviation_sections(deviations: Sequence[Deviation]) -> tuple[Section, ...]:
    """Return what differs between here and the image, or nothing where nothing does."""
    if not deviations:
        return ()
    rows = [
        Row((d.name, d.local, d.locked or "left out", d.level.value, d.reason), "warning") for d in deviations
    ]
    title = f"{counted(len(rows), 'deviation')} from the local environment"
    headers = ("package", "here", "in the image", "level", "reason")
    return (Section(title, headers, tuple(rows), tone="warning"),)


def _yes_no(value: bool | None) -> str:
    return "-" if value is None else ("yes" if value else "no")


def print_checks(checks: Sequence[Check], stream: TextIO | None = None) -> None:
    """Print what ``imagesync doctor`` found, to stdout if no *stream* is given."""
    rows = []
    for check in checks:
        rows.append(Row((check.status, check.name, check.message), _STATUS_TONES[check.status]))
        if check.hint is not None:
            rows.append(Row(("", "", f"-> {check.hint}")))
    failed = sum(check.status == "failed" for check in checks)
    verdict = f"{counted(failed, 'problem')} to mend" if failed else "ready to build"
    print_sections([Section(title="", rows=tuple(rows), notes=(verdict,))], stream)
