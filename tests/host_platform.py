"""A plugin of pytest: the tests run as if ``sys.platform`` was that of ``IMAGESYNC_TEST_PLATFORM``.

Other libraries, and modules of the standard library that look at it, are imported before. It is our code
that takes other branches, while processes, files and sockets are those of this machine.
"""

from __future__ import annotations

import importlib
import os
import sys

import pytest

_IMPORTED_BEFORE = [
    "asyncio",
    "concurrent.futures",
    "ctypes.util",
    "http.server",
    "multiprocessing",
    "pty",
    "sqlite3",
    "sysconfig",
    "IPython",
    "build",
    "certifi",
    "click",
    "conda_lock.lockfile",
    "dask",
    "deflate",
    "distributed",
    "docker",
    "filelock",
    "hypothesis",
    "installer",
    "ipykernel",
    "ipywidgets",
    "jinja2",
    "jsonschema",
    "packaging.tags",
    "platformdirs",
    "psutil",
    "rattler",
    "requests",
    "rich.console",
    "rich.progress",
    "ruamel.yaml",
    "testcontainers",
    "truststore",
    "watchfiles",
    "yaml",
    "zstandard",
]

if _platform := os.environ.get("IMAGESYNC_TEST_PLATFORM"):
    for _name in _IMPORTED_BEFORE:
        importlib.import_module(_name)
    sys.platform = _platform

NEEDS_OWN_SYSTEM = pytest.mark.skipif(
    os.environ.get("IMAGESYNC_TEST_PLATFORM") == "win32",
    reason="not on Windows as tests/host_platform.py has it: libraries call what Linux lacks",
)
