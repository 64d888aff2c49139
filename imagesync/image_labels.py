"""The names of imagesync's own image labels, which one build writes and the next looks at."""

from __future__ import annotations

from typing import Final

ENVIRONMENT_HASH: Final = "dev.imagesync.environment-hash"
LOCK_DIGEST: Final = "dev.imagesync.lock-digest"
VERSION: Final = "dev.imagesync.version"
DEVIATIONS: Final = "dev.imagesync.deviations"
REPACKED: Final = "dev.imagesync.repacked"
CONTESTED: Final = "dev.imagesync.contested"
PACKAGES_HASH: Final = "dev.imagesync.packages-hash"
PACKAGES_LOCK: Final = "dev.imagesync.packages-lock"
INVENTORY: Final = "dev.imagesync.inventory"
ARCHIVES: Final = "dev.imagesync.archives"
