"""Check that a folder in a container is the folder of this machine that was to be mounted there.

An engine on another machine, or on the host of a dev container, takes the path for one of its own: the
folder is missing there, or empty, and what the command writes is never seen here.
"""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from imagesync.engine.client import parse_time
from imagesync.errors import EngineError

if TYPE_CHECKING:
    import docker

_NOT_FOUND = 404


def check_mounted(
    api: docker.APIClient, container: str, folder: Path, target: str, *, reference: str
) -> None:
    """Check that *target* in a container is *folder*; the container needn't run.

    A file is made for that, and removed again. Where this user can't write to the folder, its files are
    compared by name, or if it has none, the time of its last change.

    Raises
    ------
    EngineError
        It is another folder, or the engine doesn't tell.
    """
    marker = folder / f".imagesync-{uuid4().hex}"
    try:
        marker.touch()
    except OSError:
        found = _looks_same(api, container, folder, target)
    else:
        try:
            found = _is_there(api, container, f"{target}/{marker.name}")
        finally:
            with contextlib.suppress(OSError):
                marker.unlink()
    if not found:
        raise EngineError(
            f"The engine has another folder than this machine at {folder}, so {target} wouldn't be this one.",
            hint="Its paths are those of its own machine: another one, or the host of this dev container. Run"
            f" this where the engine runs; or without a folder: docker run --rm {reference} COMMAND",
        )


def _looks_same(api: docker.APIClient, container: str, folder: Path, target: str) -> bool:
    try:
        names = sorted(path.name for path in folder.iterdir())[:3]
        changed = int(folder.stat().st_mtime)
    except OSError:
        return True  # nothing in it can be read here, and so nothing can be compared
    if names:
        return all(_is_there(api, container, f"{target}/{name}") for name in names)
    there = _status(api, container, target).get("mtime")
    return changed == int(parse_time(str(there)).timestamp())


def _is_there(api: docker.APIClient, container: str, path: str) -> bool:
    """Return True if a container has something at *path*, its mounts included."""
    return bool(_status(api, container, path))


def _status(api: docker.APIClient, container: str, path: str) -> dict[str, Any]:
    """Return the engine's status of *path* in a container; empty if it isn't there."""
    # https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerArchiveInfo
    url = f"{api.base_url}/v{api.api_version}/containers/{container}/archive"
    response = api.head(url, params={"path": path})
    if response.status_code == _NOT_FOUND:
        return {}
    response.raise_for_status()
    header = response.headers.get("X-Docker-Container-Path-Stat", "")
    with contextlib.suppress(ValueError):
        found = json.loads(base64.b64decode(header))
        return found if isinstance(found, dict) else {}
    return {}
