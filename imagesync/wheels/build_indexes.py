"""Where build requirements come from: the user's indexes, without those that don't answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from imagesync.core.progress import Progress, SilentProgress
from imagesync.indexes.pypi.access import Access
from imagesync.indexes.pypi.pip_configuration import IndexConfiguration
from imagesync.indexes.pypi.uv_environment import (
    build_environment,
    silent_indexes,
    without_indexes,
    without_variables,
)


class BuildIndexes:
    """The indexes of the user's pip, as one after the other turns out not to answer.

    Several builds share it: what one has found silent, the others needn't wait for.

    Parameters
    ----------
    configured
        What pip is told.
    access
        How an index is asked whether it answers.
    environ
        The environment variables that build requirements are installed with; ``None`` for this process's.
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
        """Return the indexes that are left out, without credentials."""
        return self._silent

    @property
    def no_index(self) -> bool:
        """Return whether build requirements come from ``find-links`` alone."""
        return self._answering().no_index

    @property
    def constraints(self) -> tuple[str, ...]:
        """Return the lines of a constraints file that name pip's own."""
        return tuple(f"-c {_url(entry)}" for entry in self.configured.build_constraints)

    def environment(self) -> dict[str, str]:
        """Return the variables that uv installs build requirements with; credentials are in them."""
        environ = without_variables(self._environ) if self._silent else self._environ
        return build_environment(self._answering(), environ)

    def configured_environment(self) -> dict[str, str]:
        """Return the same, with all that is configured, whether it answers or not."""
        return build_environment(self.configured, self._environ)

    def leave_out(self, silent: Collection[str]) -> None:
        """Ask the indexes *silent* no more."""
        self._silent = tuple(dict.fromkeys((*self._silent, *silent)))

    def find_silent(self, project: str, *, known: Collection[str]) -> bool:
        """Return whether an index is left out that isn't among *known*, having asked all for *project*.

        False as well where none of them answers: what is left then wouldn't be the user's choice.
        """
        with self._guard:
            if set(self._silent) <= set(known):
                self._look(project)
            return not set(self._silent) <= set(known)

    def _look(self, project: str) -> None:
        answering = self._answering()
        silent = silent_indexes(answering, project, self._access)
        # Where pip is told of no main index there is PyPI beside the others.
        if answering.index_url is not None and set(answering.public_urls) <= set(silent):
            return
        for url in silent:
            self._progress.line(f"warning: {url} doesn't answer; build requirements come from the others.")
        self.leave_out(silent)

    def _answering(self) -> IndexConfiguration:
        return without_indexes(self.configured, self._silent) if self._silent else self.configured


def _url(constraints: str) -> str:
    if "://" in constraints or constraints.startswith("file:"):
        return constraints
    return Path(constraints).expanduser().absolute().as_uri()
