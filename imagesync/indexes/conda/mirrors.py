"""Where the files of a channel may be had besides its own URL: mirrors that conda, mamba and pixi know of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagesync.core.credentials import strip_credentials

if TYPE_CHECKING:
    from imagesync.indexes.conda.configuration import CondaConfiguration

_COMMUNITY = "https://conda.anaconda.org"
_DEFAULTS = "https://repo.anaconda.com"


@dataclass(frozen=True, repr=False)
class Mirrors:
    """What stands in for channels.

    Parameters
    ----------
    configuration
        conda's: ``channel_alias``, ``custom_channels``, ``default_channels`` and ``channels`` say where a
        channel is that a record has by its original URL, and ``mirrored_channels`` where else.
    by_pixi
        The beginning of a URL to what stands in its place, in pixi's order.
    """

    configuration: CondaConfiguration
    by_pixi: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def places(self, channel: str) -> tuple[str, ...]:
        """Return the URLs to try for a file of *channel*, without credentials; its own comes last.

        Whoever asks checks what comes by its sha256, so that a place needn't be trusted.

        Parameters
        ----------
        channel
            A URL without subdir and without credentials.
        """
        if "://" not in channel:
            return (channel,)
        found = [*self._of_pixi(channel), *self._of_conda(channel)]
        if channel in found:
            return tuple(dict.fromkeys(found))
        return tuple(dict.fromkeys((*found, channel)))

    @property
    def private_urls(self) -> tuple[str, ...]:
        """Return the URLs of mirrors as they are configured, with their credentials."""
        from imagesync.indexes.conda.channels import urls_of

        by_conda = (url for targets in self.configuration.mirrored_channels.values() for url in targets)
        by_pixi = (url.rstrip("/") for targets in self.by_pixi.values() for url in targets)
        return (*urls_of(self.configuration, by_conda), *by_pixi)

    def _of_pixi(self, channel: str) -> Iterator[str]:
        matching = [key for key in self.by_pixi if channel == key or channel.startswith(f"{key}/")]
        if matching:
            key = max(matching, key=len)
            for target in self.by_pixi[key]:
                yield strip_credentials(target).rstrip("/") + channel.removeprefix(key)

    def _of_conda(self, channel: str) -> Iterator[str]:
        from imagesync.indexes.conda.channels import urls_of

        configuration = self.configuration
        name = _name(channel)
        for mirrored, targets in configuration.mirrored_channels.items():
            urls = [*map(strip_credentials, urls_of(configuration, targets))]
            if mirrored == name or channel in urls:
                yield from urls
        if not name:
            return
        known = map(strip_credentials, urls_of(configuration, [name]))
        yield from (url for url in known if url != channel)
        # A mirror that is configured by its URL ends with the name of the channel that it mirrors.
        configured = (*configuration.channels, *configuration.default_channels)
        others = (strip_credentials(url).rstrip("/") for url in configured)
        yield from (url for url in others if url != channel and url.endswith(f"/{name}"))


def _name(channel: str) -> str:
    """Return the name of a channel at its original URL; empty for any other URL."""
    for host in (_COMMUNITY, _DEFAULTS):
        if channel.startswith(f"{host}/"):
            return channel.removeprefix(f"{host}/").strip("/")
    return ""
