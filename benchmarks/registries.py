"""Registries of the benchmarks: empty, on this machine, with a relay in front that counts."""

from __future__ import annotations

import contextlib
import json
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.counting import Relay
from benchmarks.environments import run
from tests.integration.local_registry import LocalRegistry

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)

Certificates = tuple[Path, Path, Path]


@dataclass(frozen=True)
class Registry:
    """A registry for one contender and one turn.

    Parameters
    ----------
    certificates
        Of an authority and of the registry, and the registry's key, if it answers by TLS.
    """

    relay: Relay
    certificates: Certificates | None = None

    def target(self) -> str:
        """Return the name under which an image is pushed."""
        return f"{self.relay.host}/bench/environment:latest"

    def counted(self) -> dict[str, int]:
        """Return requests and bytes so far; by TLS no requests, which can't be seen."""
        requests, sent = self.relay.counted()
        return {"registry bytes": sent} | ({} if self.certificates else {"registry requests": requests})

    def compressed(self) -> int:
        """Return the size of the pushed image's layers, in bytes."""
        (tag, *_) = self._get("tags/list")["tags"]
        return sum(layer["size"] for layer in self._get(f"manifests/{tag}")["layers"])

    def _get(self, path: str) -> dict[str, Any]:
        scheme = "https" if self.certificates else "http"
        url = f"{scheme}://{self.relay.host}/v2/bench/environment/{path}"
        context = ssl.create_default_context(cafile=self.certificates[0]) if self.certificates else None
        request = urllib.request.Request(url, headers={"Accept": _MANIFESTS})
        with urllib.request.urlopen(request, context=context) as answer:
            read: dict[str, Any] = json.load(answer)
        return read


@contextlib.contextmanager
def registry(folder: Path, certificates: Certificates | None = None) -> Iterator[Registry]:
    """Start a registry that keeps its blobs in a new folder below *folder*, which goes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        with LocalRegistry(place, auth={}, tls=certificates and certificates[1:]) as local:
            host, _, port = local.host.rpartition(":")
            with Relay((host, int(port))) as relay:
                yield Registry(relay, certificates)


@contextlib.contextmanager
def base_registry(
    reference: str, folder: Path, certificates: Certificates | None = None
) -> Iterator[Registry]:
    """Start a registry that has an image of the engine."""
    with registry(folder, certificates) as bases:
        copy = ("skopeo", "copy", "--quiet", "--format", "oci", "--dest-tls-verify=false")
        run(*copy, f"docker-daemon:{reference}", f"docker://{bases.target()}")
        yield bases
