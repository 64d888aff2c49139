"""Images in a registry: pushed, checked and found there, and never overwritten unseen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.engine import Engine
from imagesync.errors import RegistryError
from imagesync.image.built_image import Image
from imagesync.image_layout import Label
from imagesync.pipeline.registry_images import RegistryImages
from imagesync.registry.registry import RemoteImage, read_config, read_digest
from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex
from tests.integration.conftest import remove_images
from tests.integration.engines import docker_endpoint, podman_endpoint
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry, forget_all
from tests.integration.tiny_image import REFERENCE, context
from tests.passwords import Password
from tests.progress import RecordedLines

pytestmark = pytest.mark.engine
MakeImage = Callable[..., Image]
ONE, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


@pytest.fixture
def root(
    engine: docker.DockerClient, registry: LocalRegistry, root_image: str, own_bases: None
) -> Iterator[str]:
    """Return the name of a root image that the registry has, and the engine hasn't."""
    registry.push(engine, root_image, "debian:bookworm")
    yield f"{registry.host}/debian:bookworm"
    remove_images(engine, f"{registry.host}/team/env")
    forget_all(engine, registry)


@pytest.fixture(scope="module")
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0", requires=["birch>=2"])
        index.add_wheel("birch", "2.1.0")
        yield index


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    return make_environment(
        tmp_path / "env", packages=["alder"], python=base_python, arguments=["--index-url", index.url]
    )


def test_from_a_build_to_a_colleague(
    image_cli: CommandLine,
    engine: docker.DockerClient,
    registry: LocalRegistry,
    index: LocalIndex,
    local: LocalEnvironment,
    root: str,
    tmp_path: Path,
) -> None:
    name = f"{registry.host}/team/env"
    cli = image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url, IMAGESYNC_REPOSITORY=name, IMAGESYNC_BASE=root
    ).with_environ(DOCKER_CONFIG=tmp_path)
    # Nobody waits for a build whose result can't be pushed.
    refused = cli.run("build", "--push")
    assert refused.returncode == 1
    assert "doesn't let you" in refused.stderr
    assert "Building" not in refused.stderr
    assert "Locking" not in refused.stderr

    cli = cli.with_environ(DOCKER_CONFIG=registry.docker_config(tmp_path / "docker"))
    pushed = cli("build", "--push", "--tag", f"{name}:latest", "--metadata-file", "metadata.json")
    built = json.loads((cli.cwd / "metadata.json").read_text())
    tag = pushed.reference.rpartition(":")[2]
    assert built["digest"] == f"{name}@{registry.digest(f'team/env:{tag}')}"
    assert registry.digest("team/env:latest") == built["digest"].rpartition("@")[2]
    there = read_remote(cli, built["digest"])
    assert there.config_digest == built["image_id"]
    assert there.labels[Label.ENVIRONMENT_HASH] == built["environment_hash"]

    # The image that was pushed is known by its digest from now on, without a question to the registry.
    cli("build", "--metadata-file", "metadata.json")
    assert json.loads((cli.cwd / "metadata.json").read_text()) == {**built, "cached": True}

    # A CI job with the same environment, where not even the root image is: it is there, and that is all.
    forget_all(engine, registry)
    assert engine.images.list(root) == []
    index.forget_requests()
    again = cli("build", "--push", "--metadata-file", "metadata.json")
    assert again.reference == pushed.reference
    assert f"The registry has it already: {built['digest']}" in again.stderr
    assert "Pulling" not in again.stderr
    assert engine.images.list(name) == []
    assert json.loads((cli.cwd / "metadata.json").read_text()) == {**built, "cached": True}
    # A colleague pulls it.
    pulled = cli("build")
    assert pulled.reference == pushed.reference
    assert f"Pulling {built['digest']}" in pulled.stderr
    assert "Building" not in pulled.stderr
    assert engine.images.get(pulled.reference).id == built["image_id"]
    assert index.requests == []
    assert engine.images.list(root) == []
    # And from now on has it.
    assert "Pulling" not in cli("build").stderr
    cli("run", "--", "python", "-c", "import alder")
    # Documents about the image leave its digest as it is.
    cli("build", "--push", "--attest")
    described = cli("inspect", pushed.reference, "--format", "json").json()
    assert described["digest"] == built["digest"].rpartition("@")[2]
    kinds = {"application/vnd.cyclonedx+json", "https://slsa.dev/provenance/v1"}
    assert {each["kind"] for each in described["attestations"]} == kinds
    assert "Attaching" not in cli("build", "--push", "--attest").stderr
    Password(USER, PASSWORD).assert_absent_from_output([refused, pushed, again, pulled])


