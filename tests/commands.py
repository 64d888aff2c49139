"""The console script as users start it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.command_server import needs_own_start, run_command

BIN = Path(sys.executable).parent
CONSOLE_SCRIPT = BIN / "imagesync"

# What would make a command look at the tests' own environment instead of the one under test.
_OURS = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "UV_PROJECT_ENVIRONMENT",
    "PYTHONPATH",
    "PYTHONHOME",
    "SOURCE_DATE_EPOCH",
)


def clean_environ() -> dict[str, str]:
    """Return this process's environment variables without those that steer imagesync.

    The folder of the tests' own scripts isn't on ``PATH``: it would name their environment.
    """
    path = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if Path(entry) != BIN]
    return {
        key: value
        for key, value in os.environ.items()
        if key not in _OURS and not key.startswith(("IMAGESYNC_", "PYTEST_", "COV_"))
    } | {"PATH": os.pathsep.join(path)}


def git(folder: Path, *arguments: str) -> str:
    """Return the output of git in *folder*, with an identity, and with submodules of this machine allowed."""
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, encoding="utf-8"
    )
    return done.stdout.strip()


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    arguments: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return what stdout says."""
        return json.loads(self.stdout)

    @property
    def reference(self) -> str:
        """Return the one line that ``imagesync build`` prints."""
        (line,) = self.stdout.splitlines()
        return line


@dataclass(frozen=True)
class CommandLine:
    """``imagesync``, with given environment variables, in a given folder."""

    environ: Mapping[str, str]
    cwd: Path
    command: tuple[str | Path, ...] = (CONSOLE_SCRIPT,)

    def with_environ(self, **variables: str | Path) -> CommandLine:
        """Return the same command line with more environment variables."""
        return replace(
            self, environ={**self.environ, **{key: str(value) for key, value in variables.items()}}
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, so that a signal reaches nobody else."""
        return subprocess.Popen(
            [*map(str, self.command), *map(str, arguments)],
            env=dict(self.environ),
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, *arguments: str | Path, timeout: float = 500) -> Finished:
        """Run a command to its end, whatever its exit code.

        Parameters
        ----------
        timeout
            In seconds.
        """
        if self.command == (CONSOLE_SCRIPT,) and not needs_own_start(self.environ):
            words = [str(word) for word in (*self.command, *arguments)]
            code, *output = run_command(words, self.environ, self.cwd, timeout)
            texts = (text.decode().replace("\r\n", "\n").replace("\r", "\n") for text in output)
            return Finished(tuple(map(str, arguments)), code, *texts)
        with self.start(*arguments) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return Finished(tuple(map(str, arguments)), process.returncode, stdout, stderr)

    def __call__(self, *arguments: str | Path, timeout: float = 500) -> Finished:
        """Run a command that must succeed."""
        finished = self.run(*arguments, timeout=timeout)
        if finished.returncode != 0:
            raise AssertionError(
                f"imagesync {' '.join(finished.arguments)}\nended with {finished.returncode}\n"
                f"{finished.stdout}{finished.stderr}"
            )
        return finished
