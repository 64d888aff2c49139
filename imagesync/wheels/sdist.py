"""Wheels of packages that an index has as an sdist only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from uv import find_uv_bin

from imagesync.errors import WheelError
from imagesync.lock.index_environment import uv_environment
from imagesync.lock.lock import LockedPackage, Target
from imagesync.scan.environment import Interpreter
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build import BuildRequest, build_folder, build_wheel
from imagesync.wheels.fit import check_identity, check_wheel, host_is_target, is_pure
from imagesync.wheels.unpack import unpack_sdist

if TYPE_CHECKING:
    from imagesync.scan.pip_configuration import IndexConfiguration
    from imagesync.ui.progress import Progress

_FORMAT = 1  # raised when the same sdist would give another wheel


def build_sdist(
    sdist: StoredFile,
    *,
    package: LockedPackage,
    target: Target,
    python: Interpreter,
    store: Store,
    indexes: IndexConfiguration,
    progress: Progress,
) -> StoredFile:
    """Return the wheel of *package*, built from its *sdist* with the scanned interpreter, or from the store.

    Raises
    ------
    WheelError
        It can't be built; or it isn't pure Python, and this machine's platform isn't the target's.
    """
    parts = (str(_FORMAT), sdist.digest, python.minor, python.platform, target.platform)
    key = "sdist " + " ".join(parts)
    with store.lock(f"sdist-{sdist.digest.removeprefix('sha256:')}", progress=progress):
        if (stored := store.recall(key, progress=progress)) is not None:
            check_wheel(stored.path, filename=stored.filename, target=target)
            return stored
        label = f"Building {package.name} {package.version}"
        with build_folder() as folder, progress.task(label, total=1, unit="packages") as task:
            request = BuildRequest(
                name=package.name,
                version=package.version,
                source=unpack_sdist(sdist.path, folder / "source", name=f"{package.name} {package.version}"),
                python=python,
                environ=uv_environment(indexes, os.environ),
                uv=find_uv_bin(),
                no_index=indexes.no_index,
                log=store.root / "logs" / f"{package.name}-{package.version}.log",
            )
            wheel = build_wheel(request, output=folder / "wheel")
            if not is_pure(wheel.name) and not host_is_target(python, target):
                raise WheelError(
                    f"{package.name} {package.version} has no wheel for {target.platform}, and its sdist has "
                    f"extension modules, which can't be built for it on {python.platform}.",
                    hint="Choose a version that has wheels for Linux, or set its level to `ignore`.",
                )
            check_wheel(wheel, filename=wheel.name, target=target)
            check_identity(wheel.name, name=package.name)
            stored = store.add_file(wheel)
            store.remember(key, stored)
            task.advance(1)
    return stored
