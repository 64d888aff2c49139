"""Planning an environment with what lies around it: loose code, changed packages, system libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.background import BackgroundCall
from imagesync.core.progress import Severity
from imagesync.image_layout import ImageOptions
from imagesync.pipeline.modified_packages import CODES as MODIFIED
from imagesync.pipeline.modified_packages import plan_modifications
from imagesync.plan.make_plan import make_plan
from imagesync.plan.undeclared_imports import import_search
from imagesync.scan.modifications.compare import find_modifications
from imagesync.store.layout import PYTHONS, TREES

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.image.conda.conda_python import ChosenPython
    from imagesync.lock.conda.channels import Channels
    from imagesync.pipeline.context import Context
    from imagesync.plan.checks.system_libraries import SystemFiles
    from imagesync.plan.plan import Plan
    from imagesync.scan.environment import Environment, Finding
    from imagesync.settings.model import Settings

# Findings of every build, also of one that finds its image.
_ALWAYS_REPORTED = MODIFIED | {
    *("required-but-left-out", "loose-pythonpath", "loose-pth", "loose-site-packages")
}


def plan_environment(environment: Environment, context: Context, *, asks_channels: bool = False) -> Plan:
    """Return the plan of an image of *environment*, with loose code and changed packages.

    The installed files are compared with what their installers wrote while everything else is planned.

    Parameters
    ----------
    environment
        The scanned environment.
    context
        The context of the command.
    asks_channels
        Whether to decide where the image's Python comes from (``python = "auto"``); channels are asked if no
        answer is cached.
    """
    settings, reason = context.settings, ""
    if asks_channels and settings.python_source == "auto" and not (environment.conda or settings.add_conda):
        choice = choose_interpreter(environment, context)
        settings, reason = replace(settings, python_source=choice.source), choice.reason
    if settings.channels or settings.add_conda or settings.python_source == "conda":
        from imagesync.plan.conda import with_channels

        environment = with_channels(environment, settings.channels, environ=context.environ)
    comparison = BackgroundCall(
        lambda: find_modifications(environment, cache=context.cache_folder / TREES, progress=context.progress)
    )
    imports = import_search(
        environment,
        code=settings.code,
        modifications=comparison.result,
        cache=context.cache_folder / TREES,
        progress=context.progress,
    )
    plan = make_plan(environment, settings=settings, imports=imports)
    plan = _with_code(plan, environment, context)
    options, findings = image_options(context)
    plan = replace(plan, options=options, findings=plan.findings + findings)
    modifications = comparison.result()
    plan = plan_modifications(plan, environment, modifications, settings)
    loose = _loose_code_findings(environment, modifications.modules, context)
    return replace(plan, findings=(*plan.findings, *loose), interpreter_reason=reason)


def _loose_code_findings(
    environment: Environment, modules: Sequence[str], context: Context
) -> Iterator[Finding]:
    from imagesync.loose_code.detect import find_loose_code

    cwd = Path.cwd()
    environ, code = _path_variables(environment, context), context.settings.code
    for folder in find_loose_code(environment, modules=modules, environ=environ, cwd=cwd, code=code):
        yield folder.to_finding(cwd)


def _path_variables(environment: Environment, context: Context) -> Mapping[str, str]:
    """Return the variables with ``PYTHONPATH``; none for a folder, which may be another platform's."""
    return context.environ if environment.python.executable else {}


def takes_own_python(environment: Environment, settings: Settings) -> bool:
    """Return True if an image that no engine builds gets the interpreter that *environment* runs."""
    if settings.python_source != "auto" or environment.conda or settings.add_conda:
        return False
    from imagesync.image.layers.standalone_python import find_standalone

    return find_standalone(environment.python) is not None


def choose_interpreter(environment: Environment, context: Context) -> ChosenPython:
    """Return the origin of the Python of a pip environment's image, with `python = "auto"`.

    Channels are asked if no answer is cached.
    """
    from imagesync.image.conda.conda_python import choose_python

    def open_(urls: tuple[str, ...]) -> Channels:
        from imagesync.pipeline.artifact_sources import open_channels

        return open_channels(urls, environment.python, context)

    return choose_python(
        environment,
        settings=context.settings,
        environ=context.environ,
        open_channels=open_,
        cache=context.cache_folder / PYTHONS,
    )


