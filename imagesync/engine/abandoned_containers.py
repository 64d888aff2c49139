"""Containers of processes that were killed: each says by a label whose it is, and the next build removes it.

Such a process can't do so itself. Its container may still run, and keeps an image without a name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagesync.engine.buildkit import remove_untagged
from imagesync.engine.client import engine_errors
from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker

_PROCESS: Final = "dev.imagesync.process"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def process_labels() -> dict[str, str]:
    """Return the labels of a container that must not outlive this process."""
    pid = os.getpid()
    return {_PROCESS: f"{_machine()} {pid} {_started(pid)}"}


def remove_abandoned(api: docker.APIClient) -> tuple[str, ...]:
    """Remove the containers of processes of this machine that have ended, and return their IDs.

    Their images go, too, unless they have a name. What can't be removed now stays for the next time.
    """
    removed: list[str] = []
    with suppress(EngineError), engine_errors("list its containers"):
        found = api.containers(all=True, filters={"label": _PROCESS})
        removed += [_remove(api, each) for each in found if _is_abandoned(each.get("Labels") or {})]
    return tuple(removed)


def _remove(api: docker.APIClient, container: Mapping[str, Any]) -> str:
    identifier = str(container["Id"])
    with suppress(EngineError), engine_errors(f"remove the container {identifier}"):
        api.remove_container(identifier, force=True, v=True)
        remove_untagged(api, str(container["ImageID"]))
    return identifier


def _is_abandoned(labels: Mapping[str, str]) -> bool:
    machine, _, process = labels.get(_PROCESS, "").rpartition(" ")[0].rpartition(" ")
    if machine != _machine() or not process.isdecimal() or len(process) > 10:
        return False  # of another machine that uses this engine
    return _started(int(process)) != labels[_PROCESS].rpartition(" ")[2]


def _machine() -> str:
    """Return a name of this machine since it was started: process IDs begin anew then."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{_BOOT.read_text('ascii').strip()}"
    return socket.gethostname()


def _started(pid: int) -> str:
    """Return when a process was started, in any form; empty if there is none."""
    with suppress(OSError, IndexError):
        # proc(5): the name is in parentheses, and may have some itself. The time is field 22.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode("ascii")
    if _BOOT.exists():
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except OSError:
        return ""
    return "running"
