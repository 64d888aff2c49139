"""The part of conda's command line that conda-lock uses, with py-rattler's solver behind it.

Its first argument is the program that it stands for, ``mamba`` or ``micromamba``: these answer differently.
conda and its like aren't on PyPI, nor in Debian. With this in their place everything of ours and all of
conda-lock runs for real; what needs one of them itself looks for one, and is skipped loudly without.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

# Where they are used: conda-lock asks for the version several times.
if TYPE_CHECKING:
    import rattler

VERSIONS = {"mamba": "mamba 1.5.8\nconda 24.1.2", "micromamba": "2.8.1"}


async def create(channels: list[str], specs: list[str]) -> dict[str, object]:
    import rattler

    virtual, real = [], []
    for channel in channels:
        if channel.startswith("file://") and (found := _virtual_packages(channel)):
            virtual += found
        elif channel != "nodefaults":
            real.append(rattler.Channel(channel))
    with tempfile.TemporaryDirectory() as cache:
        records = await rattler.solve(
            real,
            [rattler.MatchSpec(spec) for spec in specs],  # as lenient as conda itself
            gateway=rattler.Gateway(cache_dir=cache),
            platforms=[rattler.Subdir("linux-64"), rattler.Subdir("noarch")],
            virtual_packages=virtual,
        )
    return {"actions": {"FETCH": [_action(record) for record in records], "LINK": []}, "success": True}


def _virtual_packages(channel: str) -> list[rattler.GenericVirtualPackage]:
    """Return what conda-lock says that the machine has: packages of a channel that it makes for that."""
    import rattler

    path = Path(urlsplit(channel).path, "linux-64", "repodata.json")
    packages = json.loads(path.read_text())["packages"].values() if path.exists() else ()
    return [
        rattler.GenericVirtualPackage(
            rattler.PackageName(package["name"]),
            rattler.Version(package["version"]),
            rattler.BuildString(package["build_string"] or "0"),
        )
        for package in packages
        if package["name"].startswith("__")
    ]


def _action(record: rattler.RepoDataRecord) -> dict[str, object]:
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "channel": str(record.channel),
        "url": record.url,
        "fn": record.file_name,
        "md5": record.md5.hex() if record.md5 else "",
        "sha256": record.sha256.hex() if record.sha256 else None,
        "depends": list(record.depends),
        "constrains": list(record.constrains),
        "subdir": str(record.subdir),
        "timestamp": 0,
    }


def main(arguments: list[str]) -> int:
    name, *arguments = arguments
    if "--version" in arguments:
        print(VERSIONS[name])
        return 0
    from rattler.exceptions import SolverError

    channels, specs = [], []
    words = iter(arguments[1:])
    for word in words:
        if word in ("--channel", "-c"):
            channels.append(next(words))
        elif word in ("--prefix", "-p"):
            next(words)
        elif not word.startswith("-"):
            specs.append(word)
    try:
        answer = asyncio.run(create(channels, specs))
    except SolverError as error:
        answer = {"message": f"Could not solve for environment specs\n{error}"}
        if name == "micromamba":
            answer = {"solver_problems": str(error).splitlines()}
            print("error    libmamba Could not solve for environment specs", file=sys.stderr)
        print(json.dumps({**answer, "success": False}))
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
