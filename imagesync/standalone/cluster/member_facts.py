"""Return the content of a process's environment; runs in schedulers and workers.

It is sent as text: pickled functions hold bytecode, which another version of Python can't read, and such a
difference is one that has to be found.
"""

# A worker is blocked while this runs: os.path is several times as fast as pathlib.
# ruff: noqa: PTH118, PTH123, PTH208

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import socket
import sys
import sysconfig
from typing import Any

from imagesync.standalone.distributions import canonical_name, identity

_METADATA = re.compile(r'site-packages/([^/"]+?)-[^-/"]+\.dist-info/METADATA"')


def facts() -> dict[str, Any]:
    """Return the distributions and conda packages of this process, and the inventory of its image."""
    environment = read_json(os.path.join(sys.prefix, "share", "imagesync", "environment.json"))
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": sysconfig.get_platform(),
        "libc": os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else "",
        "distributions": distributions(),
        "conda": conda_records(described=environment is not None),
        "environment": environment,
        # What was sent to a running worker is in a separate folder with a description.
        "synced": synced(),
        "purelib": sysconfig.get_path("purelib"),
        "place": place(sys.prefix),
    }


def place(prefix: str) -> list[Any]:
    """Return the identity of a folder: equal in processes that see the same one."""
    status = os.stat(prefix)  # noqa: PTH116
    return [socket.gethostname(), status.st_dev, status.st_ino]


def synced() -> dict[str, Any]:
    """Return the descriptions of what was synced to this process, by folder of the path."""
    described = {folder: read_json(os.path.join(folder, "imagesync-synced.json")) for folder in sys.path}
    found = {folder: content for folder, content in described.items() if content is not None}
    for folder, content in found.items():
        # Modules that were imported before stay in use.
        content["stale"] = [name for name, modules in content["modules"].items() if is_stale(modules, folder)]
    return found


def is_stale(modules: list[str], folder: str) -> bool:
    """Return True if one of these modules was imported from outside of a folder."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in modules]
    return any(file is not None and not file.startswith(folder + os.sep) for file in files)


def distributions() -> list[dict[str, Any]]:
    """Return the distributions of the path in its order; of equal names, an import finds the first."""
    found = []
    for distribution in importlib.metadata.distributions():
        name, version = identity(distribution)
        if name:
            found.append(
                {
                    "name": canonical_name(name),
                    "version": version,
                    "location": str(distribution.locate_file("")),
                    "installer": (distribution.read_text("INSTALLER") or "").strip(),
                    "local": distribution.read_text("direct_url.json") is not None,
                }
            )
    return found


def conda_records(*, described: bool) -> list[dict[str, Any]]:
    """Return name, version and build of conda's records, from the names of their files.

    The distributions that they provide are in their content, tens of megabytes: it is read only if the
    environment isn't *described* by an inventory.
    """
    folder = os.path.join(sys.prefix, "conda-meta")
    records = []
    for filename in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():  # noqa: PTH112
        parts = filename.rsplit("-", 2)
        if filename.endswith(".json") and len(parts) == 3:
            text = "" if described else read_text(os.path.join(folder, filename))
            provided = [canonical_name(name) for name in set(_METADATA.findall(text))]
            name, version, build = parts
            build = build[: -len(".json")]
            records.append({"name": name, "version": version, "build": build, "provides": provided})
    return records


def read_text(path: str) -> str:
    """Return the text of a file, or an empty one if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def read_json(path: str) -> Any:  # noqa: ANN401  any JSON value
    """Return the value of a JSON file, or ``None`` if it can't be read."""
    try:
        return json.loads(read_text(path))
    except ValueError:
        return None
