"""Settings: ``[tool.imagesync]``, ``imagesync.toml``, ``IMAGESYNC_*`` variables and flags as one value.

In: a folder, environment variables and flags. Out: a frozen ``Settings``, with the place where each value was
set; a wrong key or value is an error that names that place.
"""
