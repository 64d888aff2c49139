"""Images of pip environments by both builders are the same, file by file."""

from __future__ import annotations

import json

import docker
import pytest

from imagesync.image.base import base_reference
from tests.integration.builder_differences import differing_files, differing_options, image_of_layout
from tests.integration.dask_project import DaskProject

pytestmark = pytest.mark.engine


def test_image_without_an_engine_is_the_same(dask_project: DaskProject, engine: docker.DockerClient) -> None:
    # The engine's base image with Python: nothing is installed in it here.
    facts = json.loads(engine.images.get(dask_project.reference).labels["dev.imagesync.base"])
    base = base_reference(facts["base_hash"])
    cli = dask_project.cli.with_environ(IMAGESYNC_BASE=f"docker-daemon:{base}", IMAGESYNC_BUILDER="oci")
    cli("build", "--output", "oci:image:latest")
    image = image_of_layout(cli.cwd / "image")
    assert differing_files(engine, dask_project.reference, image, same_base=False) == {}
    assert differing_options(engine, dask_project.reference, image, same_base=False) == {}
