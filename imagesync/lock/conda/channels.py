"""The user's channels, with all that the lock asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import UnsolvableError
from imagesync.lock.conda.solver import IMAGE_SUBDIRS, CondaRequest
from imagesync.lock.lock import LockedConda
from imagesync.store.layout import REPODATA

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.indexes.conda.configuration import ChannelPriority, CondaConfiguration
    from imagesync.lock.conda.archives import Archives
    from imagesync.lock.conda.repodata import Repodata
    from imagesync.plan.dependencies import ExternalPackage
    from imagesync.scan.environment import CondaRecord
    from imagesync.store.store import Store


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
    outside
        What others depend on and the image doesn't get from conda: it is pip's, or the user leaves it out.
    pins
        Match specs that hold for whatever comes in.
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
        outside: Sequence[ExternalPackage] = (),
        pins: Sequence[str] = (),
    ) -> None:
        self.channels = tuple(channels)
        self.store = store
        self.progress = progress
        self.cuda = cuda
        self.outside = tuple(outside)
        self.pins = tuple(pins)
        self._given = given
        self._prefix = prefix
        self._environ = environ

    @cached_property
    def configuration(self) -> CondaConfiguration:
        """Return what conda is told about channels."""
        from imagesync.indexes.conda.configuration import read_conda_configuration

        return read_conda_configuration(self._prefix, self._environ)

    def private_url(self, url: str) -> str:
        """Return *url*, of a channel or of a file in one, with the credentials that open it."""
        from imagesync.core.credentials import strip_credentials
        from imagesync.indexes.conda.channels import urls_of, with_credentials

        for given in urls_of(self.configuration, self._given):
            if (public := strip_credentials(given)) != given and f"{url}/".startswith(f"{public}/"):
                return given + url.removeprefix(public)
        return with_credentials(self.configuration, url, self._environ)

    def archives(self, packages: Iterable[LockedConda] = ()) -> Archives:
        """Return where archives come from; *packages* may be from other channels, too."""
        from imagesync.indexes.conda.access import channel_access
        from imagesync.lock.conda.archives import Archives

        urls = dict.fromkeys((*self.channels, *(package.channel for package in packages)))
        private = {url: self.private_url(url) for url in urls if "://" in url}
        access = channel_access(private, self.configuration, self._environ)
        caches = tuple(map(Path, self.configuration.package_caches))
        return Archives(self.store, access, caches, self.progress)

    @property
    def priority(self) -> ChannelPriority:
        """Return whether a name's first channel is its only one, its first choice, or one of equals."""
        return self.configuration.channel_priority

    @cached_property
    def repodata(self) -> Repodata:
        """Return what answers questions about the channels."""
        from imagesync.indexes.conda.access import channel_settings, worker_environment
        from imagesync.lock.conda.repodata import Repodata

        private = {url: self.private_url(url) for url in self.channels}
        settings = channel_settings(private, self.configuration, cache=self.store.root / REPODATA)
        return Repodata(settings, worker_environment(self.configuration, self._environ))

    def available(
        self, names: Iterable[str], *, subdirs: Sequence[str] = IMAGE_SUBDIRS
    ) -> Mapping[str, tuple[LockedConda, ...]]:
        """Return what the channels have; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        return self.repodata.available(names, subdirs=subdirs)

    def solve(self, request: CondaRequest) -> tuple[LockedConda, ...]:
        """Return what satisfies *request*; see :class:`~imagesync.lock.conda.solver.CondaSolver`."""
        request = self.completed(request)
        if self.priority == "disabled":
            return self.repodata.solve(request, strict=False)
        try:
            return self.repodata.solve(request)
        except UnsolvableError as error:
            if self.priority == "strict" or len(self.channels) < 2:
                raise
            first = error
        try:
            return self.repodata.solve(request, strict=False)
        except UnsolvableError:
            raise first from None

    def completed(self, request: CondaRequest) -> CondaRequest:
        """Return *request* with the pins, and with what the image doesn't get from conda.

        What *request* itself asks for is to be conda's.
        """
        from imagesync.lock.conda.records import outside as stand_in
        from imagesync.scan.conda.history import spec_name

        held = {package.name for package in request.held}
        asked = {spec_name(spec) for spec in request.specs} if self.outside else set()
        there = (stand_in(p.name, p.version, p.build) for p in self.outside if p.name not in asked)
        pins = (pin for pin in self.pins if spec_name(pin) not in held)
        return replace(request, constraints=(*request.constraints, *pins), outside=(*request.outside, *there))

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
