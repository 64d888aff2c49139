"""A base image of 2 MB, made from the busybox of this machine, for tests of the engine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping

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


def tiny_image() -> bytes:
    """Return the image as `docker load` takes it: the same bytes, so the same image ID, each time.

    Parts of the suite run at once and load it into the same engine. `docker import` would give the name a
    new image under the other part's tests.
    """
    layer = tiny_archive()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "2026-01-01T00:00:00Z"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [REFERENCE], "Layers": ["layer.tar"]}]
    return archive(
        {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def context(dockerfile: str, **files: bytes) -> bytes:
    """Return a build context as a tar archive."""
    return archive({"Dockerfile": dockerfile.encode(), **files})


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()
