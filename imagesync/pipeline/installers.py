"""What installs packages in a build, for the image's platform: uv, and micromamba or py-rattler."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.errors import FetchError
from imagesync.lock.resolvers.resolver import ResolutionRequest

if TYPE_CHECKING:
    from imagesync.image.conda.installer import CondaInstaller
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.artifact_sources import Workshop
    from imagesync.settings import Settings
    from imagesync.store.store import Store, StoredFile


def conda_installer(lock: Lock, settings: Settings, workshop: Workshop) -> CondaInstaller:
    """Return what a build installs the conda packages of *lock* with.

    Raises
    ------
    UsageError
        The micromamba that the settings name can't be used.
    """
    from imagesync.image.conda.installer import choose_installer

    return choose_installer(
        settings.conda_installer,
        micromamba=settings.micromamba,
        channels=workshop.channels,
        store=workshop.store,
        wheel=lambda requirement: _tool(requirement, lock, workshop),
    )


def _tool(requirement: str, lock: Lock, workshop: Workshop) -> StoredFile:
    """Return the wheel of a tool for the image's platform, from the user's index."""
    name = requirement.partition("==")[0]
    resolver = workshop.answering_resolver()
    found = resolver.resolve(ResolutionRequest(target=lock.target, requirements=(requirement,)))
    (wheel,) = workshop.fetch([package for package in found if package.name == name])
    return wheel


def uv_installer(lock: Lock, workshop: Workshop) -> Path:
    """Return uv for the image's platform: our own where it runs there, else the one in uv's wheel."""
    import uv

    if sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc":
        return Path(uv.find_uv_bin())
    from importlib.metadata import version

    key = f"installer {lock.target.platform} uv {version('uv')}"
    executable = workshop.store.recall(key, progress=workshop.progress)
    if executable is None:
        request = ResolutionRequest(target=lock.target, requirements=(f"uv=={version('uv')}",))
        (locked,) = workshop.resolver.resolve(request)
        (wheel,) = workshop.fetch([locked])
        executable = _extract(wheel, workshop.store)
        workshop.store.remember(key, executable)
    return executable.path


def _extract(wheel: StoredFile, store: Store) -> StoredFile:
    """Return the executable that uv's wheel holds among its scripts.

    Raises
    ------
    FetchError
        The wheel holds none.
    """
    import zipfile

    with zipfile.ZipFile(wheel.path) as archive:
        for name in archive.namelist():
            if name.endswith(".data/scripts/uv"):
                with archive.open(name) as file:
                    return store.add(iter(lambda: file.read(1 << 20), b""), filename="uv")
    raise FetchError(
        f"{wheel.filename} holds no uv executable.",
        hint="Install another version of uv beside imagesync: pip install --upgrade uv",
    )
