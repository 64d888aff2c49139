"""A base image of 2 MB, made from the busybox of this machine, for tests of the engine."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile

APPLETS = ("sh", "echo", "cat", "sleep", "id", "ls", "env", "true", "false", "ip", "wc", "touch")
REFERENCE = "imagesync-test/tiny:1"


def busybox() -> str:
    """Return the path of a static busybox, installed from Debian if it is missing."""
    if shutil.which("busybox") is None:
        assert os.geteuid() == 0, "install busybox-static"
        command = ["apt-get", "install", "-y", "--no-install-recommends", "busybox-static"]
        subprocess.run(command, check=True, capture_output=True)
    path = shutil.which("busybox")
    assert path is not None
    return path


def tiny_archive() -> bytes:
    """Return the root file system as a tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for folder in ("bin", "etc", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        archive.add(busybox(), "bin/busybox")
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return content.getvalue()


def context(dockerfile: str, **files: bytes) -> bytes:
    """Return a build context as a tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in {"Dockerfile": dockerfile.encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()
