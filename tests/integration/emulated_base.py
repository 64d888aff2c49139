"""A base image for linux/arm64 with Python, and the emulation that its programs run by, on Debian or Ubuntu.

Debian's packages are unpacked without running their scripts, which takes half a minute, once a machine.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_ARM64
from imagesync.registry.config import ContainerConfig, ImageConfig
from imagesync.registry.manifest import LAYER_GZIP
from imagesync.registry.oci_image import OCIImage, compose_image
from imagesync.registry.oci_layout import ImageLayout

ROOT = Path(__file__).parents[2]
_WORK = ROOT / ".work" / "emulated"
_PACKAGES = "python3,libc-bin,libstdc++6"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_CONFIGURATION = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
NO_EMULATION = "no programs of linux/arm64 run on this machine"


def require_emulation() -> None:
    """Have programs of linux/arm64 run on this machine, or skip the test."""
    if platform.machine() == LINUX_ARM64.machine:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"{NO_EMULATION}: only root on Debian or Ubuntu can install an emulator")
    subprocess.run(["scripts/apt-install.sh", "qemu-user-static", "mmdebstrap"], cwd=ROOT, check=True)
    if not (_BINFMT / "register").exists():
        command = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip(f"{NO_EMULATION}: binfmt_misc can't be mounted")
    if not (_BINFMT / "qemu-aarch64").exists():
        (_BINFMT / "register").write_bytes(_CONFIGURATION.read_bytes().strip())


def emulated_base(layout: ImageLayout) -> OCIImage:
    """Put a base image for linux/arm64 into *layout*, from this machine's release; or skip the test."""
    release = platform.freedesktop_os_release()
    suite = release.get("VERSION_CODENAME", "")
    archive = _WORK / f"{suite}.tar"
    if not archive.exists():
        _WORK.mkdir(parents=True, exist_ok=True)
        hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
        command = ["mmdebstrap", "--quiet", "--arch=arm64", "--variant=extract", hooks]
        partial = archive.with_suffix(f".{os.getpid()}.tar")
        made = subprocess.run(
            [*command, f"--include={_PACKAGES}", suite, str(partial)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            pytest.skip(f"{NO_EMULATION}: mmdebstrap has made no base image: {made.stderr[-300:]}")
        partial.replace(archive)
    content = archive.read_bytes()
    layer = layout.add_bytes(gzip.compress(content, 1, mtime=0), LAYER_GZIP)
    config = ImageConfig(
        LINUX_ARM64.full_name,
        (f"sha256:{hashlib.sha256(content).hexdigest()}",),
        ContainerConfig(env=("PATH=/usr/bin",)),
        (),
        "1980-01-01T00:00:00Z",
    )
    return compose_image(config, [layer], layout)


def python_of_base() -> str:
    """Return the feature version of Python in the base image, which is that of this machine's release."""
    found = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or f"{sys.version_info.major}.{sys.version_info.minor}"
