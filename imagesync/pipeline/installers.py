"""The installers of a build, for the image's platform: uv, and micromamba or py-rattler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.installation import own_installation
from imagesync.core.platforms import this_machine_runs_on
from imagesync.errors import FetchError
from imagesync.image.conda.installer import choose_installer
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.pipeline.artifact_sources import fetch_packages

if TYPE_CHECKING:
    from imagesync.image.conda.installer import CondaInstaller
    from imagesync.lock.lock import Lock
    from imagesync.pipeline.artifact_sources import ArtifactSources
    from imagesync.store.store import Store, StoredFile


def conda_installer(lock: Lock, sources: ArtifactSources) -> CondaInstaller:
    """Return the installer of the conda packages of *lock*.

    Raises
    ------
    UsageError
        The micromamba that the settings name can't be used.
    """
    settings = sources.context.settings
    return choose_installer(
        settings.conda_installer,
        micromamba=settings.micromamba,
        channels=sources.channels,
        store=sources.context.store,
        wheel=lambda requirement: _tool(requirement, lock, sources),
    )


def _tool(requirement: str, lock: Lock, sources: ArtifactSources) -> StoredFile:
    """Return the wheel of a tool for the image's platform, from the user's index."""
    name = requirement.partition("==")[0]
    resolver = sources.responding_resolver()
    found = resolver.resolve(ResolutionRequest(target=lock.target, requirements=(requirement,)))
    (wheel,) = fetch_packages([package for package in found if package.name == name], sources)
    return wheel


def uv_installer(lock: Lock, sources: ArtifactSources) -> Path:
    """Return uv for the image's platform: our own where it runs there, else the one in uv's wheel."""
    import uv

    if this_machine_runs_on(lock.target.platform):
        return Path(uv.find_uv_bin())
    from importlib.metadata import version

    key = f"installer {lock.target.platform} uv {version('uv')}"
    executable = sources.context.store.recall(key, progress=sources.context.progress)
    if executable is None:
        request = ResolutionRequest(target=lock.target, requirements=(f"uv=={version('uv')}",))
        (locked,) = sources.resolver.resolve(request)
        (wheel,) = fetch_packages([locked], sources)
        executable = _extract(wheel, sources.context.store)
        sources.context.store.remember(key, executable)
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
        hint=f"Install another version of uv beside imagesync: {own_installation().reinstall('uv')}",
    )
