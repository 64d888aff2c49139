"""Whether the engine sees this machine's folders: its side is a server that looks in another folder."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from imagesync.engine.interactive import _mounted_folders
from imagesync.engine.mounted_folder import check_mounted
from imagesync.engine.run_container import Mount
from imagesync.engine.run_options import ContainerRun
from imagesync.errors import EngineError


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Any]:
    """Return the client of an engine whose containers have ``there`` at ``/data``."""
    there = tmp_path / "there"

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            (path,) = parse_qs(urlsplit(self.path).query)["path"]
            found = there / path.removeprefix("/data").lstrip("/")
            self.send_response(200 if found.exists() else 404)
            if found.exists():
                changed = datetime.fromtimestamp(found.stat().st_mtime, timezone.utc)
                status = json.dumps({"name": found.name, "mtime": changed.isoformat()})
                self.send_header("X-Docker-Container-Path-Stat", base64.b64encode(status.encode()).decode())
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield SimpleNamespace(
        base_url=f"http://127.0.0.1:{server.server_port}", api_version="1.41", head=requests.head
    )
    server.shutdown()
    server.server_close()


def refuse_to_write(path: Path, *_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))  # root may write everywhere


@pytest.mark.parametrize("is_writable", [True, False])
def test_folder_is_told_from_another_one_even_if_both_are_empty(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_writable: bool
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for number, folder in enumerate((there, here)):
        folder.mkdir()
        os.utime(folder, (1_000_000 + number, 1_000_000 + number))
    if not is_writable:
        monkeypatch.setattr(Path, "touch", refuse_to_write)
    check_mounted(api, "c", there, "/data", reference="imagesync:1")
    with pytest.raises(EngineError, match="another folder"):
        check_mounted(api, "c", here, "/data", reference="imagesync:1")


def test_mounts_of_local_folders_are_checked(tmp_path: Path) -> None:
    mounts = (
        Mount(str(tmp_path), "/data/"),
        Mount("/nowhere/on/this/machine", "/other"),
        Mount("scratch", "/scratch", kind="volume"),
    )
    run = ContainerRun("imagesync:1", (), Path("/work"), mounts=mounts)
    assert list(_mounted_folders(run)) == [(Path("/work"), "/workspace"), (tmp_path, "/data")]
