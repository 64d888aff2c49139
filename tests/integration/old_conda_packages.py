"""Archives of conda packages as they are seldom seen: without paths.json, or for their owner alone."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

from tests.channels.archive import PLACEHOLDER, CondaPackage, File, write_package
from tests.channels.doubles import generic, pure
from tests.integration.shared_conda_packages import MODULES


def write_old_packages(channel: Path) -> None:
    """Write ``elder`` and ``elder-pure``, from before conda-build 3, and the private ``secretive``."""
    prefix = PLACEHOLDER.encode()
    files = {
        "bin/elder": File(b"#!" + prefix + b"/bin/python\nprint('elder')\n", executable=True),
        "lib/elder.bin": File(b"\x7fELF\0" + prefix + b"/lib\0end\0"),
        "share/elder/link": File(link="text"),
        "share/elder/text": File(b"text\n"),
        f"{MODULES}/elder.py": File(b"age = 100\n"),
    }
    elder = generic("elder", "1.0.0", subdir="linux-64", files=files, archive="tar.bz2", depends=("python",))
    _as_before_conda_build_3(write_package(elder, channel), elder)
    pure_elder = pure("elder-pure", "1.0.0", archive="tar.bz2", entry_points=("older = elder_pure:main",))
    scripts = {"python-scripts/old": File(b"#!" + prefix + b"/bin/python\nprint('old')\n", executable=True)}
    pure_elder = replace(pure_elder, files={**pure_elder.files, **scripts})
    _as_before_conda_build_3(write_package(pure_elder, channel), pure_elder)
    secretive = pure("secretive", "1.0.0", archive="tar.bz2")
    more = {
        "share/secretive/secrets.txt": File(b"of nobody\n"),
        "python-scripts/run-secret": File(b"#!" + prefix + b"/bin/python\nprint('run')\n", executable=True),
    }
    secretive = replace(secretive, files={**secretive.files, **more})
    _rewrite(write_package(secretive, channel), {}, private=True)


def _as_before_conda_build_3(archive: Path, package: CondaPackage) -> None:
    modes = {
        path: "binary" if bytes(1) in data else "text"
        for path, file in package.files.items()
        if PLACEHOLDER.encode() in (data := file.read())
    }
    lines = [f"{PLACEHOLDER} {mode} {path}\n" for path, mode in modes.items()]
    _rewrite(archive, {"info/paths.json": None, "info/has_prefix": "".join(lines).encode()})


def _rewrite(archive: Path, changed: dict[str, bytes | None], *, private: bool = False) -> None:
    """Write an archive anew with other files, and with the mode of its files for the owner alone."""
    rewritten = archive.with_suffix(".new")
    with tarfile.open(archive) as old, tarfile.open(rewritten, "w:bz2") as new:
        for member in old:
            if member.name in changed:
                continue
            if private and not member.name.startswith("info/"):
                member.mode &= 0o700
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        for name, data in changed.items():
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o644
                new.addfile(member, io.BytesIO(data))
    rewritten.rename(archive)
