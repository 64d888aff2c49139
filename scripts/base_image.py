"""Print the image that base images are made from, making one where no registry can be reached.

``ubuntu:24.04`` where the engine has it or can pull it. Otherwise the host's own Debian or Ubuntu release,
bootstrapped from the host's own package sources and imported once.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import docker
import requests

PREFERRED = "ubuntu:24.04"
PULL_GAP_SECONDS = 20  # a registry that answers is never silent for so long
WORK = Path(".work")


def say(text: str) -> None:
    """Print on stderr; stdout is for the answer alone."""
    print(text, file=sys.stderr, flush=True)


def has(client: docker.DockerClient, reference: str) -> bool:
    """Return whether the engine has the image."""
    try:
        client.images.get(reference)
    except docker.errors.ImageNotFound:
        return False
    return True


def pull(reference: str) -> bool:
    """Return whether a registry gave the image."""
    say(f"Pulling {reference}")
    repository, _, tag = reference.rpartition(":")
    client = docker.from_env(timeout=PULL_GAP_SECONDS)
    try:
        for event in client.api.pull(repository, tag, stream=True, decode=True):
            if "error" in event:
                return False
    except (docker.errors.APIError, requests.RequestException):
        return False
    return has(client, reference)


def host_sources(distribution: str) -> list[str]:
    """Return the host's own apt sources, so that its mirrors are used, as one-line entries."""
    form = "$(ORIGIN)\t$(SIGNED_BY)\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    sources = []
    for line in dict.fromkeys(lines):
        origin, signed_by, uri, release, component = line.split("\t")
        if origin.lower() == distribution and component in ("main", "universe"):
            option = f"[signed-by={signed_by}] " if signed_by.startswith("/usr/share/keyrings/") else ""
            sources.append(f"deb {option}{uri} {release} {component}")
    return sources


def bootstrap(client: docker.DockerClient, reference: str, distribution: str, suite: str) -> None:
    """Make the host's release into an image."""
    subprocess.run(["scripts/apt-install.sh", "mmdebstrap"], check=True)
    sources = host_sources(distribution)
    if not sources:
        subprocess.run(["apt-get", "update"], check=True, capture_output=True)
        sources = host_sources(distribution)
    say(f"No registry answers: making {reference} from this machine's package sources")
    WORK.mkdir(exist_ok=True)
    archive = WORK / "base.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", suite]
    environ = {**os.environ, "LC_ALL": "C.UTF-8"}
    made = subprocess.run(
        [*command, str(archive), *sources],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise SystemExit(f"{made.stderr[-2000:]}\nmmdebstrap couldn't make a {suite} base image.")
    repository, _, tag = reference.rpartition(":")
    client.api.import_image_from_file(str(archive), repository=repository, tag=tag, changes=['CMD ["bash"]'])
    archive.unlink()


def main() -> None:
    """Print the reference."""
    client = docker.from_env(timeout=600)
    chosen = os.environ.get("IMAGESYNC_BASE")
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    distribution, suite = release.get("ID", ""), release.get("VERSION_CODENAME", "")
    own = f"imagesync/{distribution}:{suite}"
    can_bootstrap = distribution in ("debian", "ubuntu") and suite and os.geteuid() == 0
    if chosen:
        print(chosen)
    elif has(client, PREFERRED):
        print(PREFERRED)
    elif can_bootstrap and has(client, own):
        print(own)
    elif pull(PREFERRED):
        print(PREFERRED)
    elif can_bootstrap:
        bootstrap(client, own, distribution, suite)
        print(own)
    else:
        raise SystemExit(
            f"{PREFERRED} can't be pulled, and only root on Debian or Ubuntu can have a base image made "
            "here. Set IMAGESYNC_BASE to an image with Debian's or Ubuntu's apt that you have."
        )


if __name__ == "__main__":
    main()
