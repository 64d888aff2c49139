"""How imagesync itself is installed, and the commands that add to it."""

from __future__ import annotations

import json
import shlex
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from imagesync.core.credentials import strip_credentials

# `python -m` would import from the current folder; `-P` is Python 3.11's, `-I` leaves user packages out.
_RUN_MODULE = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_TOOL_EXTRAS = ("all",)
# What the extra "all" has.
_IN_ALL = frozenset({"conda-lock", "keyring", "pip-tools"})


@dataclass(frozen=True)
class Installation:
    """An environment with imagesync in it.

    Parameters
    ----------
    installer
        What made it: ``uv tool``, ``pipx``, or the user, who adds to it by ``pip``; ``uv`` without one.
    python
        Its interpreter.
    source
        Where imagesync came from (PEP 610), without credentials: a URL or, for an editable one, a path; empty
        for an index.
    """

    installer: Literal["uv tool", "pipx", "pip", "uv"]
    python: str
    source: str = ""
    editable: bool = False

    def add_extra(self, extra: str) -> str:
        """Return the command that adds what an extra of imagesync's needs."""
        if self.installer in {"pip", "uv"}:
            return self._install([extra])
        # A tool is installed anew, and gets all that a tool can use with it.
        return self._install(_TOOL_EXTRAS if extra in _IN_ALL else (*_TOOL_EXTRAS, extra))

    def add(self, requirement: str) -> str:
        """Return the command that installs *requirement* beside imagesync."""
        if self.installer == "pipx":
            return shlex.join(["pipx", "inject", "imagesync", requirement])
        if self.installer == "uv tool":
            return f"{self._install(_TOOL_EXTRAS)} --with {shlex.quote(requirement)}"
        return shlex.join([*self._installing(), requirement])

    def reinstall(self, name: str) -> str:
        """Return the command that installs the package *name* anew, in its newest version."""
        if self.installer == "pipx":
            return shlex.join(["pipx", "runpip", "imagesync", "install", "--force-reinstall", name])
        if self.installer == "uv tool":
            return shlex.join(["uv", "tool", "upgrade", "imagesync", "--reinstall-package", name])
        option = "--reinstall-package" if self.installer == "uv" else "--force-reinstall"
        options = [option, name] if self.installer == "uv" else [option]
        return shlex.join([*self._installing(), *options, "--upgrade", name])

    def _install(self, extras: Sequence[str]) -> str:
        listed = f"[{','.join(extras)}]"
        if self.editable:
            return shlex.join([*self._installing(), "--editable", f"{self.source}{listed}"])
        source = f" @ {self.source}" if self.source else ""
        return shlex.join([*self._installing(), f"imagesync{listed}{source}"])

    def _installing(self) -> list[str]:
        return {
            "uv tool": ["uv", "tool", "install"],
            "pipx": ["pipx", "install", "--force"],
            "pip": [self.python, "-m", "pip", "install"],
            "uv": ["uv", "pip", "install", "--python", self.python],
        }[self.installer]


def module_command(name: str, *options: str) -> tuple[str, ...]:
    """Return the command that runs a module of imagesync's own environment, whatever the current folder has.

    Parameters
    ----------
    name
        The module, such as ``pip``; the arguments for it follow the command.
    options
        Of the interpreter, such as ``-W``.
    """
    return (sys.executable, *options, "-c", _RUN_MODULE, name)


def own_installation() -> Installation:
    """Return the installation of the running imagesync."""
    prefix = Path(sys.prefix)
    installer: Literal["uv tool", "pipx", "pip", "uv"]
    if (prefix / "uv-receipt.toml").is_file():
        installer = "uv tool"
    elif (prefix / "pipx_metadata.json").is_file():
        installer = "pipx"
    elif _is_managed_by_others():
        # Nothing can be added there (PEP 668): imagesync moves into an environment of its own.
        installer = "uv tool"
    else:
        # Not by all finders: that of setuptools warns when it is asked for pip.
        installer = "uv" if PathFinder.find_spec("pip") is None else "pip"
    source, editable = _source()
    return Installation(installer, sys.executable, source, editable)


def _is_managed_by_others() -> bool:
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return sys.prefix == sys.base_prefix and marker.is_file()


def _source() -> tuple[str, bool]:
    from importlib.metadata import PackageNotFoundError, distribution  # only messages need it

    try:
        text = distribution("imagesync").read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    return source_of(text or "{}")


def source_of(direct_url: str) -> tuple[str, bool]:
    """Return the target of a requirement for the source in ``direct_url.json``, and True if it is editable.

    >>> source_of('{"url": "file:///src/imagesync", "dir_info": {"editable": true}}')
    ('/src/imagesync', True)
    >>> source_of('{"url": "https://git.example/i.git", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}}')
    ('git+https://git.example/i.git', False)
    >>> source_of("{}")
    ('', False)
    """
    from urllib.request import url2pathname  # imports http and email

    content = json.loads(direct_url)
    url = strip_credentials(content.get("url", ""))
    if (content.get("dir_info") or {}).get("editable"):
        return url2pathname(urlsplit(url).path), True
    vcs = content.get("vcs_info") or {}
    if not vcs:
        return url, False
    revision = vcs.get("requested_revision")
    return f"{vcs.get('vcs', 'git')}+{url}{f'@{revision}' if revision else ''}", False
