"""``imagesync doctor``: what a build needs, what is missing, and the command that fixes it."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from imagesync.cli.doctor_checks import Check, cache_checks, environment_checks, tool_checks
from imagesync.cli.doctor_images import ask_engine, base_of_image, engine_checks, image_checks
from imagesync.cli.options import format_option, session_of, settings_options
from imagesync.cli.output import print_json
from imagesync.cli.tables import Row, Section, Tone, print_sections
from imagesync.core.background import BackgroundCall
from imagesync.core.progress import Progress, SilentProgress
from imagesync.core.text import counted
from imagesync.core.worker_pool import WorkerPool
from imagesync.pipeline.context import Context

if TYPE_CHECKING:
    from imagesync.scan.environment import Environment
    from imagesync.settings.model import Settings

_TONES: dict[str, Tone] = {"ok": "good", "warning": "warning", "failed": "bad"}


@click.command()
@settings_options
@format_option
@click.pass_context
def doctor(context: click.Context, /, output: str, **options: object) -> None:
    """Check what a build needs, and how to fix what is missing."""
    session = session_of(context, options)
    checks = diagnose(
        session.context.settings,
        environ=session.context.environ,
        scan=session.scan,
        progress=session.context.progress,
    )
    if output == "json":
        print_json([check.to_dict() for check in checks])
    else:
        print_checks(checks)
    context.exit(0 if healthy(checks) else 1)


def healthy(checks: Iterable[Check]) -> bool:
    """Return ``True`` unless a check failed; warnings are allowed."""
    return all(check.status != "failed" for check in checks)


def diagnose(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    scan: Callable[[], Environment],
    progress: Progress | None = None,
) -> tuple[Check, ...]:
    """Return the checks of everything that a build needs; they run concurrently.

    Nothing is changed, built or pulled. A check gives up after at most 20 seconds without an answer.

    Parameters
    ----------
    settings
        They name the base image, the repository, the cache folder and the resolver.
    environ
        Environment variables, for the engine's endpoint, proxies and ``PATH``.
    scan
        Returns the environment, or raises why it can't be scanned.
    progress
        Where to report; nowhere by default.
    """
    context = Context(settings, environ=environ)
    scanned = BackgroundCall(scan)
    asked = BackgroundCall(lambda: ask_engine(context))
    groups: tuple[Callable[[], Iterable[Check]], ...] = (
        lambda: environment_checks(
            environ, scanned.result, lambda environment: base_of_image(environment, context, asked.result)
        ),
        lambda: engine_checks(context, asked.result),
        lambda: image_checks(context, scanned.result, asked.result),
        lambda: cache_checks(settings, environ),
        lambda: tool_checks(settings, environ),
    )
    progress = progress or SilentProgress()
    with (
        warnings.catch_warnings(),
        progress.task("Checking the machine", total=len(groups), unit="steps") as task,
    ):
        # urllib3 warns at every request to a host that the user has declared trusted.
        warnings.simplefilter("ignore")

        def look(group: Callable[[], Iterable[Check]]) -> tuple[Check, ...]:
            checks = tuple(group())
            task.advance(1)
            return checks

        with WorkerPool(len(groups)) as pool:
            return tuple(check for checks in pool.map(look, groups) for check in checks)


def print_checks(checks: Sequence[Check], stream: TextIO | None = None) -> None:
    """Print the results and what to do, to stdout by default."""
    rows = []
    for check in checks:
        first, *rest = check.message.splitlines() or [""]
        rows.append(Row((check.status, check.name, first), _TONES[check.status]))
        hint = textwrap.indent(check.hint, "   ").replace("  ", "->", 1) if check.hint else ""
        rows += [Row(("", "", line)) for line in (*rest, *hint.splitlines())]
    failed = sum(check.status == "failed" for check in checks)
    verdict = f"{counted(failed, 'problem')} to fix" if failed else "ready to build"
    print_sections([Section(title="", rows=tuple(rows), notes=(verdict,))], stream)
