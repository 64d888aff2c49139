"""Building wheels from source trees (PEP 517), isolated or in the scanned environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import redact
from imagesync.errors import WheelError
from imagesync.wheels.build_environments import (
    PYTHON_VARIABLES,
    BuildRequest,
    IsolatedEnvironment,
    Runner,
    ScannedEnvironment,
)

if TYPE_CHECKING:
    from imagesync.lock.lock import LockedPackage, VendoredPackage

# The earliest time that zip supports.
SOURCE_DATE_EPOCH = "315532800"


def build_wheel(request: BuildRequest, *, output: Path) -> Path:
    """Return the wheel that the project's backend builds, in the folder *output*.

    Raises
    ------
    WheelError
        The project can't be built, and the message has the end of the log; or a build requirement of a build
        without isolation isn't installed.
    """
    from build import BuildException, ProjectBuilder

    request.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        request.log.open("w", encoding="utf-8") as log,
        tempfile.TemporaryDirectory(prefix="imagesync-") as place,
    ):
        run = Runner(log)
        environment = (
            IsolatedEnvironment(Path(place), request, run)
            if request.installed is None
            else ScannedEnvironment(request, request.installed)
        )
        backend_environ = _backend_environ(request)

        def call_hook(
            cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
        ) -> None:
            run(
                cmd,
                cwd=cwd,
                environ={**backend_environ, **environment.make_extra_environ(), **(extra_environ or {})},
            )

        try:
            environment.create()
            builder = ProjectBuilder(request.source, environment.python_executable, call_hook)
            environment.install(builder.build_system_requires)
            environment.install(builder.get_requires_for_build("wheel"))
            return Path(builder.build("wheel", output))
        except (BuildException, subprocess.CalledProcessError, OSError) as error:
            raise _failure(request, error, run) from error
        except Exception as error:
            # BuildBackendException and the errors of pyproject_hooks have no public base.
            if type(error).__module__.partition(".")[0] not in ("build", "pyproject_hooks"):
                raise
            raise _failure(request, error, run) from error


def _backend_environ(request: BuildRequest) -> dict[str, str]:
    """Return the variables of the backend: stable times, and the installed version for version control.

    A commit after the installation changes the code but not the installed metadata, which other packages see.
    """
    environ = {key: value for key, value in os.environ.items() if key not in PYTHON_VARIABLES}
    name = request.name.replace("-", "_").replace(".", "_").upper()
    if request.version:
        # hatch-vcs doesn't tell setuptools-scm for which project it asks.
        environ["SETUPTOOLS_SCM_PRETEND_VERSION"] = request.version
        environ[f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}"] = request.version
        environ["POETRY_DYNAMIC_VERSIONING_BYPASS"] = request.version
        environ["UV_DYNAMIC_VERSIONING_BYPASS"] = request.version
        environ["PDM_BUILD_SCM_VERSION"] = request.version
        environ["PBR_VERSION"] = request.version
    environ.setdefault("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH)
    return environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


def _failure(request: BuildRequest, error: Exception, run: Runner) -> WheelError:
    # The error of a backend that can't be imported is in the exception, not in the log.
    for line in getattr(getattr(error, "exception", error), "traceback", "").splitlines():
        run.note(f"{line}\n")
    reason = "" if isinstance(error, subprocess.CalledProcessError) else redact(str(error))
    return failure(request.name, request.version, run.end, request.log, reason=reason)


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
def build_folder() -> Iterator[Path]:
    """Provide a temporary folder for a build, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="imagesync-build-") as folder:
        yield Path(folder).resolve()
