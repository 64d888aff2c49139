"""Locking: from a plan to the exact artifact, with its sha256, of each package for the target.

In: a plan, the target, the user's indexes and channels. Out: a frozen ``Lock`` with its deviations from the
local environment. ``resolvers/`` and ``conda/`` ask indexes and channels, ``explain/`` explains conflicts,
and ``lockfile/`` reads and writes lock files.
"""