def read_remote(cli: CommandLine, reference: str) -> RemoteImage:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", cli.environ["DOCKER_CONFIG"])
        there = read_config(reference, platform="linux/amd64")
    assert there is not None
    return there


def test_registry_that_is_down_costs_a_warning(
    image_cli: CommandLine,
    engine: docker.DockerClient,
    index: LocalIndex,
    local: LocalEnvironment,
    tmp_path: Path,
) -> None:
    with LocalRegistry(tmp_path) as gone:
        host = gone.host
    cli = image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url, IMAGESYNC_REPOSITORY=f"{host}/team/env"
    )
    refused = cli.run("build", "--push")
    assert refused.returncode == 1
    assert f"The registry {host} can't be reached: connection refused" in refused.stderr
    assert "Building" not in refused.stderr
    built = cli("build")
    try:
        assert f"warning: The registry {host} can't be reached: connection refused" in built.stderr
        # And a hit asks nobody.
        assert cli("--quiet", "build").stderr == ""
        (line,) = cli("build").stderr.splitlines()
        assert line.startswith("Using CPython")
    finally:
        remove_images(engine, f"{host}/team/env")


def test_push_needs_a_registry(image_cli: CommandLine) -> None:
    refused = image_cli.run("build", "--push", "--repository", "team/env")
    assert refused.returncode == 2
    assert "names no registry" in refused.stderr
    assert "docker.io/USER/NAME" in refused.stderr


def test_doctor_says_whether_one_may_push(
    image_cli: CommandLine, registry: LocalRegistry, tmp_path: Path
) -> None:
    cli = image_cli.with_environ(IMAGESYNC_REPOSITORY=f"{registry.host}/team/env", DOCKER_CONFIG=tmp_path)
    right = registry.docker_config(tmp_path / "right")
    for changed, expected in (
        (cli, "warning"),
        (cli.with_environ(IMAGESYNC_PUSH="1"), "failed"),
        (cli.with_environ(IMAGESYNC_PUSH="1", DOCKER_CONFIG=right), "ok"),
    ):
        checks = {check["name"]: check for check in changed.run("doctor", "--format", "json").json()}
        assert checks["push"]["status"] == expected, checks["push"]
        assert (checks["push"]["hint"] is None) is (expected == "ok")


