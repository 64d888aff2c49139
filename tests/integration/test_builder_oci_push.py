"""Images of builds without an engine in a real registry: requests, bytes, and what others have pushed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.files import write_text
from imagesync.core.progress import SilentProgress
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.push import push_image
from imagesync.registry.repository import Repository
from tests.commands import CommandLine
from tests.environments import LocalEnvironment
from tests.integration.local_registry import LocalRegistry
from tests.integration.oci_environment import python_base, small_environment
from tests.integration.registry_proxy import RegistryProxy

NO_ENGINE = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProxy]:
    """Return a registry that counts requests, and has the base image."""
    with (
        LocalRegistry(tmp_path_factory.mktemp("registry"), auth={}) as registry,
        RegistryProxy(registry.host) as proxy,
        Repository(f"{proxy.host}/base") as repository,
    ):
        image = python_base(ImageLayout(tmp_path_factory.mktemp("base")))
        push_image(image, repository, tags=["1"], progress=SilentProgress())
        yield proxy


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return small_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def ci(
    cli: CommandLine, proxy: RegistryProxy, local: LocalEnvironment, request: pytest.FixtureRequest
) -> CommandLine:
    """Return the command line of a CI job, which pushes to a repository of its own."""
    return cli.with_environ(
        VIRTUAL_ENV=local.prefix,
        DOCKER_HOST=NO_ENGINE,
        IMAGESYNC_BASE=f"{proxy.host}/base:1",
        IMAGESYNC_PROFILE="none",
        IMAGESYNC_REPOSITORY=f"{proxy.host}/team/{abs(hash(request.node.name))}",
    )


@pytest.fixture
def colleague(ci: CommandLine, tmp_path: Path) -> CommandLine:
    """Return the command line of somebody who has the environment, and an empty cache folder."""
    return ci.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "colleague")


def test_unchanged_environment_that_was_pushed_takes_two_requests(
    ci: CommandLine, proxy: RegistryProxy
) -> None:
    pushed = ci("build", "--push")
    proxy.forget()
    again = ci("build", "--push")
    assert again.reference == pushed.reference
    methods = [method for method, _ in proxy.requests]
    assert methods == ["HEAD", "HEAD"], proxy.requests
    assert proxy.uploaded == 0


def test_image_of_a_colleague_is_found_in_the_registry(
    ci: CommandLine, colleague: CommandLine, proxy: RegistryProxy, tmp_path: Path
) -> None:
    first = ci("build", "--push")
    proxy.forget()
    pushed = colleague("build", "--push")
    assert pushed.reference == first.reference
    assert "has it already" in pushed.stderr
    assert "Writing layers" not in pushed.stderr
    assert proxy.uploaded == 0
    # Nothing was fetched for a push; whoever wants the image here gets it.
    assert ImageLayout(tmp_path / "colleague" / "images").index().find(first.reference) is None
    found = colleague("build", "--output", "oci:image:latest")
    assert "has it already" in found.stderr
    image, there = (ImageLayout(colleague.cwd / "image"), ImageLayout(tmp_path / "colleague" / "images"))
    assert image.index().find("latest").digest == there.index().find(first.reference).digest  # type: ignore[union-attr]
    assert "has it already" not in colleague("build").stderr


def test_edit_is_pushed_in_twelve_requests_with_little_more_than_its_wheel(
    ci: CommandLine, proxy: RegistryProxy, local: LocalEnvironment
) -> None:
    ci("build", "--push")
    source = local.prefix.parent / "own-code" / "own_code.py"
    write_text(source, source.read_text() + f"\nBUILT = {time.time()}\n")
    proxy.forget()
    ci("build", "--push")
    assert len(proxy.requests) <= 12, proxy.requests
    assert proxy.uploaded < 30_000


@pytest.mark.parametrize("builder", ["oci", "auto"])
def test_base_image_of_a_lock_is_read_where_no_engine_is(ci: CommandLine, builder: str) -> None:
    locked = ci("lock", "--builder", builder, "--format", "json")
    assert locked.json()["target"]["glibc"] == [2, 36]
    assert ("Going on without an engine" in locked.stderr) == (builder == "auto")
    refused = ci.run("lock", "--builder", builder, "--target-python", "3.8")
    assert refused.returncode == 2
    assert "(its files), and --target-python says 3.8" in refused.stderr


def test_ci_with_an_empty_store_mounts_known_layers(
    ci: CommandLine, proxy: RegistryProxy, local: LocalEnvironment, tmp_path: Path
) -> None:
    job = ci.with_environ(IMAGESYNC_CACHE_FROM=ci.environ["IMAGESYNC_REPOSITORY"])
    first = job("-v", "build", "--push")
    source = local.prefix.parent / "own-code" / "own_code.py"
    write_text(source, source.read_text() + f"\nBUILT = {time.time()}\n")
    proxy.forget()
    next_job = job.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "empty")
    second = next_job("-v", "build", "--push")
    assert second.reference != first.reference
    wheels = [line for line in second.stderr.splitlines() if ".whl" in line]
    assert not any("toolz" in line or "markupsafe" in line for line in wheels), wheels
    assert proxy.uploaded < 40_000
    # Of the base its configuration is read, and no layer.
    assert sum("/base/blobs/" in path for _, path in proxy.requests) == 1, proxy.requests
    # The same bytes as from a build that knows nothing.
    cold = ci.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "cold", IMAGESYNC_REPOSITORY="imagesync")
    alone = cold("build", "--output", "oci:cold:latest")
    assert alone.reference.rpartition(":")[2] == second.reference.rpartition(":")[2]
    with Repository(second.reference) as repository:
        there = repository.resolve("linux/amd64")
    found = ImageLayout(ci.cwd / "cold").index().find("latest")
    assert there is not None
    assert found is not None
    cold_layers = ImageLayout(ci.cwd / "cold").image(found).manifest.layers
    assert [layer.digest for layer in cold_layers] == [layer.digest for layer in there[1].manifest.layers]


def test_pushed_image_is_verified_by_a_build_and_not_by_itself(
    ci: CommandLine, colleague: CommandLine, proxy: RegistryProxy, local: LocalEnvironment
) -> None:
    pushed = ci("build", "--push")
    proxy.forget()
    verified = colleague("verify", pushed.reference)
    assert verified.stdout.startswith(f"{pushed.reference}@sha256:")
    assert "Writing layers" in verified.stderr
    assert "The image is in" not in verified.stderr
    # Of what was pushed only documents are read.
    name = pushed.reference.removeprefix(proxy.host).rpartition(":")[0]
    assert sum(f"{name}/blobs/" in path for _, path in proxy.requests) == 1, proxy.requests
    source = local.prefix.parent / "own-code" / "own_code.py"
    write_text(source, source.read_text() + "\nMORE = 1\n")
    differing = colleague.run("verify", pushed.reference)
    assert differing.returncode == 1
    assert "/site-packages/own_code.py has another" in differing.stderr
