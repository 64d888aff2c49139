"""Settings: ``[tool.imagesync]``, ``imagesync.toml``, ``IMAGESYNC_*`` variables and flags as one value.

Given a folder, environment variables and flags, ``load`` returns a frozen ``Settings`` with the origin of
each value; the error for a wrong key or value names that origin.
"""
