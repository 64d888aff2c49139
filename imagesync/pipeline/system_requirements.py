"""System requirements that the base image doesn't meet: reported, or under ``strict`` refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from imagesync.errors import BaseImageError
from imagesync.image.base import ensure_stage
from imagesync.image.base_files import base_system_files, stage_of
from imagesync.plan.checks.system_libraries import check_wheels
from imagesync.scan.environment import Finding, Severity
from imagesync.store.layout import TREES

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.image_layout import BaseImage
    from imagesync.pipeline.inputs import BuildInputs
    from imagesync.plan.checks.system_libraries import SystemFiles
    from imagesync.store.store import StoredFile


def check_installed(engine: Engine, inputs: BuildInputs, base: BaseImage, *, quiet: bool = False) -> None:
    """Check what the installed packages of *inputs* need; with *quiet*, nothing is reported.

    Raises
    ------
    BaseImageError
        The plan is strict, and an import fails on *base*.
    """
    there = _system_files(engine, inputs, base)
    _report(inputs.system_findings(there, base.root), inputs, base, quiet=quiet)


def check_fetched(
    engine: Engine,
    inputs: BuildInputs,
    base: BaseImage,
    *,
    wheels: Iterable[StoredFile],
    quiet: bool = False,
) -> None:
    """Check what *wheels* need, where the installed files say nothing about the image.

    With *quiet*, nothing is reported.

    Raises
    ------
    BaseImageError
        The plan is strict, and an import fails on *base*.
    """
    if inputs.has_image_binaries:
        return
    from packaging.utils import parse_wheel_filename

    there = _system_files(engine, inputs, base)
    named = []
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        named.append((str(name), str(version), wheel.path))
    findings = check_wheels(named, there=there, base=base.root, cache=inputs.context.cache_folder / TREES)
    _report(findings, inputs, base, quiet=quiet)


def _system_files(engine: Engine, inputs: BuildInputs, base: BaseImage) -> SystemFiles:
    """Return what the stage of *base* that the environment stands on has; it is made if it's missing."""
    context = inputs.context
    stage = stage_of(inputs.plan, context.settings)
    if stage == "minimal":
        ensure_stage(engine, base, stage, settings=context.settings, progress=context.progress)
    return base_system_files(engine, base, settings=context.settings, stage=stage, cache=context.cache_folder)


def _report(
    findings: Sequence[Finding], inputs: BuildInputs, base: BaseImage, *, quiet: bool = False
) -> None:
    failing = [finding for finding in findings if finding.severity is Severity.ERROR]
    if failing and inputs.plan.strict:
        raise BaseImageError(
            f"The base image {base.root} lacks libraries that imports need, and strict allows none to fail:\n"
            + "\n".join(f"- {finding.message}" for finding in failing),
            hint="\n".join(dict.fromkeys(finding.hint for finding in failing if finding.hint)),
        )
    for finding in () if quiet else findings:
        hint = " ".join((finding.hint or "").splitlines())
        inputs.context.progress.line(f"{finding.message} {hint}".strip(), finding.severity)
