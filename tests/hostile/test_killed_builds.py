"""Builds with an engine that are killed: store, engine and registry are sound after the next one."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from imagesync.image_layout import Label
from imagesync.registry.repository import Repository
from imagesync.store.layout import LOCKS, PARTIAL
from tests.commands import CommandLine
from tests.hostile.servers import check_blobs
from tests.integration.conftest import is_dangling, label, remove_images
from tests.integration.dask_project import DaskProject
from tests.integration.local_registry import LocalRegistry

pytestmark = pytest.mark.campaign
KILLS = 50
BUDGET = 500.0  # seconds for all of them, of which a busy machine takes most
PROCESS = "dev.imagesync.process"


@dataclass
class Machine:
    """A project, its command line, and the engine and registry that it builds with.

    Parameters
    ----------
    known
        Digests of the layers that the registry has sent whole.
    """

    project: DaskProject
    cli: CommandLine
    engine: docker.DockerClient
    known: set[str] = field(default_factory=set)

    @property
    def store(self) -> Path:
        return Path(self.cli.environ["IMAGESYNC_CACHE_DIR"])

    def remains(self) -> tuple[list[str], list[str]]:
        """Return the containers of builds, and the images of environments without a name."""
        containers = self.engine.api.containers(all=True, filters={"label": PROCESS})
        images = [image for image in self.engine.api.images() if is_dangling(image)]
        ours = [image["Id"] for image in images if label(image, Label.ENVIRONMENT_HASH)]
        return [container["Id"] for container in containers], sorted(ours)

    def check(self, reference: str) -> None:
        """Check an image in the registry, and what is in the store."""
        with Repository(reference) as repository:
            found = repository.resolve("linux/amd64")
            assert found is not None, reference
            for layer in found[1].manifest.layers:
                if layer.digest not in self.known:
                    content = b"".join(repository.read(layer))
                    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest
                    self.known.add(layer.digest)
        check_blobs(self.store)

    def leftovers(self) -> list[Path]:
        """Return what processes have left half done in the store."""
        return [path for folder in (PARTIAL, LOCKS) for path in (self.store / folder).iterdir()]


@pytest.fixture
def machine(engine: docker.DockerClient, dask_project: DaskProject, tmp_path: Path) -> Iterator[Machine]:
    with LocalRegistry(tmp_path, auth={}) as registry:
        name = f"{registry.host}/killed"
        cli = dask_project.cli.with_environ(IMAGESYNC_REPOSITORY=name)
        cli("build", "--push")
        yield Machine(dask_project, cli, engine)
        remove_images(engine, name)


def test_store_engine_and_registry_are_sound_after_a_killed_build(
    machine: Machine, tried: Callable[[str], None]
) -> None:
    with machine.project.edited(99):
        began = time.monotonic()
        machine.cli("build", "--push")
        longest = time.monotonic() - began
    before, end = machine.remains(), time.monotonic() + BUDGET
    facts = machine.cli.cwd / "facts.json"
    for number in range(KILLS):
        if time.monotonic() > end:
            break
        with machine.project.edited(100 + number):
            process = machine.cli.start("build", "--push")
            time.sleep(random.uniform(0.3, longest))  # any moment will do
            process.kill()
            process.communicate()
            check_blobs(machine.store)
            reference = machine.cli("build", "--push", "--metadata-file", facts).reference
        machine.check(reference)
        assert machine.remains() == before
        # A build that finds its image, because it was killed at its very end, writes nothing to the store.
        assert machine.leftovers() == [] or json.loads(facts.read_text())["cached"]
        tried("kill -9 of a build with an engine and a push: store, engine and registry afterwards")


@pytest.mark.parametrize("is_edited", [False, True])
def test_next_build_removes_container_and_image_of_a_killed_check(
    machine: Machine, tried: Callable[[str], None], is_edited: bool
) -> None:
    """Also a build of another environment does, which makes another image."""
    before = machine.remains()
    events = machine.engine.api.events(decode=True, filters={"event": "start", "label": PROCESS})
    with ExitStack() as stack:
        stack.callback(events.close)
        stack.enter_context(machine.project.edited(200 + is_edited))
        process = machine.cli.start("build", "--push")
        next(event for event in events if f" {process.pid} " in event["Actor"]["Attributes"][PROCESS])
        process.kill()
        process.communicate()
        containers, images = machine.remains()
        assert len(containers) == 1
        assert len(images) == len(before[1]) + 1
        if is_edited:
            stack.enter_context(machine.project.edited(300))
        reference = machine.cli("build", "--push").reference
    assert machine.remains() == before
    machine.check(reference)
    assert machine.leftovers() == []
    tried("kill -9 while the image is checked: container and unnamed image afterwards")
