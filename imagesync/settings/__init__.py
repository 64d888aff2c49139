"""Settings: ``[tool.imagesync]``, ``imagesync.toml``, ``IMAGESYNC_*`` and flags, as one frozen value."""

from imagesync.settings.load import load_settings
from imagesync.settings.model import DEFAULT_BASE, DEFAULT_REPOSITORY, Settings

__all__ = ["DEFAULT_BASE", "DEFAULT_REPOSITORY", "Settings", "load_settings"]
