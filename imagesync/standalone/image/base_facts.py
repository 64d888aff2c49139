"""Print the facts of a base image's interpreter as JSON; runs in a container of it."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig


def libc() -> str:
    """Return ``glibc 2.36``, or an empty string for another C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


print(
    json.dumps(
        {
            "implementation": platform.python_implementation().lower(),
            "version": platform.python_version(),
            # Not that of a virtual environment, which the image's environment would depend on.
            "executable": getattr(sys, "_base_executable", sys.executable) or sys.executable,
            "libc": libc(),
            "machine": platform.machine(),
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        }
    )
)
