"""A program that reads a ``pixi.lock`` with py-rattler, as a separate process.

It is separate because py-rattler ends its process, or prints a backtrace, over a file that it doesn't expect.
It takes the file's path and a platform such as ``linux-64``, and writes one JSON object to stdout: the
environments by name, each with ``channels``, ``platforms``, and the ``packages`` of that platform.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the content of the lock file."""
    from rattler.lock import LockFile

    _, path, subdir = sys.argv
    environments = LockFile.from_path(Path(path)).environments()
    print(json.dumps({name: _environment(environment, subdir) for name, environment in environments}))


def _environment(environment: Any, subdir: str) -> dict[str, Any]:  # noqa: ANN401  a class of py-rattler
    platforms = {str(platform.subdir): platform for platform in environment.platforms()}
    found = environment.packages(platforms[subdir]) if subdir in platforms else ()
    return {
        "channels": [str(channel) for channel in environment.channels()],
        "platforms": sorted(platforms),
        "packages": [_package(package) for package in found or ()],
    }


def _package(package: Any) -> dict[str, Any]:  # noqa: ANN401
    from rattler.lock import CondaLockedBinaryPackage, PypiLockedPackage

    common = {"name": package.name, "location": package.location}
    if isinstance(package, CondaLockedBinaryPackage):
        return {**common, "kind": "conda", "record": json.loads(package.repo_data_record().to_json())}
    if isinstance(package, PypiLockedPackage):
        return {
            **common,
            "kind": "pypi",
            "version": str(package.version or ""),
            "sha256": _sha256(package),
        }
    return {**common, "kind": "source"}


def _sha256(package: Any) -> str:  # noqa: ANN401
    try:
        digest = package.hashes.sha256
    except AttributeError:  # py-rattler 0.28 gives an object around None
        return ""
    return digest.hex() if digest else ""


if __name__ == "__main__":
    # Modules in the folder of this file must not shadow others.
    del sys.path[0]
    main()
