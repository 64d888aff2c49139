"""Install conda archives by py-rattler; runs in the build, started by conda.py.

Usage: python3 conda_rattler.py SCRATCH LIBRARY < REQUEST

py-rattler is in the folder LIBRARY. REQUEST has the prefix, the folder of a package cache, the paths of the
archives, and their records.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRATCH = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])

import rattler  # noqa: E402
from rattler import install  # noqa: E402

# What an archive's own index.json may have, and a channel may have mended since.
INDEX = (
    "name", "version", "build", "build_number", "subdir", "depends", "constrains", "noarch",
)  # fmt: skip


class LinkScripts:
    """What is said while packages are installed: which scripts of packages were run, and how that ended."""

    def __init__(self) -> None:
        self.packages: list[str] = []
        self.failed: list[str] = []

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        """Note the package, and return its number."""
        self.packages.append(package_name)
        print(f"running {script_path} of {package_name}", flush=True)
        return len(self.packages) - 1

    def on_post_link_complete(self, index: int, success: bool) -> None:
        """Say of a script that it failed."""
        if not success:
            print(f"WARNING: the post-link script of {self.packages[index]} failed", flush=True)
            self.failed.append(self.packages[index])

    def __getattr__(self, name: str) -> Callable[..., int]:
        """Return what takes any other message, and does nothing."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *values: 0


def to_record(record: dict[str, Any], archive: Path) -> rattler.RepoDataRecord:
    """Return what py-rattler installs; an index.json is the one way to make it that every version has."""
    index = SCRATCH / "index.json"
    index.write_text(json.dumps({key: record[key] for key in INDEX if record.get(key) is not None}))
    package = rattler.PackageRecord.from_index_json(
        index, archive.stat().st_size, record["sha256"], record.get("md5") or None
    )
    return rattler.RepoDataRecord(package, record["fn"], f"file://{archive}", record["channel"])


async def main() -> None:
    """Install what the request names."""
    request = json.load(sys.stdin)
    archives = map(Path, request["archives"])
    scripts = LinkScripts()
    await install(
        [to_record(record, path) for record, path in zip(request["records"], archives, strict=True)],
        target_prefix=request["prefix"],
        cache_dir=Path(request["cache"]),
        execute_link_scripts=True,
        show_progress=False,
        reporter=scripts,
    )
    (SCRATCH / "failed.json").write_text(json.dumps(sorted(scripts.failed)))


if __name__ == "__main__":
    code = 0
    try:
        asyncio.run(main())
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Its threads end with the process; waiting for them at the interpreter's end crashed with 0.28.
    os._exit(code)
