"""A base image with Python, and an environment to put on it, for tests of builds without an engine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

from imagesync.core.files import write_text
from imagesync.core.platforms import LINUX_AMD64
from imagesync.registry.config import ContainerConfig
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from tests.environments import LocalEnvironment, make_environment
from tests.oci_images import small_image

_MINOR = f"3.{sys.version_info.minor}"
_PROJECT = """
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"

[project]
name = "own-code"
version = "1.0"
description = "A test"
scripts = { own = "own_code:main" }
"""


def python_base(layout: ImageLayout, *, platform_name: str = LINUX_AMD64.full_name) -> OCIImage:
    """Put a base image into *layout*: what a build reads of one, with the Python version that runs this."""
    folder, library = Path(venv.__file__).parent, f"usr/local/lib/python{_MINOR}"
    scripts = [folder / "__init__.py", *folder.glob("scripts/common/*"), *folder.glob("scripts/posix/*")]
    return small_image(
        layout,
        {
            "usr/local/bin/python3": f"python{_MINOR}",
            f"usr/local/bin/python{_MINOR}": f"\0{platform.python_version()}\0".encode(),
            "lib/x86_64-linux-gnu/libc.so.6": b"GNU C Library (x) stable release version 2.36.\n",
            "etc/ld.so.conf": b"/lib/x86_64-linux-gnu\n",
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/srv:/bin/sh\n",
            "etc/group": b"root:x:0:\nstaff:x:5:\n",
            "etc/ssl/certs/ca-certificates.crt": b"certificates",
            **{f"{library}/venv/{path.relative_to(folder)}": path.read_bytes() for path in scripts},
        },
        container=ContainerConfig(env=("PATH=/usr/local/bin:/usr/bin",)),
        platform=platform_name,
    )


def small_environment(folder: Path) -> LocalEnvironment:
    """Make an environment with a pure package, a compiled one, and a local one, ``own-code`` in *folder*."""
    (folder / "own-code").mkdir()
    write_text(folder / "own-code" / "pyproject.toml", _PROJECT)
    write_text(folder / "own-code" / "own_code.py", "def main() -> None:\n    print('own')\n")
    packages = ["toolz==1.0.0", "markupsafe==3.0.2"]
    return make_environment(
        folder / "env", packages=packages, python=sys.executable, editable=[folder / "own-code"]
    )


def unpacked(layout: Path, tag: str, folder: Path) -> Path:
    """Return the root of the image *tag* in a layout, unpacked into *folder*."""
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    command = ["umoci", "unpack", *rootless, "--image", f"{layout}:{tag}", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "rootfs"
