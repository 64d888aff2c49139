"""Print what an environment's image has to know about its base image, as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys


def libc() -> str:
    """Return ``glibc 2.36``, or an empty string where the C library is another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


print(
    json.dumps(
        {
            "implementation": platform.python_implementation().lower(),
            "version": platform.python_version(),
            # An interpreter of a virtual environment would make the image's environment depend on it.
            "executable": getattr(sys, "_base_executable", sys.executable) or sys.executable,
            "libc": libc(),
            "machine": platform.machine(),
        }
    )
)
