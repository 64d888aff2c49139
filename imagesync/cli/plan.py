"""``imagesync plan``: what the image will hold, and why."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TextIO

import click

from imagesync.cli.by_platform import divided, for_each, titled, to_json
from imagesync.cli.options import format_option, platform_option, session_of, settings_options
from imagesync.cli.output import finding_sections, print_json
from imagesync.cli.tables import Row, Section, Tone, print_sections
from imagesync.core.names import Level
from imagesync.core.terminal import is_interactive
from imagesync.core.text import counted, format_size
from imagesync.errors import ImagesyncError
from imagesync.plan.loose_code import Code
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage, possible_drift
from imagesync.scan.environment import Severity

_LEVELS = {
    Level.CRITICAL: "the cluster doesn't work with another version",
    Level.EXACT: "this version or no image",
    Level.NEAREST: "this version if the target has it, else the nearest",
    Level.COMPATIBLE: "this version preferred, a compatible one allowed",
}
_NOTHING_DIFFERS = "No package is known to differ from this environment."
_CHANGES_LOST = "Its installed files were changed, and the image gets it unchanged."


@click.command()
@settings_options
@platform_option()
@format_option
@click.option("--all", "every", is_flag=True, help="List every package, as in a pipe.")
@click.option(
    "--fail-on",
    type=click.Choice(["nearest", "any"]),
    help="Exit 1 if a package from critical to nearest isn't pinned (nearest), or any could differ (any).",
)
@click.pass_context
def plan(
    context: click.Context, /, output: str, fail_on: str | None, *, every: bool, **options: object
) -> None:
    """Show the packages of the image, and the reasons."""
    sessions = session_of(context, options).for_platforms()
    plans = for_each(sessions, lambda session: session.plan())
    if output == "json":
        print_json(to_json(plans, Plan.to_dict))
    else:
        print_plan(*plans.values(), every=every)
    if fail_on and (drifting := _drifting(plans, every=fail_on == "any")):
        raise ImagesyncError(
            f"The image could differ in: {drifting}.",
            hint="Pin them with --strict or --level NAME=exact, or omit --fail-on.",
        )


def _drifting(plans: Mapping[str, Plan], *, every: bool) -> str:
    """Return the packages that could differ, by platform where they aren't the same for each."""
    found = {platform: ", ".join(possible_drift(plan, every=every)) for platform, plan in plans.items()}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{names} ({platform})" for platform, names in found.items() if names)


def print_plan(*plans: Plan, stream: TextIO | None = None, every: bool = False) -> None:
    """Print what the image will contain and why, to stdout by default; *plans* are of several platforms.

    A terminal gets the short form unless *every* package is to be listed.
    """
    short = is_interactive(sys.stdout if stream is None else stream) and not every
    print_sections(short_sections(plans) if short else plan_sections(plans), stream)


def plan_sections(plans: Sequence[Plan]) -> tuple[Section, ...]:
    """Return the tables of plans: what differs, packages by level, the closest first, what is left out."""
    return (*_by_platform(plans, _warnings), *_by_platform(plans, _sections), _plan_summary(plans))


def _warnings(plan: Plan) -> tuple[Section, ...]:
    return (*_differing_section(plan), *_missed_section(plan))


def _sections(plan: Plan) -> tuple[Section, ...]:
    levels = [_level_section(plan, level) for level in Level]
    rest = [package for package in plan.left_out if not package.missed]
    sections = [section for section in levels if section.rows]
    sections += _left_out_section(f"left out: {counted(len(rest), 'package')} not in the image", rest)
    return (*sections, *code_sections(plan.code), *finding_sections(plan.findings))


def short_sections(plans: Sequence[Plan]) -> tuple[Section, ...]:
    """Return plans in short: what differs, is left out or needs attention, and the number of packages."""
    nothing = () if any(map(_differing_section, plans)) else (Section(_NOTHING_DIFFERS),)
    hint = "Every package with its reason: imagesync plan --all"
    return (
        *nothing,
        *_by_platform(plans, _warnings),
        *_by_platform(plans, _short_sections),
        _plan_summary(plans, hint=hint),
    )


def _short_sections(plan: Plan) -> tuple[Section, ...]:
    reasons: dict[str, list[str]] = {}
    for package in plan.left_out:
        if not package.missed:
            reasons.setdefault(package.reason, []).append(package.name)
    rows = tuple(Row((f"{', '.join(names)}: {reason}",)) for reason, names in reasons.items())
    left_out = (Section(f"left out ({sum(map(len, reasons.values()))})", rows=rows),) if rows else ()
    serious = [finding for finding in plan.findings if finding.severity is not Severity.INFO]
    return (
        *left_out,
        *code_sections(plan.code),
        *finding_sections(serious),
        *_counts_section(plan),
    )


def _by_platform(plans: Sequence[Plan], make: Callable[[Plan], tuple[Section, ...]]) -> Iterator[Section]:
    """Yield the sections of what all plans share, then those of what is in one of them alone."""
    if len(plans) == 1:
        yield from make(plans[0])
        return
    conda, conda_rests = divided([plan.conda for plan in plans])
    packages, package_rests = divided([plan.packages for plan in plans])
    left_out, left_out_rests = divided([plan.left_out for plan in plans])
    findings, finding_rests = divided([plan.findings for plan in plans])
    yield from make(replace(plans[0], conda=conda, packages=packages, left_out=left_out, findings=findings))
    for number, plan in enumerate(plans):
        rest = replace(
            plan,
            conda=conda_rests[number],
            packages=package_rests[number],
            left_out=left_out_rests[number],
            findings=finding_rests[number],
            code=Code(),
        )
        yield from titled(str(plan.platform), make(rest))


