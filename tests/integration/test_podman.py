"""Podman, where it differs: a command in a container without an init, and images that are pruned."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.image.prune_images import count_images, prune_images
from imagesync.image_layout import Label
from tests.commands import clean_environ
from tests.integration.engines import podman_endpoint
from tests.integration.tiny_image import REFERENCE

pytestmark = pytest.mark.engine
RUN = """
import os, pathlib, sys
from imagesync.engine.endpoint import find_endpoint
from imagesync.engine.interactive import run_container
from imagesync.engine.run_options import ContainerRun
from imagesync.errors import ImagesyncError
run = ContainerRun(sys.argv[1], tuple(sys.argv[2:]), pathlib.Path.cwd())
try:
    sys.exit(run_container(find_endpoint(os.environ), run))
except ImagesyncError as error:
    print(error.message, error.hint, file=sys.stderr)
    sys.exit(99)
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    yield from podman_endpoint(tmp_path_factory.mktemp("podman"))


def run(podman: Endpoint, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, f"localhost/{REFERENCE}", *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**clean_environ(), "DOCKER_HOST": podman.url},
        timeout=120,
        check=False,
    )


def test_command_runs_without_an_init_and_owns_what_it_writes(podman: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("from outside\n")
    done = run(podman, tmp_path, "sh", "-c", "cat here.txt; touch made; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "from outside\n", "")
    assert (tmp_path / "made").stat().st_uid == os.getuid()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.txt", "made"]
    missing = run(podman, tmp_path, "no-such-command")
    assert missing.returncode == 99
    assert "no-such-command" in missing.stderr
    assert "See which commands the image has" in missing.stderr


def test_images_that_nothing_uses_are_pruned(podman: Endpoint) -> None:
    with Engine(podman) as engine:

        def image(name: str, below: str, **labels: str) -> None:
            request = BuildRequest("none", "linux/amd64", labels=labels)
            image_id = engine.build_dockerfile(
                f"FROM {below}\nENV NAME={name}\n", request, progress=SilentProgress()
            )
            engine.tag(image_id, name)

        tags = [letter * 16 for letter in "abcd"]
        image(f"localhost/imagesync-base:{tags[0]}", REFERENCE, **{Label.BASE_HASH: "sha256:" + "a" * 64})
        below = f"localhost/imagesync-packages:{tags[1]}"
        image(below, f"localhost/imagesync-base:{tags[0]}", **{Label.PACKAGES_HASH: "sha256:" + "b" * 64})
        for letter in "cd":
            hashed = "sha256:" + letter * 64
            image(f"localhost/imagesync:{letter * 16}", below, **{Label.ENVIRONMENT_HASH: hashed})
        assert count_images(engine) == {"environment": 2, "packages": 1, "base": 1, "mounted": 0}
        (removed,) = prune_images(engine, keep=1, spared=timedelta())
        assert removed.references == (f"localhost/imagesync:{tags[2]}",)
        assert len(prune_images(engine, keep=0, spared=timedelta())) == 3
        assert sum(count_images(engine).values()) == 0
        assert engine.inspect(REFERENCE) is not None
