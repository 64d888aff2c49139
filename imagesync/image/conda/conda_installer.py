"""The installer of conda packages in a build, micromamba or py-rattler; neither stays in the image."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagesync.core.files import read_chunks
from imagesync.core.platforms import Platform, this_machine_runs_on
from imagesync.core.progress import Severity
from imagesync.core.scratch import scratch_folder
from imagesync.errors import ArtifactGone, FetchError, HashMismatch, ImagesyncError, LockError, UsageError
from imagesync.lock.conda.archive_files import archive_path

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.store.store import Store, StoredFile

Setting = Literal["auto", "micromamba", "rattler"]

_ELF = b"\x7fELF"
_VERSION = re.compile(r"\d+\.\d+\S*\s*\Z")  # "2.8.1", and nothing else
_SECONDS = 60
_HINT = "Name a micromamba for {subdir}: https://micro.mamba.pm/api/micromamba/{subdir}/latest"


@dataclass(frozen=True)
class CondaInstaller:
    """The installer of conda packages in a build.

    Parameters
    ----------
    kind
        The program that installs.
    micromamba
        An executable for the image's platform; ``None`` to use the base image's.
    rattler
        The files of py-rattler for the image's platform, by their names below its package's folder.
    image
        An image in the engine that has these files in the folder ``rattler``; ``None`` if the build context
        has them.
    """

    kind: Literal["micromamba", "rattler"]
    micromamba: Path | None = None
    rattler: tuple[tuple[str, Path], ...] = field(default=(), repr=False)
    image: str | None = None


def choose_installer(
    setting: Setting,
    *,
    platform: Platform,
    micromamba: Path | None,
    channels: Channels | None,
    store: Store,
    wheel: Callable[[str], StoredFile],
    progress: Progress,
) -> CondaInstaller:
    """Return the installer that a build uses for conda packages.

    Parameters
    ----------
    setting
        The setting ``conda_installer``. ``auto`` is py-rattler, which is faster, and which the engine keeps;
        micromamba if the index doesn't have py-rattler for the image's platform.
    platform
        That of the image.
    micromamba
        The executable that the user named.
    channels
        The channels that are searched for the package ``micromamba``; ``None`` for no search.
    store
        Keeps the executable and the files of py-rattler.
    wheel
        Returns a wheel for the image's platform, for a requirement such as ``py-rattler==0.28.0``.
    progress
        Says that micromamba takes the place of py-rattler, and why.

    Raises
    ------
    UsageError
        The named executable has to install, and isn't a micromamba for the image's platform.
    FetchError
        py-rattler can't be had, and nothing takes its place; or its wheel doesn't have its digest.
    """
    if setting == "micromamba":
        return CondaInstaller("micromamba", _executable(micromamba, platform, channels, store))
    try:
        return CondaInstaller("rattler", rattler=tuple(_rattler(store, platform, wheel)))
    except HashMismatch:
        raise  # an index that sends other content isn't to be trusted
    except (LockError, FetchError) as error:
        executable = _executable(micromamba, platform, channels, store) if setting == "auto" else None
        if executable is None:
            raise
        progress.line(
            f"micromamba installs the conda packages, because py-rattler can't be had: {error.message}",
            Severity.WARNING,
        )
        return CondaInstaller("micromamba", executable)


def _executable(
    named: Path | None, platform: Platform, channels: Channels | None, store: Store
) -> Path | None:
    return check_micromamba(named, platform) if named is not None else _from_channel(channels, store)


def check_micromamba(path: Path, platform: Platform) -> Path:
    """Return the path of an executable that the user named, once it has answered as micromamba.

    Raises
    ------
    UsageError
        It isn't a micromamba for the image's platform.
    """
    path = path.expanduser()
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise UsageError(
            f"micromamba can't be read: {path}: {error.strerror}",
            hint="Correct --micromamba, IMAGESYNC_MICROMAMBA or `micromamba` in the settings.",
        ) from error
    hint = _HINT.format(subdir=platform.subdir)
    if header[:4] != _ELF or header[18:20] != platform.elf_machine.to_bytes(2, "little"):
        raise UsageError(
            f"{path} is no program for {platform}, on which it has to run in the build.",
            hint=hint,
        )
    if this_machine_runs_on(platform) and not _VERSION.match(_version(path)):
        raise UsageError(
            f"{path} isn't micromamba: `{path.name} --version` doesn't answer with one.", hint=hint
        )
    return path


def _version(path: Path) -> str:
    """Return the answer of an executable to ``--version``; empty if it fails."""
    try:
        done = subprocess.run(
            [path.absolute(), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _from_channel(channels: Channels | None, store: Store) -> Path | None:
    """Return the newest micromamba of the channels at the first call; the store keeps it for later ones."""
    if channels is None:
        return None
    key = (
        f"micromamba of {' '.join(f'{channel}/{channels.platform.subdir}' for channel in channels.channels)}"
    )
    known = store.recall(key)
    if known is not None:
        return known.path
    try:
        found = channels.available(["micromamba"]).get("micromamba", ())
        if not found:
            return None
        (archive,) = channels.archives(found[-1:]).obtain(found[-1:])
    except HashMismatch:
        raise  # a channel that sends other content isn't to be trusted
    except (LockError, FetchError):
        return None  # the base image may have one
    if isinstance(archive, ArtifactGone):
        return None
    executable = _extract_micromamba(found[-1], archive, store=store)
    store.remember(key, executable)
    return executable.path


def _extract_micromamba(package: LockedConda, archive: StoredFile, *, store: Store) -> StoredFile:
    """Return the executable in an archive of the package ``micromamba``.

    Raises
    ------
    ImagesyncError
        It has none.
    """
    import asyncio

    key = f"micromamba of {archive.digest}"
    executable = store.recall(key)
    if executable is None:
        with scratch_folder("conda") as folder:
            content = asyncio.run(_member(archive_path(archive, folder), "bin/micromamba"))
        if content is None:
            raise ImagesyncError(
                f"The conda package {package.name} {package.version} has no bin/micromamba.",
                hint='Set conda_installer = "rattler", or name a micromamba: --micromamba PATH',
            )
        executable = store.add(iter([content]), filename="micromamba")
        store.remember(key, executable)
    return executable


async def _member(path: Path, name: str) -> bytes | None:
    from rattler.package_streaming import PackageArchive

    archive = await PackageArchive.from_path(path)
    async for entry in archive.stream("pkg"):
        if entry.name == name and entry.is_file:
            return await entry.read()
    return None


def _rattler(
    store: Store, platform: Platform, wheel: Callable[[str], StoredFile]
) -> Iterator[tuple[str, Path]]:
    """Yield the files of py-rattler: the installed ones on the image's platform, else a wheel's."""
    import rattler

    if this_machine_runs_on(platform):
        folder = Path(rattler.__file__).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".so"):
                yield path.relative_to(folder).as_posix(), path
        return
    from importlib.metadata import version

    archive = wheel(f"py-rattler=={version('py-rattler')}")
    with zipfile.ZipFile(archive.path) as content:
        for name in sorted(content.namelist()):
            first, _, rest = name.partition("/")
            if first == "rattler" and name.endswith((".py", ".so")):
                with content.open(name) as file:
                    yield rest, store.add(read_chunks(file), filename=Path(name).name).path