def _with_code(plan: Plan, environment: Environment, context: Context) -> Plan:
    settings = context.settings
    if not settings.code:
        return plan
    from imagesync.loose_code.collect import collect_code

    code = collect_code(
        settings.code,
        max_size=settings.code_max_size,
        environment=environment,
        platform=plan.platform,
        shipped=[*(p.name for p in plan.packages), *(p.name for p in plan.provided)],
        cache=context.cache_folder,
    )
    return replace(plan, code=code, findings=plan.findings + code.findings)


def image_options(context: Context) -> tuple[ImageOptions, tuple[Finding, ...]]:
    """Return the options of an image besides its packages, and findings about files to copy.

    Raises
    ------
    UsageError
        A file that is to be copied doesn't exist, or looks like a secret.
    """
    settings = context.settings
    default = ImageOptions()
    options = ImageOptions(
        env=settings.env,
        labels=settings.labels,
        cmd=settings.cmd or default.cmd,
        workdir=settings.workdir or default.workdir,
        user=settings.user or default.user,
        run=settings.run,
        run_network=settings.run_network and bool(settings.run),
    )
    if not settings.files:
        return options, ()
    from imagesync.loose_code.copied_files import copied_files

    files, findings = copied_files(settings.files, cache=context.cache_folder)
    return replace(options, files=files), findings


def image_findings(plan: Plan, environment: Environment, context: Context) -> Iterable[Finding]:
    """Return the findings that concern an image: odd files of packages, and modules beside scripts."""
    from imagesync.loose_code.detect import find_loose_folder
    from imagesync.pipeline.wheel_container import missing_container
    from imagesync.plan.checks.file_conflicts import check_files
    from imagesync.plan.checks.file_paths import paths_outside

    cwd = Path.cwd()
    environ, code = _path_variables(environment, context), context.settings.code
    loose = find_loose_folder(environment, environ=environ, cwd=cwd, code=code)
    files = check_files(plan, environment, cache=context.cache_folder / TREES)
    return (
        *files,
        *missing_container(plan, context),
        *paths_outside(plan),
        *(folder.to_finding(cwd) for folder in loose),
    )


def system_findings(plan: Plan, there: SystemFiles, base: str, *, cache: Path) -> tuple[Finding, ...]:
    """Return the findings about what packages of *plan* need of the system and the base image lacks.

    Parameters
    ----------
    plan
        The plan.
    there
        The libraries and programs of the base image.
    base
        Its reference, for messages.
    cache
        The folder of all caches.
    """
    from imagesync.plan.checks.system_libraries import check_system_files, local_system_files

    return check_system_files(plan, here=local_system_files(), there=there, base=base, cache=cache / TREES)


def remembered_system_findings(plan: Plan, context: Context) -> tuple[Finding, ...]:
    """Return the same findings without an engine; none if the base image hasn't been listed yet."""
    from imagesync.image.base_files import remembered_system_files, stage_of

    settings, cache = context.settings, context.cache_folder
    there = remembered_system_files(settings, stage=stage_of(plan, settings), cache=cache)
    return () if there is None else system_findings(plan, there, settings.base, cache=cache)


def report_always(plan: Plan, progress: Progress) -> None:
    """Report what concerns every build, also one that finds its image."""
    for finding in plan.findings:
        if finding.code in _ALWAYS_REPORTED:
            progress.line(finding.message, finding.severity)
    for package in plan.left_out:
        if package.missed:
            progress.line(
                f"left out: {package.name} {package.version}, though you asked for it: {package.reason}",
                Severity.DEVIATION,
            )


def report_if_not_found(plan: Plan, warnings: Iterable[Finding], progress: Progress) -> None:
    """Report the other findings of *plan*, and *warnings*: the build of an image that exists had them."""
    for finding in (*plan.findings, *warnings):
        if finding.code not in _ALWAYS_REPORTED:
            progress.line(finding.message, finding.severity)
