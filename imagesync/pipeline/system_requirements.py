"""System requirements that the base image doesn't meet: reported, or under ``strict`` refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesync.errors import BaseImageError
from imagesync.image.base import ensure_stage
from imagesync.image.base_files import base_system_files, remember_system_files, stage_of
from imagesync.plan.checks.system_libraries import check_wheels
from imagesync.scan.environment import Finding, Severity
from imagesync.store.layout import TREES

if TYPE_CHECKING:
    from pathlib import Path

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
    there = _system_files(engine, inputs, base)
    findings = check_wheels(
        _named(wheels),
        platform=inputs.plan.platform,
        there=there,
        base=base.root,
        cache=inputs.context.cache_folder / TREES,
    )
    _report(findings, inputs, base, quiet=quiet)


def check_layers(
    inputs: BuildInputs, base: BaseImage, *, listed: Mapping[str, list[str]], wheels: Iterable[StoredFile]
) -> None:
    """Report what the packages of *inputs* need of a base image that no engine has.

    Parameters
    ----------
    inputs
        The inputs of the build.
    base
        The base image.
    listed
        Its libraries and programs.
    wheels
        The wheels that are here, which tell it where the installed files say nothing about the image.
    """
    context = inputs.context
    stage, cache = stage_of(inputs.plan, context.settings), context.cache_folder
    there = remember_system_files(listed, base, settings=context.settings, stage=stage, cache=cache)
    findings = (
        inputs.system_findings(there, base.root)
        if inputs.has_image_binaries
        else check_wheels(
            _named(wheels), platform=inputs.plan.platform, there=there, base=base.root, cache=cache / TREES
        )
    )
    # The hints say which Debian packages bring them.
    way = "That needs a container engine; else name a base image that has it (--base)."
    hinted = [replace(each, hint=f"{each.hint} {way}") if each.hint else each for each in findings]
    _report(hinted, inputs, base)


def _named(wheels: Iterable[StoredFile]) -> Iterator[tuple[str, str, Path]]:
    from packaging.utils import parse_wheel_filename

    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        yield str(name), str(version), wheel.path


def _system_files(engine: Engine, inputs: BuildInputs, base: BaseImage) -> SystemFiles:
    """Return the files of the stage of *base* that the environment needs; a missing stage is made."""
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
        # The image is built all the same, so nothing is reported as an error.
        severity = Severity.INFO if finding.severity is Severity.INFO else Severity.WARNING
        inputs.context.progress.line(f"{finding.message} {hint}".strip(), severity)
