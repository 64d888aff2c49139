"""Print the Dockerfile that is rendered from the shipped templates, with every block in it, for hadolint."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name

from imagesync.core.platforms import LINUX_AMD64
from imagesync.image.dockerfile import Wheels, make_context
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.plan.plan import Level, PlannedPackage
from imagesync.scan.environment import Source
from imagesync.store.store import StoredFile

ZEROS = "sha256:" + "0" * 64


def stored(folder: Path, filename: str) -> StoredFile:
    """Return a file as the store hands it out; of its content a Dockerfile says nothing."""
    path = folder / filename
    path.write_bytes(b"")
    return StoredFile(filename, path, "sha256:" + hashlib.sha256(b"").hexdigest(), 0)


def main() -> None:
    """Print the Dockerfile."""
    base = BaseImage(
        reference="imagesync-base:0000000000000000",
        root="ubuntu:24.04",
        digest=ZEROS,
        image_id=ZEROS,
        python_version="3.12.3",
        python_executable="/usr/bin/python3.12",
        glibc=(2, 39),
        base_hash=ZEROS,
    )
    toolz, elm = canonicalize_name("toolz"), canonicalize_name("elm")
    source = Source("directory", "file:///elm", editable=True)
    planned = PlannedPackage(elm, "1.0", Level.COMPATIBLE, "==1.0", "", source)
    wheel = Artifact("toolz-1.0.0-py3-none-any.whl", "https://pypi.org/toolz-1.0.0-py3-none-any.whl", ZEROS)
    lock = Lock(
        target=Target(LINUX_AMD64, "3.12.3", (2, 39)),
        packages=(LockedPackage(toolz, "1.0.0", wheel),),
        vendored=(VendoredPackage(elm, "1.0", ZEROS, planned),),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        context = make_context(
            lock,
            base=base,
            environment_hash=ZEROS,
            name="imagesync:0000000000000000",
            packages=Wheels((stored(folder, wheel.filename),), (stored(folder, "toolz.tar"),)),
            vendored=Wheels((stored(folder, "elm-1.0-py3-none-any.whl"),), (stored(folder, "elm.tar"),)),
            installer=Path(sys.executable),
            templates=None,
            version="0",
        )
        print(context.dockerfile)


if __name__ == "__main__":
    main()
