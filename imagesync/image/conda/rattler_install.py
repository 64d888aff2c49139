"""Install conda archives by py-rattler; runs in the build, started by install_conda.py.

Usage: python3 rattler_install.py SCRATCH LIBRARY < REQUEST

The folder LIBRARY holds py-rattler. REQUEST is JSON: the prefix, the folder of a package cache, the paths of
the archives, and their records. SCRATCH gets failed.json with the packages whose post-link script failed.
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

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[2])

import rattler
from rattler import install

# Fields of an archive's index.json that a channel may have corrected in its repodata.
INDEX = (
    "name", "version", "build", "build_number", "subdir", "depends", "constrains", "noarch",
)  # fmt: skip


class LinkScripts:
    """The reporter of an installation: it collects the packages whose post-link script failed."""

    def __init__(self) -> None:
        self.packages: list[str] = []
        self.failed: list[str] = []

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        """Add the package, and return its index."""
        self.packages.append(package_name)
        print(f"running {script_path} of {package_name}", flush=True)
        return len(self.packages) - 1

    def on_post_link_complete(self, index: int, success: bool) -> None:
        """Report a script that failed."""
        if not success:
            print(f"WARNING: the post-link script of {self.packages[index]} failed", flush=True)
            self.failed.append(self.packages[index])

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function that ignores any other message."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *values: 0


def to_record(record: dict[str, Any], archive: Path, scratch: Path) -> rattler.RepoDataRecord:
    """Return py-rattler's record of a package; every version of py-rattler can make it from an index.json."""
    index = scratch / "index.json"
    index.write_text(json.dumps({key: record[key] for key in INDEX if record.get(key) is not None}))
    package = rattler.PackageRecord.from_index_json(
        index, archive.stat().st_size, record["sha256"], record.get("md5") or None
    )
    return rattler.RepoDataRecord(package, record["fn"], f"file://{archive}", record["channel"])


async def main(scratch: Path) -> None:
    """Install the archives of the request."""
    request = json.load(sys.stdin)
    archives = map(Path, request["archives"])
    scripts = LinkScripts()
    await install(
        [to_record(record, path, scratch) for record, path in zip(request["records"], archives, strict=True)],
        target_prefix=request["prefix"],
        cache_dir=Path(request["cache"]),
        execute_link_scripts=True,
        show_progress=False,
        reporter=scripts,
    )
    (scratch / "failed.json").write_text(json.dumps(sorted(scripts.failed)))


if __name__ == "__main__":
    code = 0
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for py-rattler's threads: that crashed at the interpreter's end with 0.28.
    os._exit(code)
