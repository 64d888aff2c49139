"""Context shared by all stages: settings, environment variables, progress, cache folder, store, engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.progress import Progress, SilentProgress
from imagesync.settings.model import Settings
from imagesync.store.layout import LOGS, default_cache_dir

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.store.store import Store


@dataclass(frozen=True)
class Context:
    """The context that all stages of a command share.

    Parameters
    ----------
    settings
        The settings of the command.
    environ
        Environment variables: those of pip, of conda, of the engine, of proxies.
    progress
        Shows progress and warnings.
    """

    settings: Settings = field(default_factory=Settings)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    progress: Progress = field(default_factory=SilentProgress, repr=False)

    @cached_property
    def cache_folder(self) -> Path:
        """Return the folder of the store and of all caches."""
        return self.settings.cache_dir or default_cache_dir(self.environ)

    @cached_property
    def store(self) -> Store:
        """Return the store of artifacts."""
        from imagesync.store.store import Store

        return Store(self.cache_folder)

    def open_engine(self) -> Engine:
        """Return a client of the container engine, to be used in a ``with`` statement.

        Raises
        ------
        EngineNotFound
            There is no engine, or it doesn't answer.
        """
        from imagesync.engine.endpoint import find_endpoint
        from imagesync.engine.engine import Engine

        return Engine(find_endpoint(self.environ), logs=self.cache_folder / LOGS)
