"""Levels: how closely a package in the image must match the local one."""

from __future__ import annotations

from enum import Enum


class Level(str, Enum):
    """How closely a package in the image must match the local one."""

    CRITICAL = "critical"
    EXACT = "exact"
    COMPATIBLE = "compatible"
    PLATFORM_ONLY = "platform-only"
    IGNORE = "ignore"
    IGNORE_UNLESS_REQUESTED = "ignore-unless-requested"
