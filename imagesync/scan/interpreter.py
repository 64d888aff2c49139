# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH114, PTH118, PTH119, PTH120
"""Interpreters: finding one, and probing it for its version, platform and path."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagesync.core.credentials import redact
from imagesync.errors import ScanError
from imagesync.scan.environment import Interpreter
from imagesync.standalone.programs import program_path

MARKER = "--- imagesync probe ---"
OLDEST = (3, 8)
_TIMEOUT = 60.0
INTERPRETER_HINT = "Name an interpreter: imagesync scan --python PATH"
INTERPRETER_PATHS = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")
"""The paths of an interpreter below its environment."""


@dataclass(frozen=True)
class ProbeAnswer:
    """The answer of the probe.

    Parameters
    ----------
    interpreter
        The interpreter.
    path
        Its ``sys.path`` with the entries of ``.pth`` files, without the standard library.
    """

    interpreter: Interpreter
    path: tuple[str, ...]


def named_interpreter(python: Path, environ: Mapping[str, str]) -> str:
    """Return the executable that *python* names: a path, a command on ``PATH``, or an environment's folder.

    Links are not resolved: the interpreter of a virtual environment is a link, and its own path matters.

    Raises
    ------
    ScanError
        There is no interpreter there.
    """
    name = os.path.expanduser(python)
    if os.path.isdir(name):
        return interpreter_of(name, name)
    if os.path.exists(name):
        return os.path.abspath(name)
    if os.path.islink(name):
        raise _dangling(name)
    if os.path.basename(name) == name:
        import shutil

        found = shutil.which(name, path=environ.get("PATH"))
        if found:
            return os.path.abspath(found)
        raise ScanError(f"there is no {name} here, nor on PATH", hint=INTERPRETER_HINT)
    raise ScanError(f"{name} doesn't exist", hint=INTERPRETER_HINT)


def interpreter_of(folder: str, subject: str) -> str:
    """Return the interpreter of the environment in *folder*.

    Parameters
    ----------
    folder
        The prefix of the environment.
    subject
        Begins the error message if there is none.

    Raises
    ------
    ScanError
        There is no interpreter there.
    """
    for place in INTERPRETER_PATHS:
        path = os.path.join(os.path.abspath(folder), *place.split("/"))
        if os.path.exists(path):
            return path
        if os.path.islink(path):
            raise _dangling(path)
    raise ScanError(
        f"{subject} holds no Python interpreter",
        hint=f"Install Python there. {INTERPRETER_HINT}",
    )


def _dangling(path: str) -> ScanError:
    target = os.path.realpath(path)
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    return ScanError(
        f"{path} is a link to {target}, which doesn't exist: the Python that it was made from is gone",
        hint=f"Make the environment anew, or read its files only: imagesync scan --prefix {prefix}",
    )


class Probe:
    """The probe, running in the scanned interpreter while this process goes on.

    Parameters
    ----------
    executable
        The interpreter.
    environ
        The user's environment variables; those that change an interpreter are kept from the probe.

    Raises
    ------
    ScanError
        *executable* can't be run.
    """

    def __init__(self, executable: str, environ: Mapping[str, str]) -> None:
        self._executable = executable
        self._environ = environ
        command = [executable, "-I", "-B", str(program_path("host.probe"))]
        if environ.get("PYTHONNOUSERSITE"):
            command.append("--no-user-site")
        self._process = _start(command, environ)

    def answer(self) -> ProbeAnswer:
        """Wait for the answer of the probe, and return it.

        Raises
        ------
        ScanError
            It isn't a Python of 3.8 or later, or it fails.
        """
        answer = _finish(self._process)
        _, marker, document = answer.stdout.rpartition(MARKER)
        if answer.returncode != 0 or not marker:
            raise _explain(self._executable, answer, self._environ)
        try:
            facts = ast.literal_eval(document.strip())
            library = facts.pop("standard_library")
            path = facts.pop("path")
            interpreter = Interpreter(**facts)
        except (ValueError, KeyError, TypeError, AttributeError, SyntaxError):
            raise _explain(self._executable, answer, self._environ) from None
        if _minor(interpreter.version) < OLDEST:
            raise _too_old(self._executable, interpreter.version)
        skipped = {library, os.path.join(library, "lib-dynload")}
        return ProbeAnswer(interpreter, tuple(folder for folder in path if folder not in skipped))


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without variables that change an interpreter; ``-I`` ignores most, not all."""
    return {
        key: value
        for key, value in environ.items()
        if not key.startswith("PYTHON") and key != "__PYVENV_LAUNCHER__"
    }


def _start(command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            env=_clean(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise ScanError(
            f"{command[0]} can't be run: {error.strerror}",
            hint=f"It isn't a Python interpreter for this machine. {INTERPRETER_HINT}",
        ) from None


def _finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    assert isinstance(process.args, list)  # noqa: S101  _start gives a list
    executable = process.args[0]
    with process:
        try:
            stdout, stderr = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ScanError(
                f"{executable} didn't answer within {_TIMEOUT:.0f} s",
                hint="A .pth file or sitecustomize of that environment may hang at start-up.",
            ) from None
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _explain(
    executable: str, answer: subprocess.CompletedProcess[str], environ: Mapping[str, str]
) -> ScanError:
    """Return the error for a probe without an answer; ``-V`` tells an old Python from no Python."""
    asked = _finish(_start([executable, "-V"], environ))
    words = (asked.stdout or asked.stderr).split()  # Python 2 answers on stderr
    if asked.returncode != 0 or len(words) < 2 or words[0] != "Python":
        return ScanError(f"{executable} isn't a Python interpreter", hint=INTERPRETER_HINT)
    if _minor(words[1]) < OLDEST:
        return _too_old(executable, words[1])
    lines = redact(answer.stderr).strip().splitlines()
    return ScanError(
        f"{executable} (Python {words[1]}) failed to start with exit code {answer.returncode}"
        + "".join(f"\n  {line}" for line in lines[-10:]),
        hint=f'Try it: {executable} -I -c "import site". Its files can be read without running it: --prefix',
    )


def _too_old(executable: str, version: str) -> ScanError:
    return ScanError(
        f"{executable} is Python {version}; imagesync scans Python 3.8 and later",
        hint=f"Make the environment with a newer Python. {INTERPRETER_HINT}",
    )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
