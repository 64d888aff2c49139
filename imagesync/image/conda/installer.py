"""What installs conda packages in a build: micromamba, or py-rattler; neither stays in the image."""

from __future__ import annotations

import asyncio
import platform
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagesync.errors import ArtifactGone, FetchError, HashMismatch, ImagesyncError, LockError, UsageError
from imagesync.lock.conda.archive_files import archive_path
from imagesync.store.source import read_chunks

if TYPE_CHECKING:
    from imagesync.lock.conda.channels import Channels
    from imagesync.lock.lock import LockedConda
    from imagesync.store.store import Store, StoredFile

Kind = Literal["auto", "micromamba", "rattler"]

_ELF_X86_64 = (b"\x7fELF", b"\x3e\x00")


@dataclass(frozen=True)
class CondaInstaller:
    """What installs conda packages in a build.

    Parameters
    ----------
    kind
        What ``conda_installer`` says; with ``auto`` the base image's micromamba is used, where it has one.
    micromamba
        An executable for the image's platform; ``None`` where none was given, and no channel has one.
    rattler
        The files of py-rattler for the image's platform, by their names below its package's folder.
    image
        An image in the engine that has them, in the folder ``rattler``; ``None`` where the build context
        has to have them.
    """

    kind: Kind
    micromamba: Path | None = None
    rattler: tuple[tuple[str, Path], ...] = field(default=(), repr=False)
    image: str | None = None


def choose_installer(
    kind: Kind,
    *,
    micromamba: Path | None,
    channels: Channels | None,
    store: Store,
    wheel: Callable[[str], StoredFile],
) -> CondaInstaller:
    """Return what a build is to install conda packages with.

    Parameters
    ----------
    micromamba
        The executable that the user named; it wins.
    channels
        The channels whose package ``micromamba`` is taken, where one of them has it.
    wheel
        Gives a wheel for the image's platform: of a requirement, such as ``py-rattler==0.28.0``.

    Raises
    ------
    UsageError
        What the user named is no micromamba for the image's platform.
    """
    if kind != "rattler":
        if micromamba is not None:
            return CondaInstaller("micromamba", _checked(micromamba))
        executable = _from_channel(channels, store) if channels is not None else None
        if executable is not None:
            return CondaInstaller("micromamba", executable.path)
        if kind == "micromamba":
            return CondaInstaller(kind)  # the base image may have one
    return CondaInstaller(kind, rattler=tuple(_rattler(store, wheel)))


def _checked(path: Path) -> Path:
    path = path.expanduser()
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise UsageError(
            f"micromamba can't be read: {path}: {error.strerror}",
            hint="Correct --micromamba, IMAGESYNC_MICROMAMBA or `micromamba` in the settings.",
        ) from error
    if header[:4] != _ELF_X86_64[0] or header[18:20] != _ELF_X86_64[1]:
        raise UsageError(
            f"{path} is no program for linux/amd64, on which it has to run in the build.",
            hint="Name a micromamba for linux-64: https://micro.mamba.pm/api/micromamba/linux-64/latest",
        )
    return path


def _from_channel(channels: Channels, store: Store) -> StoredFile | None:
    """Return the newest micromamba of the channels; what was found once is kept."""
    key = f"micromamba of {' '.join(channels.channels)}"
    known = store.recall(key)
    if known is not None:
        return known
    try:
        found = channels.available(["micromamba"]).get("micromamba", ())
        if not found:
            return None
        (archive,) = channels.archives(found[-1:]).obtain(found[-1:])
    except HashMismatch:
        raise  # nobody should go on with a channel that gives something else
    except (LockError, FetchError):
        return None  # py-rattler does as well
    if isinstance(archive, ArtifactGone):
        return None
    executable = extract_micromamba(found[-1], archive, store=store)
    store.remember(key, executable)
    return executable


def extract_micromamba(package: LockedConda, archive: StoredFile, *, store: Store) -> StoredFile:
    """Return the executable that the package ``micromamba`` holds.

    Raises
    ------
    ImagesyncError
        It holds none.
    """
    key = f"micromamba of {archive.digest}"
    executable = store.recall(key)
    if executable is None:
        with tempfile.TemporaryDirectory(prefix="imagesync-conda-") as folder:
            content = asyncio.run(_member(archive_path(archive, Path(folder)), "bin/micromamba"))
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


def _rattler(store: Store, wheel: Callable[[str], StoredFile]) -> Iterator[tuple[str, Path]]:
    """Yield the files of py-rattler: those that run here where this is the image's platform."""
    import rattler

    if sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc":
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
