"""The channels that a conda environment's packages are from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from imagesync.core.credentials import strip_credentials
from imagesync.scan.environment import CondaRecord

if TYPE_CHECKING:
    from imagesync.indexes.conda.conda_configuration import CondaConfiguration


def channels_of(records: Iterable[CondaRecord], configuration: CondaConfiguration) -> tuple[str, ...]:
    """Return the channels of an environment, the first wins, as URLs without credentials.

    Those that packages are from and that aren't configured come first, the one of most packages before the
    others: somebody has named them by ``--channel``, which goes before what is configured.
    """
    counted: Counter[str] = Counter()
    for channel, number in Counter(record.channel for record in records if record.channel).items():
        for url in configuration.urls([channel]):
            counted[strip_credentials(url)] += number
    used = [url for url, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
    configured = configuration.public_urls
    return tuple(dict.fromkeys([*(url for url in used if url not in configured), *configured]))
