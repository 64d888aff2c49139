"""Context shared by all stages: settings, environment variables, progress, cache folder, store, engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.core.image_reference import is_loopback, parse_reference
from imagesync.core.platforms import DEFAULT_PLATFORM, Platform, require_platform
from imagesync.core.progress import Progress, SilentProgress
from imagesync.errors import EngineError, ForeignPlatform, UsageError
from imagesync.settings.model import Settings
from imagesync.store.layout import LOGS, default_cache_dir

if TYPE_CHECKING:
    from imagesync.engine.engine import Engine
    from imagesync.registry.repository import Repository
    from imagesync.store.store import Store

_MOST_SECONDS: Final = 253_402_300_799  # the last of the year 9999, which times in images can't leave


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
    read_only_cache
        The cache folder that can only be read, where another one stands for it; see
        :func:`~imagesync.pipeline.writable_cache.writable_cache`.
    """

    settings: Settings = field(default_factory=Settings)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    progress: Progress = field(default_factory=SilentProgress, repr=False)
    read_only_cache: Path | None = None

    @property
    def platform(self) -> Platform:
        """Return the platform of the image."""
        return self.settings.platform

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """Return all platforms that the settings name, each once, in their order."""
        names = dict.fromkeys(self.settings.platforms)
        return tuple(map(require_platform, names)) or (DEFAULT_PLATFORM,)

    def for_platforms(self) -> tuple[Context, ...]:
        """Return a context for each platform of the settings, in their order; itself if that is one."""
        platforms = self.platforms
        return tuple(map(self.for_platform, platforms)) if len(platforms) > 1 else (self,)

    def for_platform(self, platform: Platform) -> Context:
        """Return the context for one of several platforms."""
        return replace(self, settings=replace(self.settings, platforms=(platform.name,)))

    def check_platforms(self) -> None:
        """Check that the settings name one platform; :meth:`for_platforms` makes one context of each.

        Raises
        ------
        UsageError
            They name several platforms.
        """
        names = tuple(dict.fromkeys(self.settings.platforms))
        origin = self.settings.origins.get("platforms", "the default")
        if len(names) > 1:
            raise UsageError(
                f"This is for one platform at a time, and {origin} names {' and '.join(names)}.",
                hint=f"Name one of them: IMAGESYNC_PLATFORMS={names[-1]}. `imagesync plan`, `imagesync lock` "
                "and `imagesync build` take several.",
            )

    def on_engine(self) -> Context:
        """Return the context of the engine's own platform; itself if the settings name one platform.

        Raises
        ------
        EngineError
            There is no engine, it doesn't answer, or runs none of them.
        """
        platforms = self.platforms
        return self.for_platform(self.engine_platform(platforms)) if len(platforms) > 1 else self

    def engine_platform(self, platforms: Iterable[Platform]) -> Platform:
        """Return which of *platforms* the container engine runs by its own processor.

        Raises
        ------
        EngineError
            There is no engine, it doesn't answer, or runs none of them.
        """
        with self.open_engine() as engine:
            own = engine.info().platform
        names = []
        for platform in platforms:
            if platform.is_platform_of(own):
                return platform
            names.append(platform.name)
        raise ForeignPlatform(
            f"The container engine runs {own}, and the images are for {' and '.join(names)}.",
            hint=f"Add its platform: platforms = {[own, *names]}",
        )

    @cached_property
    def cache_folder(self) -> Path:
        """Return the folder of the store and of all caches."""
        return self.settings.cache_dir or default_cache_dir(self.environ)

    @cached_property
    def store(self) -> Store:
        """Return the store of artifacts."""
        from imagesync.store.store import Store

        return Store(self.cache_folder)

    @cached_property
    def source_date_epoch(self) -> int | None:
        """Return ``SOURCE_DATE_EPOCH`` in seconds, or ``None`` if it isn't set (reproducible-builds.org).

        Raises
        ------
        UsageError
            It is no time before the year 10000.
        """
        text = self.environ.get("SOURCE_DATE_EPOCH")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 13 and int(text) <= _MOST_SECONDS):
            raise UsageError(
                f"SOURCE_DATE_EPOCH is {text[:40]!r}, and not a number of seconds since 1970.",
                hint="Remove the variable, or set a time: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct).",
            )
        return int(text)

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

    def takes_without_tls(self, reference: str) -> bool:
        """Return True if a registry is on loopback, or an engine answers that takes it without TLS."""
        domain = parse_reference(reference).domain
        if is_loopback(domain):
            return True
        try:
            with self.open_engine() as engine:
                return engine.takes_without_tls(domain)
        except EngineError:
            return False

    def open_repository(self, reference: str) -> Repository:
        """Return a client of the repository of *reference*, to be used in a ``with`` statement."""
        from imagesync.registry.repository import Repository

        insecure, timeout = self.takes_without_tls(reference), self.settings.timeout
        return Repository(reference, progress=self.progress, insecure=insecure, timeout=timeout)
