"""Print version and requirements of each installed distribution as JSON; runs in the scanned interpreter."""

from __future__ import annotations

import json
from importlib.metadata import distributions


def installed_requirements() -> dict[str, tuple[str, list[str]]]:
    """Return version and requirements by name; of equal names, the first distribution is the imported one."""
    found: dict[str, tuple[str, list[str]]] = {}
    for distribution in distributions():
        try:
            found.setdefault(
                distribution.metadata["Name"], (distribution.version, distribution.requires or [])
            )
        except UnicodeDecodeError:  # noqa: PERF203 - old metadata in Latin-1
            continue
    return {name: entry for name, entry in found.items() if name and entry[0]}


if __name__ == "__main__":
    print(json.dumps(installed_requirements()))
