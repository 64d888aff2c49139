"""A registry that wants a password: Debian's ``docker-registry``, as a process on this machine."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import docker
import requests

USER = "me"
PASSWORD = "not:so secret/123"
# Of that password, by bcrypt, which is all that the registry takes.
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuY3hr4ij0F5XpdTA8rCxIlICYiSs7N66\n"
_LISTENING = re.compile(r"listening on ([0-9.]+:\d+)")
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


class LocalRegistry:
    """A registry; on the loopback interface engines ask for no TLS.

    ::

        with LocalRegistry(tmp_path) as registry:
            registry.push(client, "debian:bookworm", "debian:bookworm")
            registry.host    # 127.0.0.1:39463

    Parameters
    ----------
    auth
        How it knows its users, in the words of its configuration; by that one password if not given;
        everybody may do everything if it is empty.
    tls
        Its certificate and key.
    address
        Of this machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        auth: Mapping[str, object] | None = None,
        tls: tuple[Path, Path] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self._folder = folder
        self._address = address
        password = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        self._auth = password if auth is None else auth
        self._tls = {} if tls is None else {"tls": {"certificate": str(tls[0]), "key": str(tls[1])}}

    @property
    def data(self) -> Path:
        """Return the folder that it keeps everything in."""
        return self._folder / "data"

    def __enter__(self) -> LocalRegistry:
        command = shutil.which("docker-registry")
        assert command, "run scripts/test-packages.sh, which installs docker-registry"
        (self._folder / "htpasswd").write_text(_HTPASSWD)
        configuration = self._folder / "registry.json"
        configuration.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "storage": {"filesystem": {"rootdirectory": str(self.data)}},
                    "http": {"addr": f"{self._address}:0", **self._tls},
                    "auth": self._auth,
                }
            )
        )
        self._process = subprocess.Popen(
            [command, "serve", str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := _LISTENING.search(line):
                self.host = found[1]
                break
        else:
            raise AssertionError(f"docker-registry ended with {self._process.wait()}")
        # Whoever doesn't read what it logs stops it when the pipe is full.
        self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def push(self, client: docker.DockerClient, image: str, name: str) -> str:
        """Push an image of the engine under a name without the registry; return its digest there.

        The engine keeps the image, and forgets that it was pushed.
        """
        reference = f"{self.host}/{name}"
        client.api.tag(image, reference)
        login = {"username": USER, "password": PASSWORD}
        for message in client.images.push(reference, auth_config=login, stream=True, decode=True):
            assert "error" not in message, message
        client.images.remove(reference)
        return self.digest(name)

    def digest(self, name: str) -> str:
        """Return the digest of an image's manifest."""
        answer = self._ask("HEAD", name, headers={"Accept": f"{_LIST}, {_MANIFEST}, {_OCI_MANIFEST}"})
        return answer.headers["Docker-Content-Digest"]

    def put_list(self, name: str, *, of: str) -> str:
        """Make an image for several platforms of one for linux/amd64, and return its digest."""
        manifest = self._ask("GET", of, headers={"Accept": _MANIFEST})
        entry = {
            "mediaType": _MANIFEST,
            "size": len(manifest.content),
            "digest": manifest.headers["Docker-Content-Digest"],
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        content = {"schemaVersion": 2, "mediaType": _LIST, "manifests": [entry]}
        self._ask("PUT", name, headers={"Content-Type": _LIST}, data=json.dumps(content))
        return self.digest(name)

    def docker_config(self, folder: Path, *, password: str = PASSWORD, **more: object) -> Path:
        """Write what ``docker login`` leaves, with *more* in it, and return the folder for DOCKER_CONFIG."""
        folder.mkdir(parents=True)
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": auth}}, **more}))
        return folder

    def _ask(self, method: str, name: str, **arguments: Any) -> requests.Response:
        repository, _, tag = name.partition(":")
        answer = requests.request(
            method,
            f"http://{self.host}/v2/{repository}/manifests/{tag}",
            auth=(USER, PASSWORD),
            timeout=30,
            **arguments,
        )
        answer.raise_for_status()
        return answer


def forget(client: docker.DockerClient, reference: str) -> None:
    """Remove an image from the engine, if it is there."""
    with suppress(docker.errors.ImageNotFound):
        client.images.remove(reference, force=True)


def forget_all(client: docker.DockerClient, registry: LocalRegistry) -> None:
    """Remove from the engine all names in a registry."""
    for image in client.api.images():
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
            if name.startswith(f"{registry.host}/"):
                forget(client, name)
