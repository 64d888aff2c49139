"""The indexes of build requirements: those of the user, without those that don't answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from imagesync.core.progress import Progress, Severity, SilentProgress
from imagesync.indexes.pypi.access import Access
from imagesync.indexes.pypi.index_configuration import PYPI, IndexConfiguration, Strategy
from imagesync.indexes.pypi.index_problems import find_problems
from imagesync.indexes.pypi.uv_environment import (
    build_environment,
    build_variables,
    without_indexes,
    without_variables,
)


class BuildIndexes:
    """The user's indexes, without those that turn out not to answer.

    Builds share it, so that each doesn't wait for the same silent index.

    Parameters
    ----------
    configured
        The configuration of pip, or of the tool whose project the environment belongs to.
    access
        Credentials for asking the indexes.
    environ
        Environment variables for installing build requirements; ``None`` for those of this process.
    progress
        Gets warnings.
    """

    def __init__(
        self,
        configured: IndexConfiguration,
        *,
        access: Access | None = None,
        environ: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.configured = configured
        self._access = access or Access()
        self._environ = dict(os.environ if environ is None else environ)
        self._progress = progress or SilentProgress()
        self._guard = threading.Lock()
        self._silent: tuple[str, ...] = ()

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the URLs of indexes that are left out, without credentials."""
        return self._silent

    @property
    def no_index(self) -> bool:
        """Return True if build requirements only come from ``find-links``."""
        return self._answering().no_index

    @property
    def constraints(self) -> tuple[str, ...]:
        """Return lines of a constraints file that include pip's build constraints."""
        return tuple(f"-c {_url(entry)}" for entry in self.configured.build_constraints)

    @property
    def strategy(self) -> Strategy:
        """Return uv's name of the strategy for several indexes."""
        return self.configured.strategy

    def environment(self, folder: Path) -> dict[str, str]:
        """Return uv's variables for installing build requirements, with credentials.

        Parameters
        ----------
        folder
            Gets the configuration file that the variables name.
        """
        environ = without_variables(self._environ) if self._silent else self._environ
        return build_environment(self._answering(), environ, folder)

    def write_requirements(
        self, requirements: Collection[str], folder: Path, name: str
    ) -> tuple[tuple[Path, ...], dict[str, str]]:
        """Write *requirements* into files below *folder*; return these, and variables with credentials.

        What is bound to an index is in a ``pyproject.toml``, the only place that uv reads it from.
        """
        from imagesync.indexes.pypi.uv_files import split_requirements, write_project

        answering = self._answering()
        bound, others = split_requirements(sorted(requirements), answering)
        listed = folder / f"{name}.txt"
        listed.write_text("\n".join(others) + "\n", encoding="utf-8")
        if not bound:
            return (listed,), {}
        place = folder / name
        place.mkdir(exist_ok=True)
        project = place / "pyproject.toml"
        return (project, listed), write_project(bound, answering, project)

    def facts(self) -> tuple[str, dict[str, str]]:
        """Return the configuration that the versions depend on, with the indexes that don't answer."""
        return repr(self.configured), build_variables(self.configured, self._environ)

    def leave_out(self, silent: Collection[str]) -> None:
        """Leave out the indexes *silent*."""
        self._silent = tuple(dict.fromkeys((*self._silent, *silent)))

    def find_silent(self, project: str, *, known: Collection[str]) -> bool:
        """Ask the indexes for *project*, and return True if one is left out that isn't among *known*.

        If none answers, none is left out: the remaining index wouldn't be the user's choice.
        """
        with self._guard:
            if set(self._silent) <= set(known):
                self._leave_out_silent(project)
            return not set(self._silent) <= set(known)

    def _leave_out_silent(self, project: str) -> None:
        answering = self._answering()
        problems = find_problems(answering, project, self._access)
        # An index that refuses answers, and PyPI can't be left out where it isn't named.
        named = bool(answering.public_urls)
        silent = {p.url: p.reason for p in problems if not p.refuses and (named or p.url != PYPI)}
        # Without a configured main index, pip uses PyPI, too.
        if answering.index_url is not None and set(answering.public_urls) <= set(silent):
            return
        for url, reason in silent.items():
            self._progress.line(f"{url} {reason}; build requirements come from the others.", Severity.WARNING)
        self.leave_out(silent)

    def _answering(self) -> IndexConfiguration:
        return without_indexes(self.configured, self._silent) if self._silent else self.configured


def _url(constraints: str) -> str:
    if "://" in constraints or constraints.startswith("file:"):
        return constraints
    return Path(constraints).expanduser().absolute().as_uri()
