"""Options of a command in a container, in the syntax of `docker run`: variables, ports, mounts, GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.engine.run_container import Mount
from imagesync.errors import UsageError

if TYPE_CHECKING:
    import docker.types

WORKSPACE: Final = "/workspace"
SHM_SIZE: Final = 1 << 30
"""Bytes of /dev/shm: Docker's 64 MB end programs that share arrays between processes with a bus error."""
_SIZE = re.compile(r"(\d+)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True)
class ContainerRun:
    """A command to run in a container of an image.

    Parameters
    ----------
    reference
        The image.
    command
        Its words; empty for the image's own command.
    folder
        Mounted at ``/workspace``, which is also the working directory.
    environment
        Variables of the command.
    ports
        Host port by container port, both TCP, published on loopback only.
    mounts
        Further folders and volumes.
    user
        As ``docker run --user``; empty for the one to whom files in *folder* then belong as they do here.
    network
        As ``docker run --network``; empty for the engine's default.
    gpus
        As ``docker run --gpus``; empty for none.
    shm_size
        Bytes of ``/dev/shm``.
    tty
        Whether the command gets this process's terminal; ``None`` for yes if stdin and stdout are one.
    """

    reference: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    user: str = ""
    network: str = ""
    gpus: str = ""
    shm_size: int = SHM_SIZE
    tty: bool | None = None


def parse_variables(words: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables by name, from ``NAME=VALUE``, or ``NAME`` alone for the value in *environ*.

    >>> parse_variables(["A=1=2", "HOME", "UNSET"], {"HOME": "/home/me"})
    {'A': '1=2', 'HOME': '/home/me'}
    """
    variables = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word} has no name.", hint="Write --env NAME=VALUE, or --env NAME.")
        if separator or name in environ:
            variables[name] = value if separator else environ[name]
    return variables


def parse_ports(words: Iterable[str]) -> dict[int, int]:
    """Return the host port of each container port, from ``OUTSIDE:INSIDE`` or one number for both.

    >>> parse_ports(["8787", "9000:80"])
    {8787: 8787, 80: 9000}
    """
    ports = {}
    for word in words:
        outside, _, inside = word.partition(":")
        try:
            numbers = int(outside), int(inside or outside)
        except ValueError:
            numbers = (0, 0)
        if not all(0 < number < 65536 for number in numbers):
            raise UsageError(
                f"--publish {word} isn't a port mapping.",
                hint="Write --publish 8787, or --publish 9000:8787.",
            )
        ports[numbers[1]] = numbers[0]
    return ports


def parse_mounts(mounts: Iterable[str | Mount], *, folder: Path | None = None) -> tuple[Mount, ...]:
    """Return mounts from their texts.

    Parameters
    ----------
    mounts
        Values; or ``SOURCE:TARGET[:ro|rw]`` as ``docker run --volume`` takes them, where a source that isn't
        a path names a volume; or ``type=bind,source=SOURCE,target=TARGET[,readonly]`` as ``--mount`` does.
    folder
        Sources that begin with a dot are relative to it.

    Raises
    ------
    UsageError
        A mount is malformed.

    >>> parse_mounts(["/data:/data:ro", "scratch:/scratch"])[1].kind
    'volume'
    >>> parse_mounts(["type=bind,src=/a:b,dst=/data,ro"])
    (Mount(source='/a:b', target='/data', read_only=True, kind='bind'),)
    """
    return tuple(_parse_mount(mount, folder) if isinstance(mount, str) else mount for mount in mounts)


def _parse_mount(text: str, folder: Path | None) -> Mount:
    if text.startswith("type=") or ",target=" in text or ",dst=" in text:
        return _parse_fields(text, folder)
    # The first colon of C:\data:/data belongs to the drive.
    match = re.fullmatch(r"((?:[A-Za-z]:[\\/])?[^:]+):(/[^:]*)(?::(ro|rw))?", text)
    if match is None:
        raise _not_a_mount(text)
    source, target, mode = match.groups()
    source = _resolved(source, folder)
    bind = source.startswith("/") or bool(re.match(r"[A-Za-z]:[\\/]", source))
    return Mount(source, target, read_only=mode == "ro", kind="bind" if bind else "volume")


def _parse_fields(text: str, folder: Path | None) -> Mount:
    names = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    pairs = [part.partition("=") for part in text.split(",")]
    fields = {names.get(name, name): value for name, _, value in pairs}
    kind, source = fields.pop("type", "volume"), fields.pop("source", "")
    target, read_only = fields.pop("target", ""), fields.pop("readonly", "false")
    if fields or not source or not target.startswith("/") or read_only not in ("", "true", "1", "false", "0"):
        raise _not_a_mount(text)
    if kind == "bind":
        return Mount(_resolved(source, folder), target, read_only=read_only in ("", "true", "1"))
    if kind != "volume":
        raise _not_a_mount(text)
    return Mount(source, target, read_only=read_only in ("", "true", "1"), kind="volume")


def _resolved(source: str, folder: Path | None) -> str:
    return str((folder / source).resolve()) if folder is not None and source.startswith(".") else source


def _not_a_mount(text: str) -> UsageError:
    return UsageError(
        f"The mount {text!r} is malformed.",
        hint="Write SOURCE:TARGET, SOURCE:TARGET:ro, or type=bind,source=SOURCE,target=TARGET,readonly.",
    )


def parse_size(text: str) -> int:
    """Return a size in bytes, from a number with the binary units of `docker run --shm-size`.

    >>> parse_size("2g"), parse_size("512MB"), parse_size("1GiB")
    (2147483648, 536870912, 1073741824)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} isn't a size of shared memory.", hint="Write --shm-size 2g, or in bytes.")
    return int(match[1]) * _FACTORS[match[2].lower()]


def check_user(text: str) -> str:
    """Return *text* if it can be a user of ``docker run --user``, else raise :class:`UsageError`."""
    if text and _USER.fullmatch(text) is None:
        raise UsageError(
            f"--user {text} isn't a user.", hint="Write --user 1000, --user 1000:1000 or --user app."
        )
    return text


def device_requests(gpus: str) -> list[docker.types.DeviceRequest] | None:
    """Return the device requests of ``docker run --gpus``: ``all``, a number, ``device=0,1`` or IDs."""
    import docker.types

    if not gpus:
        return None
    kind = [["gpu"]]
    if gpus == "all":
        return [docker.types.DeviceRequest(count=-1, capabilities=kind)]
    if gpus.isdigit():
        return [docker.types.DeviceRequest(count=int(gpus), capabilities=kind)]
    identifiers = gpus.strip("\"'").removeprefix("device=").split(",")
    return [docker.types.DeviceRequest(device_ids=identifiers, capabilities=kind)]


def mount_objects(mounts: Iterable[Mount]) -> list[docker.types.Mount]:
    """Return the mounts as the engine's API takes them: their sources may have colons, and must exist."""
    import docker.types

    return [
        docker.types.Mount(mount.target, mount.source, type=mount.kind, read_only=mount.read_only)
        for mount in mounts
    ]
