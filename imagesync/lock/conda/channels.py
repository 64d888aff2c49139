"""The user's channels, with all that the lock asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.lock.conda.solver import IMAGE_SUBDIRS, CondaRequest
from imagesync.lock.lock import LockedConda

if TYPE_CHECKING:
    from imagesync.lock.conda.archives import Archives
    from imagesync.lock.conda.repodata import Repodata
    from imagesync.plan.depends import ByPip
    from imagesync.scan.conda_configuration import CondaConfiguration
    from imagesync.scan.environment import CondaRecord
    from imagesync.store.store import Store
    from imagesync.ui.progress import Progress


class Channels:
    """Channels in their order, and their archives; see :class:`~imagesync.lock.conda.solver.CondaSolver`.

    conda's configuration is read when a channel is asked for something: a lock that is read off the
    installed records needs nothing of it.

    Parameters
    ----------
    channels
        URLs without credentials, first the one that wins.
    given
        Channels as the user's settings name them, with credentials where they have some.
    prefix
        The environment, which may have a configuration of its own.
    cuda
        The version of CUDA that the cluster's machines have a driver for; empty for none.
    by_pip
        What pip provides in conda's place: what depends on it has it from pip.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        given: Sequence[str] = (),
        prefix: Path,
        environ: Mapping[str, str],
        store: Store,
        progress: Progress,
        cuda: str = "",
        by_pip: Sequence[ByPip] = (),
    ) -> None:
        self.channels = tuple(channels)
        self.store = store
        self.progress = progress
        self.cuda = cuda
        self.by_pip = tuple(by_pip)
        self._given = given
        self._prefix = prefix
        self._environ = environ

    @cached_property
    def configuration(self) -> CondaConfiguration:
        """Return what conda is told about channels."""
        from imagesync.scan.conda_configuration import read_conda_configuration

        return read_conda_configuration(self._prefix, self._environ)

    def private_url(self, url: str) -> str:
        """Return *url*, of a channel or of a file in one, with the credentials that open it."""
        from imagesync.credentials import strip_credentials
        from imagesync.scan.conda_channels import urls_of, with_credentials

        for given in urls_of(self.configuration, self._given):
            if (public := strip_credentials(given)) != given and f"{url}/".startswith(f"{public}/"):
                return given + url.removeprefix(public)
        return with_credentials(self.configuration, url, self._environ)

    def archives(self, packages: Iterable[LockedConda] = ()) -> Archives:
        """Return where archives come from; *packages* may be from other channels, too."""
        from imagesync.lock.conda.access import channel_access
        from imagesync.lock.conda.archives import Archives

        urls = dict.fromkeys((*self.channels, *(package.channel for package in packages)))
        private = {url: self.private_url(url) for url in urls if "://" in url}
        access = channel_access(private, self.configuration, self._environ)
        caches = tuple(map(Path, self.configuration.package_caches))
        return Archives(self.store, access, caches, self.progress)

    @cached_property
    def repodata(self) -> Repodata:
        """Return what answers questions about the channels."""
        from imagesync.lock.conda.access import channel_settings, worker_environment
        from imagesync.lock.conda.repodata import Repodata

        private = {url: self.private_url(url) for url in self.channels}
        settings = channel_settings(private, self.configuration, cache=self.store.root / "repodata")
        return Repodata(settings, worker_environment(self.configuration, self._environ))

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] = IMAGE_SUBDIRS
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return what the channels have; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.repodata.available(names, subdirs=subdirs)

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return what satisfies *request*; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.repodata.solve(self.beside_pip(request))

    def beside_pip(self, request: CondaRequest) -> CondaRequest:
        """Return *request* with what pip provides in conda's place, unless it asks for conda's."""
        if not self.by_pip:
            return request
        from imagesync.lock.conda.records import outside
        from imagesync.scan.conda_history import spec_name

        asked = {spec_name(spec) for spec in request.specs}
        there = (outside(p.name, p.version, p.build) for p in self.by_pip if p.name not in asked)
        return replace(request, outside=(*request.outside, *there))

    def close(self) -> None:
        """End what answers questions, which holds what channels say in memory; it starts again if need be."""
        if "repodata" in self.__dict__:
            self.repodata.close()

    def has_archive(self, package: LockedConda) -> bool:
        """Return whether an archive is here; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.archives().has(package.artifact)

    def digest(self, record: CondaRecord) -> str:
        """Return the digest of an archive; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.archives().digest(record)
