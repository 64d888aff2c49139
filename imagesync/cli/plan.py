"""``imagesync plan``: what the image will hold, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.options import format_option, session_of, settings_options
from imagesync.cli.output import Row, Section, Tone, finding_sections, print_json, print_sections
from imagesync.core.names import Level
from imagesync.core.text import counted, format_size
from imagesync.errors import ImagesyncError
from imagesync.plan.plan import LeftOut, Plan, PlannedConda, PlannedPackage, possible_drift

if TYPE_CHECKING:
    from imagesync.plan.loose_code import Code

_LEVELS = {
    Level.CRITICAL: "the cluster doesn't work with another version",
    Level.EXACT: "this version or no image",
    Level.NEAREST: "this version if the target has it, else the nearest",
    Level.COMPATIBLE: "this version preferred, a compatible one allowed",
}


@click.command()
@settings_options
@format_option
@click.option(
    "--fail-on",
    type=click.Choice(["nearest", "any"]),
    help="Exit 1 if a package from critical to nearest isn't pinned (nearest), or any could differ (any).",
)
@click.pass_context
def plan(context: click.Context, /, output: str, fail_on: str | None, **options: object) -> None:
    """Show the packages of the image, and the reasons."""
    planned = session_of(context, options).plan()
    if output == "json":
        print_json(planned.to_dict())
    else:
        print_plan(planned)
    if fail_on and (drifting := possible_drift(planned, every=fail_on == "any")):
        raise ImagesyncError(
            f"The image could differ in: {', '.join(drifting)}.",
            hint="Pin them with --strict or --level NAME=exact, or omit --fail-on.",
        )


def print_plan(plan: Plan, stream: TextIO | None = None) -> None:
    """Print what the image will contain and why, to stdout by default."""
    print_sections(plan_sections(plan), stream)


def plan_sections(plan: Plan) -> tuple[Section, ...]:
    """Return the tables of a plan: packages by level, the closest first, then what is left out."""
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
    words = f": {_LEVELS[level]}" if level in _LEVELS else ""
    if level is Level.CRITICAL and plan.profile == "none":
        words = ": this version, and the image doesn't work with another"
    return Section(
        title=f"{level.value} ({len(conda) + len(packages)}){words}",
        headers=("package", "here", "in the image", "source", "reason"),
        rows=tuple(map(Row, (*conda, *packages))),
    )


def _of_pip(plan: Plan) -> list[PlannedPackage]:
    return [package for package in plan.packages if package.name != "python" or plan.interpreter == "base"]


def _conda_cells(package: PlannedConda) -> tuple[str, ...]:
    installed = f"{package.version} {package.build}".strip() or "-"
    return (package.name, installed, package.specifier or "any", "conda", package.reason)


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