@pytest.fixture(scope="module", params=["docker", "podman"])
def ours(
    request: pytest.FixtureRequest, registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    # Podman's socket path has to stay short.
    folder = tmp_path_factory.mktemp("e")
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
        for endpoint in (docker_endpoint if request.param == "docker" else podman_endpoint)(folder):
            with Engine(endpoint) as engine:
                yield engine


@pytest.fixture
def images(
    ours: Engine, registry: LocalRegistry, request: pytest.FixtureRequest, logged_in: None
) -> RegistryImages:
    """Return a repository of this test's own."""
    name = request.node.name.replace("[", "-").replace("]", "").replace("_", "-")
    return RegistryImages(f"{registry.host}/{name}", ours, RecordedLines(), LINUX_AMD64)


@pytest.fixture
def make(images: RegistryImages) -> Iterator[MakeImage]:
    """Return a function that makes a small image of an environment, as a build would."""
    made: list[str] = []

    def make(environment_hash: str, *, content: str = "") -> Image:
        labels = {Label.ENVIRONMENT_HASH: environment_hash, Label.LOCK_DIGEST: ONE, "content": content}
        dockerfile = f"FROM {REFERENCE}\nRUN echo {content} > /content\n"
        request = BuildRequest("none", "linux/amd64", labels=labels)
        image_id = images.engine.build(iter([context(dockerfile)]), request, progress=SilentProgress())
        reference = f"{images.repository}:{environment_hash[7:23]}"
        images.engine.tag(image_id, reference)
        made.append(reference)
        return Image(reference, image_id, environment_hash, ONE, cached=False)

    yield make
    for reference in made:
        images.engine.remove(reference)


def test_pushed_found_and_fetched(images: RegistryImages, make: MakeImage) -> None:
    assert images.find(ONE) is None
    images.check_push()
    with pytest.raises(RegistryError, match="can't be reached"):
        images.check_push(["local:1", "127.0.0.1:1/team/env"])
    image = images.publish(make(ONE))
    assert image.digest == f"{images.repository}@{read_digest(image.reference)}"
    assert images.find(ONE) == replace(image, cached=True)
    images.engine.remove(image.reference)
    assert images.engine.inspect(image.reference) is None
    assert images.fetch(image) == image
    assert images.engine.inspect(image.reference).image_id == image.image_id


def test_name_that_another_environment_has(images: RegistryImages, make: MakeImage) -> None:
    image = images.publish(make(ONE))
    other = ONE[:40] + "f" * 31  # with the same tag
    with pytest.raises(RegistryError, match=f"is taken by the environment {ONE}"):
        images.find(other)
    with pytest.raises(RegistryError, match="is taken by"):
        images.publish(make(other))
    with pytest.raises(RegistryError, match="is taken by"):
        images.publish(make(other), rebuilt=True)
    assert read_digest(image.reference) == image.digest.rpartition("@")[2]


def test_name_that_a_foreign_image_has(images: RegistryImages, make: MakeImage) -> None:
    reference = f"{images.repository}:{OTHER[7:23]}"
    images.engine.tag(REFERENCE, reference)
    images.engine.push(reference, progress=SilentProgress())
    with pytest.raises(RegistryError, match="an image that isn't imagesync's"):
        images.publish(make(OTHER))


def test_another_build_of_the_same_environment_stays(images: RegistryImages, make: MakeImage) -> None:
    first = images.publish(make(ONE, content="first"))
    ours = make(ONE, content="second")
    assert ours.image_id != first.image_id
    latest = f"{images.repository}:latest"
    images.engine.tag(ours.image_id, latest)
    kept = images.publish(ours, tags=(latest,))
    # All its names mean the one that others have already.
    assert kept == replace(first, cached=True)
    assert read_digest(latest) == first.digest.rpartition("@")[2]
    images.engine.remove(latest)


def test_rebuilt_image_and_moved_tags_are_told(images: RegistryImages, make: MakeImage) -> None:
    latest = f"{images.repository}:latest"
    first = make(ONE, content="first")
    images.engine.tag(first.image_id, latest)
    first = images.publish(first, tags=(latest,))
    second = make(ONE, content="second")
    images.engine.tag(second.image_id, latest)
    images.progress.lines.clear()
    second = images.publish(second, tags=(latest, "imagesync-test/local:1"), rebuilt=True)
    assert second.digest != first.digest
    said = "\n".join(images.progress.lines)
    assert f"{first.digest} loses its tag" in said
    before, after = (image.digest.rpartition("@")[2] for image in (first, second))
    assert f"{latest} was {before}, and is {after} now" in said
    assert read_digest(latest) == after
    images.engine.remove(latest)


def test_name_without_a_tag(images: RegistryImages, make: MakeImage) -> None:
    image = make(ONE)
    images.engine.tag(image.image_id, images.repository)
    images.publish(image, tags=(images.repository,))
    assert read_digest(f"{images.repository}:latest") == read_digest(image.reference)
    images.engine.remove(f"{images.repository}:latest")


def test_push_that_the_registry_refuses(
    images: RegistryImages,
    make: MakeImage,
    registry: LocalRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = make(ONE)
    config = registry.docker_config(tmp_path / "wrong", password="swordfish/4711")
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    # Engines report it in the middle of an answer that began with 200.
    with pytest.raises(RegistryError, match=r"can't be pushed: .*(unauthorized|auth)") as caught:
        images.engine.push(image.reference, progress=SilentProgress())
    assert f"docker login {registry.host}" in str(caught.value)
    assert "swordfish" not in str(caught.value)
