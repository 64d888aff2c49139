"""``imagesync diff``: environments, locks, images in the engine and in a registry."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine, Finished
from tests.integration.dask_project import DaskProject
from tests.integration.local_registry import LocalRegistry, forget

pytestmark = pytest.mark.engine


@pytest.fixture
def cli(dask_project: DaskProject) -> CommandLine:
    return dask_project.cli


def groups(finished: Finished) -> dict[str, int]:
    found: dict[str, int] = finished.json()["groups"]
    return found


def differing(finished: Finished) -> list[str]:
    return [package["name"] for package in finished.json()["packages"] if package["group"] == "differs"]


def test_environment_and_its_image_are_the_same(cli: CommandLine, dask_project: DaskProject) -> None:
    finished = cli.run("diff", "local", dask_project.reference)
    assert finished.returncode == 0, finished.stderr
    assert "differs" not in finished.stdout.split("Nothing")[0]
    assert finished.stdout.splitlines()[0].startswith("the same (")
    assert "elder" in finished.stdout


def test_edit_of_local_code_differs_though_the_version_is_the_same(
    cli: CommandLine, dask_project: DaskProject
) -> None:
    with dask_project.edited(2):
        finished = cli.run("diff", "local", dask_project.reference, "--format", "json")
    assert finished.returncode == 1
    assert differing(finished) == ["elder"]
    (row,) = [package for package in finished.json()["packages"] if package["name"] == "elder"]
    assert row["left"][0]["version"] == row["right"][0]["version"] == "1.0"
    assert row["left"][0]["content"] != row["right"][0]["content"]


def test_lock_stands_for_what_was_locked(cli: CommandLine, dask_project: DaskProject) -> None:
    lock = cli.cwd / "lock.json"
    lock.write_text(cli("lock", "--format", "json").stdout)
    assert groups(cli("diff", lock, dask_project.reference, "--format", "json"))["differs"] == 0
    content = json.loads(lock.read_text())
    for package in content["packages"]:
        if package["name"] in ("distributed", "locket"):
            package["version"] = "1.0.0.post1"
    lock.write_text(json.dumps(content))
    finished = cli.run("diff", lock, dask_project.reference, "--format", "json")
    assert (finished.returncode, differing(finished)) == (1, ["distributed", "locket"])
    counting = {package["name"]: package["counts"] for package in finished.json()["packages"]}
    assert counting["distributed"]
    assert not counting["locket"]


def test_compatible_package_differs_and_the_exit_code_stays(
    cli: CommandLine, dask_project: DaskProject
) -> None:
    lock = cli.cwd / "one.json"
    content = cli("lock", "--format", "json").json()
    (locket,) = [package for package in content["packages"] if package["name"] == "locket"]
    locket["version"] = "99.0.0"
    lock.write_text(json.dumps(content))
    finished = cli("diff", dask_project.reference, lock, "--format", "json")
    assert differing(finished) == ["locket"]


def test_folder_of_an_environment(cli: CommandLine, dask_project: DaskProject) -> None:
    finished = cli("diff", dask_project.environment.prefix, dask_project.reference, "--format", "json")
    assert groups(finished)["differs"] == 0


def test_image_without_an_inventory_is_refused(cli: CommandLine, root_image: str) -> None:
    finished = cli.run("diff", "local", root_image)
    assert finished.returncode == 2
    assert "it wasn't built by imagesync" in finished.stderr


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("nowhere/nothing:1", "The engine has no image nowhere/nothing:1"),
        ("gone.json", "gone.json isn't there"),
        ("../gone", "../gone isn't there"),
        ("http://example.com", "isn't the address of a scheduler"),
        ("tls://127.0.0.1:1", "requires certificates"),
    ],
)
def test_side_that_is_not_there_is_said(cli: CommandLine, side: str, message: str) -> None:
    finished = cli.run("diff", "local", side)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "hint:" in finished.stderr
    assert finished.stdout == ""


@pytest.fixture
def registry(
    engine: docker.DockerClient, dask_project: DaskProject, tmp_path: Path
) -> Iterator[LocalRegistry]:
    """Return a registry that has ``team/env:1``: little but the labels of the project's image."""
    name = "imagesync-test/labels-only:1"
    labels = engine.images.get(dask_project.reference).labels
    dockerfile = b"FROM scratch\nCOPY Dockerfile /\n"
    engine.images.build(fileobj=io.BytesIO(dockerfile), tag=name, labels=labels)
    try:
        with LocalRegistry(tmp_path) as registry:
            registry.push(engine, name, "team/env:1")
            yield registry
    finally:
        forget(engine, name)


def test_image_of_a_registry_is_read_without_a_pull(
    cli: CommandLine, engine: docker.DockerClient, registry: LocalRegistry, tmp_path: Path
) -> None:
    reference = f"{registry.host}/team/env:1"
    logged_in = cli.with_environ(DOCKER_CONFIG=registry.docker_config(tmp_path / "docker"))
    assert groups(logged_in("diff", "local", reference, "--format", "json"))["differs"] == 0
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get(reference)
    without_engine = logged_in.with_environ(DOCKER_HOST="unix:///nowhere/docker.sock")
    assert groups(without_engine("diff", "local", reference, "--format", "json"))["differs"] == 0
    refused = cli.run("diff", "local", reference)
    assert (refused.returncode, refused.stdout) == (2, "")
