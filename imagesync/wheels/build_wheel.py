"""Building wheels from source trees (PEP 517), isolated or in the scanned environment."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.build_log import BuildLog, open_log
from imagesync.core.credentials import redact
from imagesync.core.files import disk_hint, parse_toml
from imagesync.core.progress import Severity
from imagesync.core.scratch import fixed_folder, private_folder, remove_abandoned, scratch_folder
from imagesync.errors import ModuleMissing, WheelError
from imagesync.wheels.build_environments import (
    PYTHON_VARIABLES,
    BuildRequest,
    IsolatedEnvironment,
    Runner,
    ScannedEnvironment,
)
from imagesync.wheels.build_requirements import FRESH
from imagesync.wheels.kept_environment import remove_kept

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.locked_packages import LockedPackage, VendoredPackage

# What reading an answer raises: a back-end may answer with whatever JSON can hold.
_UNEXPECTED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
_LARGEST_ANSWER = 16 << 20
# The earliest time that zip supports.
SOURCE_DATE_EPOCH = "315532800"


def build_wheel(request: BuildRequest, *, output: Path, progress: Progress) -> Path:
    """Return the wheel that the project's backend builds, in the folder *output*.

    Warnings of the backend go to the log, and one line on *progress* names the package.

    Raises
    ------
    ModuleMissing
        The backend imports a module that isn't installed where it runs.
    WheelError
        The project can't be built, and the message has the end of the log; or a build requirement of a build
        without isolation isn't installed.
    """
    from build import BuildException, ProjectBuilder

    place = output.parent / "environment"
    place.mkdir(parents=True)
    with open_log(request.log) as log:
        run = Runner(log)
        warnings: list[str] = []
        environment = (
            IsolatedEnvironment(place, request, run)
            if request.installed is None
            else ScannedEnvironment(request, request.installed)
        )
        backend_environ = {
            **{key: value for key, value in os.environ.items() if key not in PYTHON_VARIABLES},
            **backend_variables(request.name, request.version, request.commit),
        }

        def call_hook(
            cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
        ) -> None:
            run(
                cmd,
                cwd=cwd,
                environ={**backend_environ, **environment.make_extra_environ(), **(extra_environ or {})},
            )
            warnings.extend(_take_warnings(Path(cmd[-1], "output.json")))

        try:
            # Before the backend runs, which may change what is in the source tree.
            settings = _backend_settings(request.source, output.parent / "backend")
            builder = ProjectBuilder(request.source, environment.python_executable, call_hook)
            environment.create(builder.build_system_requires)
            environment.install(builder.get_requires_for_build("wheel"))
            wheel = Path(builder.build("wheel", output, settings))
            if wheel.parent != output or not wheel.is_file():
                raise OSError(f"its back-end has made no file {wheel.name[:200]!r}")  # noqa: TRY301
        except (BuildException, subprocess.CalledProcessError, OSError, *_UNEXPECTED) as error:
            raise _failure(request, error, log) from error
        except Exception as error:
            # BuildBackendException and the errors of pyproject_hooks have no public base.
            if type(error).__module__.partition(".")[0] not in ("build", "pyproject_hooks"):
                raise
            raise _failure(request, error, log) from error
        environment.keep()
        _report(dict.fromkeys(warnings), request, log, progress)
        return wheel


def _backend_settings(source: Path, folder: Path) -> dict[str, str]:
    """Return the config settings of the backend: a build folder for those that would make a random one."""
    try:
        document = parse_toml((source / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    system = document.get("build-system")
    backend = str(system.get("build-backend", "")) if isinstance(system, dict) else ""
    if backend.partition(".")[0] == "mesonpy":
        return {"build-dir": os.fspath(folder)}
    tool = document.get("tool")
    settings = tool.get("scikit-build") if isinstance(tool, dict) else None
    if backend.startswith("scikit_build_core") and not (
        isinstance(settings, dict) and "build-dir" in settings
    ):
        return {"build-dir": os.fspath(folder)}
    return {}


def _take_warnings(output: Path) -> list[str]:
    """Return the warnings in the answer of a hook, and remove them from it.

    pyproject_hooks would issue them again in this process, without the name of the package.

    Raises
    ------
    OSError
        There is no answer, or something else in its place, which pyproject_hooks would read all the same.
    """
    try:
        state = output.lstat()
    except OSError as error:
        raise OSError("its back-end has ended without an answer") from error
    if not stat.S_ISREG(state.st_mode) or state.st_size > _LARGEST_ANSWER:
        raise OSError("its back-end has put something else in place of its answer")
    try:
        answer = json.loads(output.read_text(encoding="utf-8"))
        found = [str(warning["message"]) for warning in answer.pop("warnings", ())]
        output.write_text(json.dumps(answer), encoding="utf-8")
    except (OSError, *_UNEXPECTED):
        return []  # a malformed answer; pyproject_hooks reads it
    return found


def _report(warnings: Collection[str], request: BuildRequest, log: BuildLog, progress: Progress) -> None:
    if not warnings:
        return
    for warning in warnings:
        log.line(f"warning: {warning.strip()}")
    lines = (line.strip(" *!") for line in next(iter(warnings)).splitlines())
    first = redact(next(filter(None, lines), ""))
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    progress.line(
        f"{request.name} {request.version}: its build back-end warns: {first}{more}; "
        f"the log is {request.log}",
        Severity.WARNING,
    )


def backend_variables(name: str, version: str, commit: str = "") -> dict[str, str]:
    """Return the variables of a backend: stable times, and the installed version for version control.

    A commit after the installation changes the code but not the installed metadata, which other packages see.

    Parameters
    ----------
    name, version, commit
        As in :class:`~imagesync.wheels.build_environments.BuildRequest`.
    """
    environ = {"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH)}
    identifier = name.replace("-", "_").replace(".", "_").upper()
    if version:
        # hatch-vcs doesn't tell setuptools-scm for which project it asks.
        environ["SETUPTOOLS_SCM_PRETEND_VERSION"] = version
        environ[f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{identifier}"] = version
        environ["POETRY_DYNAMIC_VERSIONING_BYPASS"] = version
        environ["UV_DYNAMIC_VERSIONING_BYPASS"] = version
        environ["PDM_BUILD_SCM_VERSION"] = version
        environ["PBR_VERSION"] = version
    if version and commit:
        # With a pretended version setuptools-scm asks git nothing, and writes `__commit_id__ = None`.
        environ["SETUPTOOLS_SCM_PRETEND_METADATA"] = f'{{node = "g{commit[:9]}"}}'
    return environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


def _failure(request: BuildRequest, error: Exception, log: BuildLog) -> WheelError:
    # The error of a backend that can't be imported is in the exception, not in the log.
    for line in getattr(getattr(error, "exception", error), "traceback", "").splitlines():
        log.line(line)
    reason = "" if isinstance(error, subprocess.CalledProcessError) else redact(str(error))
    failed = failure(request.name, request.version, log.end, request.log, reason=reason)
    if full := disk_hint(failed.message):
        return WheelError(failed.message, hint=f"{full}\nAll of the log is in {request.log}.")
    if not log.missing_module:
        return failed
    return ModuleMissing(failed.message, hint=failed.hint, module=log.missing_module)


def failure(name: str, version: str, end: Iterable[str], log: Path, *, reason: str = "") -> WheelError:
    """Return the error of a failed build.

    *end* has the last lines of the log, and *log* is its file. *reason* is empty if the log has it.
    """
    lines = "\n".join(f"    {line}" for line in end)
    return WheelError(
        f"{name} {version}: no wheel can be built from its sources"
        + (f": {reason}" if reason else "")
        + (f"\nThe end of the log:\n{lines}" if lines else ""),
        hint=f"All of the log is in {log}. To leave the package out, add it to `ignore`.",
    )


def refuse_builds(packages: Sequence[VendoredPackage | LockedPackage]) -> WheelError:
    """Return the error of ``--no-build`` for *packages*, which only a build back-end can make wheels of."""
    labels = [f"{package.name} {package.version}" for package in packages]
    ignored = " ".join(f"--ignore {package.name}" for package in packages)
    one = len(labels) == 1
    return WheelError(
        f"{', '.join(labels)}: {'there is no wheel' if one else 'there are no wheels'}, and with --no-build "
        "no build back-end is run.",
        hint=f"Leave {'it' if one else 'them'} out ({ignored}), install {'it' if one else 'each'} from "
        f"a wheel, or build without --no-build if you trust {'its' if one else 'their'} sources.",
    )


@contextlib.contextmanager
def build_folder(name: str) -> Iterator[Path]:
    """Provide an empty folder for a build of the package *name*, and remove it afterwards.

    It has the same path each time, because compilers and back-ends keep paths in a wheel: in debugging
    information, in ``__FILE__``, in generated modules. Another build of the package waits for this one.
    """
    parent = private_folder()
    if parent is not None:
        remove_abandoned(parent)
        remove_kept(older_than=FRESH)
        with fixed_folder(parent, name) as folder:
            if folder is not None:
                yield folder
                return
    with scratch_folder(name) as folder:
        yield folder