def _counts_section(plan: Plan) -> tuple[Section, ...]:
    packages = [*plan.conda, *_of_pip(plan)]
    if not packages:
        return ()
    numbers = Counter(package.level for package in packages)
    rows = tuple(
        Row((level.value, str(numbers[level]), _level_words(plan, level)))
        for level in Level
        if numbers[level]
    )
    return (Section(counted(len(packages), "package"), rows=rows, right=frozenset({1})),)


def _differing_section(plan: Plan) -> tuple[Section, ...]:
    packages: list[PlannedConda | PlannedPackage] = [*plan.conda, *_of_pip(plan)]
    rows = [
        Row((package.name, package.version or "-", package.specifier or "any", why), "warning")
        for package in packages
        if (why := _difference(package))
    ]
    if not rows:
        return ()
    title = f"{counted(len(rows), 'package')} will differ from this environment"
    headers = ("package", "here", "in the image", "reason")
    return (Section(title, headers, tuple(rows), tone="warning", shared=3, wraps=True),)


def _difference(package: PlannedConda | PlannedPackage) -> str:
    """Return why a package is known to differ in the image, or nothing."""
    if isinstance(package, PlannedConda):
        if package.record is None:
            return package.reason
        return _CHANGES_LOST if package.modification is not None else ""
    if package.installed is None:
        return package.reason if package.name != "python" else ""
    if package.modification is not None and not package.as_installed:
        return _CHANGES_LOST
    drops_label = "+" in package.version and "+" not in package.specifier and not package.vendored
    return package.reason if drops_label else ""


def _missed_section(plan: Plan) -> tuple[Section, ...]:
    missed = [package for package in plan.left_out if package.missed]
    title = f"you asked for {counted(len(missed), 'package')} that won't be in the image"
    return _left_out_section(title, missed, "warning")


def _left_out_section(title: str, left_out: Sequence[LeftOut], tone: Tone = "plain") -> tuple[Section, ...]:
    if not left_out:
        return ()
    rows = tuple(Row((p.name, p.version, p.level.value, p.reason), tone) for p in left_out)
    headers = ("package", "version", "level", "reason")
    return (Section(title, headers, rows, tone=tone, shared=3, wraps=tone != "plain"),)


def code_sections(code: Code) -> tuple[Section, ...]:
    """Return the table of loose code, or nothing if the plan has none."""
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
    words = _level_words(plan, level)
    return Section(
        title=f"{level.value} ({len(conda) + len(packages)}){f': {words}' if words else ''}",
        headers=("package", "here", "in the image", "source", "reason"),
        rows=tuple(map(Row, (*conda, *packages))),
        shared=4,
        optional=(3,),
    )


def _level_words(plan: Plan, level: Level) -> str:
    if level is Level.CRITICAL and plan.profile == "none":
        return "this version, and the image doesn't work with another"
    return _LEVELS.get(level, "")


def _of_pip(plan: Plan) -> list[PlannedPackage]:
    return [package for package in plan.packages if package.name != "python" or plan.interpreter == "base"]


def _conda_cells(package: PlannedConda) -> tuple[str, ...]:
    installed = f"{package.version} {package.build}".strip() or "-"
    return (package.name, installed, package.specifier or "any", "conda", package.reason)


def _planned_cells(package: PlannedPackage) -> tuple[str, ...]:
    name = f"{package.name}[{','.join(package.extras)}]" if package.extras else package.name
    source = "editable" if package.source.editable else package.source.kind
    return (name, package.version or "-", package.specifier or "any", source, package.reason)


def _plan_summary(plans: Sequence[Plan], *, hint: str = "") -> Section:
    plan = plans[0]
    numbers = {str(each.platform): _numbers(each) for each in plans}
    notes = [
        f"target {' and '.join(numbers)}, Python {plan.python.minor}, profile {plan.profile}"
        + (", strict" if plan.strict else ""),
        *(
            dict.fromkeys(numbers.values())
            if len(set(numbers.values())) == 1
            else (f"{platform}: {text}" for platform, text in numbers.items())
        ),
    ]
    if plan.apt:
        notes.insert(0, f"system packages: {' '.join(plan.apt)}")
    if plan.channels:
        notes.insert(0, f"channels: {' '.join(plan.channels)}")
    if hint:
        notes.append(hint)
    return Section(title="", notes=tuple(notes))


def _numbers(plan: Plan) -> str:
    remarks = sum(finding.severity is Severity.INFO for finding in plan.findings)
    parts = [
        *([counted(len(plan.conda), "conda package")] if plan.conda else []),
        f"{len(_of_pip(plan))} from pip" if plan.conda else counted(len(plan.packages), "package"),
        f"{len(plan.left_out)} left out",
        counted(len(plan.findings) - remarks, "finding"),
        *([counted(remarks, "remark")] if remarks else []),
    ]
    return ", ".join(parts)
