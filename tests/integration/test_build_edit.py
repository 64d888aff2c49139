"""An edit of local code rebuilds its own layer alone; below it is an image that environments share."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.engine_proxy import EngineProxy
from tests.environments import LocalEnvironment, feature_version, make_environment
from tests.indexes import LocalIndex
from tests.integration.conftest import label
from tests.integration.editable_project import asked, make_project, pyproject

PACKAGES_HASH = "dev.imagesync.packages-hash"
NAME = "org.opencontainers.image.ref.name"
SIZE = 3_000_000
RINGS = os.urandom(SIZE)  # so that no engine has an image with it


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0", requires=["birch>=2"], files={"alder/rings": RINGS})
        index.add_wheel("birch", "2.1.0")
        yield index


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path, project: Path) -> LocalEnvironment:
    arguments = ["--extra-index-url", index.url]
    return make_environment(
        tmp_path / "env", packages=["alder"], python=base_python, editable=[project], arguments=arguments
    )


@pytest.fixture
def build_cli(
    image_cli: CommandLine, index: LocalIndex, local: LocalEnvironment, cache_dir: Path
) -> CommandLine:
    return image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, PIP_EXTRA_INDEX_URL=index.url, IMAGESYNC_CACHE_DIR=cache_dir
    )


def layers(engine: docker.DockerClient, reference: str) -> list[str]:
    found: list[str] = engine.images.get(reference).attrs["RootFS"]["Layers"]
    return found


def packages_image(engine: docker.DockerClient, reference: str) -> str:
    digest = engine.images.get(reference).labels[PACKAGES_HASH]
    return f"imagesync-packages:{digest.removeprefix('sha256:')[:16]}"


def berries(engine: docker.DockerClient, reference: str) -> bytes:
    command = ["python", "-c", "import alder, elder; print(elder.berries)"]
    output: bytes = engine.containers.run(reference, command, remove=True)
    return output


@pytest.mark.usefixtures("new_packages")
def test_edit_sends_and_builds_its_own_layer_alone(
    build_cli: CommandLine, index: LocalIndex, project: Path, engine: docker.DockerClient
) -> None:
    with EngineProxy() as proxy:
        cli = build_cli.with_environ(DOCKER_HOST=proxy.url)
        first = cli("build").reference
        assert proxy.sent > SIZE
        index.forget_requests()
        proxy.forget()
        (project / "elder.py").write_text("berries = 2\n")
        second = cli("build").reference
        assert index.requests == [], "not even for what the backend needs"
        assert proxy.requests.count("POST /build") == 1
        # The wheel, its bytecode, what installs them, and the talk with the engine; no wheel of an index.
        assert proxy.sent < 400_000
    assert berries(engine, second) == b"2\n"
    shared = layers(engine, packages_image(engine, first))
    assert packages_image(engine, second) == packages_image(engine, first)
    for reference in (first, second):
        assert layers(engine, reference)[: len(shared)] == shared
    own = [layers(engine, reference)[len(shared) :] for reference in (first, second)]
    assert own[0][0] != own[1][0]


def test_edit_of_an_ignored_file_that_is_in_the_wheel(
    build_cli: CommandLine, project: Path, engine: docker.DockerClient
) -> None:
    (project / "elder.py").unlink()
    (project / "elder").mkdir()
    (project / "elder/__init__.py").write_text('"""Berries."""\nfrom elder._made import berries\n')
    (project / "elder/_made.py").write_text("berries = 1\n")
    (project / ".gitignore").write_text("_made.py\n")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    first = build_cli("build").reference
    # It is known now, and nothing has changed.
    again = build_cli("build", "--metadata-file", "metadata.json")
    assert again.reference == first
    assert json.loads((build_cli.cwd / "metadata.json").read_text())["cached"]
    (project / "elder/_made.py").write_text("berries = 2\n")
    second = build_cli("build").reference
    assert berries(engine, second) == b"2\n"
    (project / "elder/_made.py").write_text("berries = 1\n")
    assert build_cli("build").reference == first
    assert berries(engine, first) == b"1\n"


def test_metadata_of_an_edit_is_that_of_the_whole(build_cli: CommandLine, project: Path) -> None:
    """The lock that is read off the packages image is the lock that would be made anew."""
    build_cli("build")
    (project / "elder.py").write_text("berries = 2\n")
    build_cli("build", "--metadata-file", "edited.json")
    build_cli("build", "--no-cache", "--metadata-file", "anew.json")
    edited, anew = (json.loads((build_cli.cwd / name).read_text()) for name in ("edited.json", "anew.json"))
    assert edited.pop("image_id") != anew.pop("image_id")
    assert edited == anew
    assert edited["lock_digest"] == build_cli("lock", "--format", "json").json()["digest"]


@pytest.mark.usefixtures("new_packages")  # a look by what is asked for, which names the index
def test_projects_with_the_same_packages_share_their_image(
    build_cli: CommandLine,
    index: LocalIndex,
    base_python: Path,
    engine: docker.DockerClient,
    tmp_path: Path,
) -> None:
    first = build_cli("build").reference
    other = make_environment(
        tmp_path / "env2",
        packages=["alder"],
        python=base_python,
        editable=[make_project(tmp_path / "other", name="rowan")],
        arguments=["--extra-index-url", index.url],
    )
    index.forget_requests()
    # Somebody else's: nothing is in the store.
    cli = build_cli.with_environ(VIRTUAL_ENV=other.prefix, IMAGESYNC_CACHE_DIR=tmp_path / "store2")
    second = cli("build").reference
    assert second != first
    assert asked(index) == []
    assert packages_image(engine, second) == packages_image(engine, first)
    assert (
        engine.containers.run(second, ["python", "-c", "import rowan; print(rowan.berries)"], remove=True)
        == b"1\n"
    )


def test_packages_image_that_was_removed_is_built_again(
    build_cli: CommandLine, project: Path, engine: docker.DockerClient
) -> None:
    first = build_cli("build").reference
    below = packages_image(engine, first)
    engine.images.remove(below)
    assert build_cli("build").reference == first, "the image itself is there, so nothing is missing"
    (project / "elder.py").write_text("berries = 2\n")
    second = build_cli("build").reference
    assert engine.images.get(below).labels[PACKAGES_HASH].startswith("sha256:")
    assert berries(engine, second) == b"2\n"


def test_packages_image_that_is_removed_meanwhile_is_built_again(
    build_cli: CommandLine, project: Path, engine: docker.DockerClient
) -> None:
    first = build_cli("build").reference
    below = packages_image(engine, first)
    (project / "elder.py").write_text("berries = 2\n")
    # The look-up has found it; before the build begins it is gone.
    with EngineProxy(before={"POST /build": lambda: engine.images.remove(below)}) as proxy:
        second = build_cli.with_environ(DOCKER_HOST=proxy.url)("build").reference
        assert proxy.requests.count("POST /build") == 3, "in vain, then of the packages, then of the image"
    assert engine.images.get(below).labels[PACKAGES_HASH].startswith("sha256:")
    assert berries(engine, second) == b"2\n"


def test_two_builds_of_one_edit_are_one(
    build_cli: CommandLine, project: Path, engine: docker.DockerClient
) -> None:
    build_cli("build")
    (project / "elder.py").write_text("berries = 2\n")
    with EngineProxy() as proxy:
        cli = build_cli.with_environ(DOCKER_HOST=proxy.url)
        processes = [cli.start("build") for _ in range(2)]
        outputs = [process.communicate(timeout=500) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        assert proxy.requests.count("POST /build") == 1
    assert outputs[0][0] == outputs[1][0]
    assert berries(engine, outputs[0][0].strip()) == b"2\n"


@pytest.mark.usefixtures("new_packages")
def test_two_environments_at_once_build_what_they_share_once(
    build_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path
) -> None:
    other = make_environment(
        tmp_path / "env2",
        packages=["alder"],
        python=base_python,
        editable=[make_project(tmp_path / "other", name="rowan")],
        arguments=["--extra-index-url", index.url],
    )
    with EngineProxy() as proxy:
        cli = build_cli.with_environ(DOCKER_HOST=proxy.url)
        processes = [cli.start("build"), cli.with_environ(VIRTUAL_ENV=other.prefix).start("build")]
        outputs = [process.communicate(timeout=500) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        assert proxy.requests.count("POST /build") == 3
    assert outputs[0][0] != outputs[1][0]


def test_failed_check_of_an_edit_leaves_nothing(
    build_cli: CommandLine, base_python: Path, project: Path, engine: docker.DockerClient, repository: str
) -> None:
    first = build_cli("build").reference
    images = {image.id for image in engine.images.list(repository)}
    # What the environment's interpreter runs at each start ends it.
    (project / "elder.py").write_text("berries = 2\n")
    (project / "pyproject.toml").write_text(pyproject() + '[tool.flit.external-data]\ndirectory = "data"\n')
    site_packages = project / f"data/lib/python{feature_version(base_python)}/site-packages"
    site_packages.mkdir(parents=True)
    (site_packages / "ends.pth").write_text("import os; os._exit(3)\n")
    finished = build_cli.run("build")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert "ended with 3" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert {image.id for image in engine.images.list(repository)} == images
    names = [label(image, NAME) for image in engine.api.images(filters={"dangling": True})]
    assert not any(name.startswith(repository) for name in names)
    (project / "elder.py").write_text("berries = 1\n")
    (project / "pyproject.toml").write_text(pyproject())
    shutil.rmtree(project / "data")
    assert build_cli("build").reference == first


def test_dockerfile_of_the_users_own_is_built_as_a_whole(
    build_cli: CommandLine, tmp_path: Path, engine: docker.DockerClient
) -> None:
    rendered = tmp_path / "rendered"
    build_cli("render", "-o", rendered)
    templates = tmp_path / "templates"
    templates.mkdir()
    label = "LABEL {{ name }}={{ value | dockerfile_quote }}"
    labels = f"{{% for name, value in labels.items() %}}{label}\n{{% endfor %}}"
    text = re.sub(r"^LABEL (.*\\\n)*.*\n", labels, (rendered / "Dockerfile").read_text(), flags=re.MULTILINE)
    # Builds have no network, which the stages of the base image would need.
    text = text[text.index("# Nothing below uses a network") :]
    (templates / "Dockerfile.j2").write_text(f"FROM {{{{ base.reference }}}}\n{text}")
    built = build_cli("build", "--templates", templates).reference
    assert PACKAGES_HASH not in engine.images.get(built).labels
    assert berries(engine, built) == b"1\n"
