"""The user's conda channels: their configuration, their packages and their archives."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.limits import SILENCE
from imagesync.errors import UnsolvableError
from imagesync.lock.conda.solver import CondaRequest
from imagesync.lock.locked_packages import LockedConda
from imagesync.store.layout import REPODATA

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.core.progress import Progress
    from imagesync.indexes.conda.channel_access import ChannelUrls, Mirrors
    from imagesync.indexes.conda.conda_configuration import ChannelPriority, CondaConfiguration
    from imagesync.indexes.conda.logins import Login, StoredLogins
    from imagesync.indexes.pypi.pixi import PixiSettings
    from imagesync.lock.conda.archive_store import Archives
    from imagesync.lock.conda.repodata import Repodata
    from imagesync.plan.dependencies import ExternalPackage
    from imagesync.scan.environment import CondaRecord
    from imagesync.store.store import Store


class Channels:
    """The user's channels; implements :class:`~imagesync.lock.conda.solver.CondaSolver`.

    conda's configuration is read with the first question to a channel: a lock of installed records
    doesn't need it.

    Parameters
    ----------
    channels
        URLs without credentials, the preferred one first.
    platform
        That of the image.
    configured
        Channels as in the user's settings, with their credentials.
    prefix
        The environment, which may have its own configuration.
    environ
        Environment variables.
    store
        Keeps archives and repodata.
    progress
        Shows downloads.
    cuda
        The CUDA version that the drivers of the cluster's machines support; empty for none.
    externally_provided
        Packages that others depend on and that the image doesn't get from conda.
    pins
        Match specs that limit the choice of versions.
    timeout
        Seconds without a byte after which a channel counts as gone.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        platform: Platform,
        configured: Sequence[str] = (),
        prefix: Path,
        environ: Mapping[str, str],
        store: Store,
        progress: Progress,
        cuda: str = "",
        externally_provided: Sequence[ExternalPackage] = (),
        pins: Sequence[str] = (),
        timeout: float = SILENCE,
    ) -> None:
        self.channels = tuple(channels)
        self.platform = platform
        self.store = store
        self.progress = progress
        self.cuda = cuda
        self.externally_provided = tuple(externally_provided)
        self.pins = tuple(pins)
        self._configured = configured
        self._prefix = prefix
        self._environ = environ
        self._timeout = timeout

    @cached_property
    def configuration(self) -> CondaConfiguration:
        """Return conda's configuration of channels."""
        from imagesync.indexes.conda.conda_configuration import read_conda_configuration

        return read_conda_configuration(self._prefix, self._environ)

    @cached_property
    def _pixi(self) -> PixiSettings:
        from imagesync.indexes.pypi.pixi import pixi_settings, workspace_of

        return pixi_settings(workspace_of(self._prefix), self._environ, sys.platform)

    @cached_property
    def _mirrors(self) -> Mirrors:
        from imagesync.indexes.conda.channel_access import Mirrors

        return Mirrors(self.configuration, self._pixi.mirrors)

    @cached_property
    def _logins(self) -> StoredLogins:
        import shutil

        from imagesync.indexes.conda.logins import read_logins
        from imagesync.indexes.pypi.pixi import workspace_of

        return read_logins(
            self._environ,
            sys.platform,
            override=self._pixi.authentication_file,
            keyring=shutil.which("keyring", path=self._environ.get("PATH")),
            everywhere=workspace_of(self._prefix) is not None,
        )

    def private_url(self, url: str) -> str:
        """Return the *url* of a channel, or of a file in one, with the credentials that a URL can hold."""
        from imagesync.core.credentials import strip_credentials
        from imagesync.indexes.conda.channel_access import with_credentials
        from imagesync.indexes.conda.logins import with_netrc

        for private in (*self.configuration.urls(self._configured), *self._mirrors.private_urls):
            if (public := strip_credentials(private)) != private and f"{url}/".startswith(f"{public}/"):
                return private + url.removeprefix(public)
        if (configured := with_credentials(self.configuration, url)) != url:
            return configured
        if (login := self._login(url)) is not None:
            return login.add_to(url)
        return with_netrc(url, self._environ)

    def _login(self, url: str) -> Login | None:
        """Return the login that pixi or mamba has stored for *url*."""
        return self._logins.of(url) if url.startswith(("http://", "https://")) else None

    def _urls(self, channels: Iterable[str]) -> ChannelUrls:
        from imagesync.indexes.conda.channel_access import ChannelUrls

        places = {url: self._mirrors.places(url) for url in dict.fromkeys(channels) if "://" in url}
        every = dict.fromkeys(place for tried in places.values() for place in tried)
        private = {url: self.private_url(url) for url in every}
        open_by_url = {url for url in every if private[url] != url}
        logins = {url: self._login(url) for url in every if url not in open_by_url}
        bearers = {url: login.secret for url, login in logins.items() if login and login.kind == "bearer"}
        return ChannelUrls(places, private, bearers)

    def archives(self, packages: Iterable[LockedConda] = ()) -> Archives:
        """Return the archives of the channels, and of further channels that *packages* come from."""
        from imagesync.indexes.conda.channel_access import channel_access
        from imagesync.lock.conda.archive_store import Archives

        of_packages = (package.artifact.url.rsplit("/", 2)[0] for package in packages)
        urls = self._urls((*self.channels, *(package.channel for package in packages), *of_packages))
        access = channel_access(urls, self.configuration, self._environ, timeout=self._timeout)
        caches = tuple(map(Path, self.configuration.package_caches))
        return Archives(self.store, access, caches, self.progress)

    @property
    def priority(self) -> ChannelPriority:
        """Return conda's setting ``channel_priority``."""
        return self.configuration.channel_priority

    @cached_property
    def repodata(self) -> Repodata:
        """Return the repodata of the channels."""
        from imagesync.indexes.conda.channel_access import channel_settings, worker_environment
        from imagesync.lock.conda.repodata import Repodata

        urls = self._urls(self.channels)
        cache = self.store.root / REPODATA
        settings = channel_settings(urls, self.configuration, cache=cache, timeout=self._timeout)
        return Repodata(settings, worker_environment(self.configuration, self._environ))

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] | None = None
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return the packages of the channels; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.repodata.available(names, subdirs=subdirs or self.platform.subdirs)

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return a solution of *request*; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        request = self.completed(request)
        if self.priority == "disabled":
            return self.repodata.solve(request, platform=self.platform, strict=False)
        try:
            return self.repodata.solve(request, platform=self.platform)
        except UnsolvableError as error:
            if self.priority == "strict" or len(self.channels) < 2:
                raise
            first = error
        try:
            return self.repodata.solve(request, platform=self.platform, strict=False)
        except UnsolvableError:
            raise first from None

    def completed(self, request: CondaRequest) -> CondaRequest:
        """Return *request* with the pins and with external packages that it doesn't request."""
        from imagesync.lock.conda.locked_records import external_record
        from imagesync.scan.conda.conda_meta import spec_name

        frozen = {package.name for package in request.frozen}
        requested = {spec_name(spec) for spec in request.specs} if self.externally_provided else set()
        external = (
            external_record(p.name, p.version, p.build)
            for p in self.externally_provided
            if p.name not in requested
        )
        pins = (pin for pin in self.pins if spec_name(pin) not in frozen)
        return replace(
            request,
            constraints=(*request.constraints, *pins),
            externally_provided=(*request.externally_provided, *external),
        )

    def close(self) -> None:
        """End the process that keeps repodata in memory; the next question starts another one."""
        if "repodata" in self.__dict__:
            self.repodata.close()

    def has_archive(self, package: LockedConda) -> bool:
        """Return True if an archive is here; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.archives().has(package.artifact)

    def digest(self, record: CondaRecord) -> str:
        """Return the digest of an archive; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.archives().digest(record)
