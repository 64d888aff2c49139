"""Real virtual environments, made quickly by uv, or by pip where a test is about pip."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pip

from tests.commands import BIN, clean_environ


@dataclass(frozen=True)
class LocalEnvironment:
    """A virtual environment on disk."""

    prefix: Path

    @property
    def python(self) -> Path:
        """Return its interpreter."""
        return self.prefix / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Return the folder that packages are installed in."""
        (folder,) = self.prefix.glob("lib/python3*/site-packages")
        return folder

    def run(self, *arguments: str | Path, environ: Mapping[str, str] | None = None) -> str:
        """Run its interpreter, and return what it printed."""
        return run([self.python, *arguments], environ=environ)

    def install(self, *arguments: str | Path, environ: Mapping[str, str] | None = None) -> None:
        """Install by uv, from the user's package index."""
        command = [BIN / "uv", "--quiet", "pip", "install", "--python", self.python, *arguments]
        run(command, environ=environ)

    def pip_install(self, *arguments: str | Path, environ: Mapping[str, str] | None = None) -> None:
        """Install by pip, from the user's package index."""
        # By the tests' own pip, whose bytecode is there; one that has just been installed would be compiled.
        # `pip --python` would start it twice.
        command = [self.python, Path(pip.__file__).with_name("__pip-runner__.py"), "install"]
        run([*command, "-qq", "--disable-pip-version-check", *arguments], environ=environ)


def run(
    command: Sequence[str | Path], *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Return the stdout of a command that must succeed."""
    finished = subprocess.run(
        [str(word) for word in command],
        # Copies: a test that edits an installed file would edit that of uv's cache through a hard link.
        env={**clean_environ(), "UV_LINK_MODE": "copy", **(environ or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise AssertionError(
            f"{command}\nended with {finished.returncode}\n{finished.stdout}{finished.stderr}"
        )
    return finished.stdout


def feature_version(python: str | Path) -> str:
    """Return an interpreter's version without the patch level, or nothing if it doesn't run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    finished = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return finished.stdout.strip()


def make_environment(
    prefix: Path,
    *,
    packages: Sequence[str] = (),
    python: str | Path,
    editable: Sequence[Path] = (),
    installer: str = "uv",
    arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> LocalEnvironment:
    """Make a virtual environment in *prefix*, and install into it.

    Parameters
    ----------
    packages
        Requirements, as on pip's command line.
    python
        The interpreter that it is made with.
    editable
        Projects to install editable.
    installer
        ``uv`` or ``pip``; with ``pip`` the environment has pip, too.
    arguments
        More arguments for the installer.
    """
    seed = ["--seed"] if installer == "pip" else []
    run([BIN / "uv", "--quiet", "venv", "--no-project", *seed, "--python", python, prefix], environ=environ)
    made = LocalEnvironment(prefix)
    wanted = [*packages, *(word for folder in editable for word in ("--editable", str(folder)))]
    if wanted:
        install = made.pip_install if installer == "pip" else made.install
        install(*arguments, *wanted, environ=environ)
    return made
