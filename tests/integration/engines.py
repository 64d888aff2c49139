"""The engines of this machine, Docker's and Podman's, with the tiny image in each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from imagesync.engine.endpoint import Endpoint, find_endpoint
from tests.integration.tiny_image import REFERENCE, tiny_archive, tiny_image
from tests.processes import wait_until


def podman_endpoint(folder: Path) -> Iterator[Endpoint]:
    """Start Podman with a storage of its own, and stop it."""
    assert shutil.which("podman"), "apt-get install --no-install-recommends podman runc"
    # Podman's own defaults ask for higher limits than this machine may give.
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
    )
    options = ["--root", folder / "root", "--runroot", folder / "run", "--runtime", "runc"]
    podman = ["podman", *map(str, options), "--cgroup-manager", "cgroupfs"]
    environ = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
    (folder / "tiny.tar").write_bytes(tiny_archive())
    command = [*podman, "import", str(folder / "tiny.tar"), REFERENCE]
    subprocess.run(command, check=True, env=environ, capture_output=True)
    path = folder / "podman.sock"
    service = subprocess.Popen([*podman, "system", "service", "--time=0", f"unix://{path}"], env=environ)
    try:
        wait_until(path.exists)
        yield Endpoint(f"unix://{path}", "the test")
    finally:
        service.terminate()
        service.wait()
        subprocess.run([*podman, "rm", "--all", "--force"], env=environ, capture_output=True, check=False)
        subprocess.run([*podman, "rmi", "--all", "--force"], env=environ, capture_output=True, check=False)


def docker_endpoint(_folder: Path) -> Iterator[Endpoint]:
    """Put the image into the machine's Docker."""
    done = subprocess.run(["docker", "load"], input=tiny_image(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    yield find_endpoint({})
