"""Pulling from a registry that wants a password, with what `docker login` and credential helpers keep."""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from imagesync.core.progress import Severity, SilentProgress, Task
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import look_up, root_digest
from imagesync.errors import BaseImageError, RegistryError
from imagesync.image.base import ensure_base
from imagesync.settings.model import Settings
from tests.commands import CommandLine
from tests.environments import make_environment
from tests.indexes import LocalIndex
from tests.integration.engines import docker_endpoint, podman_endpoint
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry, forget

pytestmark = pytest.mark.engine
WRONG = "swordfish/4711"
LAYER = 8 << 20


class Recording(SilentProgress):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.total = self.done = 0

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        if severity.is_shown(Severity.INFO):
            self.lines.append(severity.lead + text)

    @contextmanager
    def task(self, label: str, *, total: int | None, unit: str) -> Iterator[Task]:
        assert (total, unit) == (None, "bytes")
        yield self

    def advance(self, amount: int) -> None:
        assert amount >= 0
        self.done += amount

    def grow(self, amount: int) -> None:
        self.total += amount

    def describe(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def registry(engine: docker.DockerClient, registry: LocalRegistry) -> LocalRegistry:
    """Return the registry of all tests, which holds a small image, alone and in a list."""
    # Imported, not built: no builder's cache keeps the layer, so that it has to be pulled.
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = LAYER
        archive.addfile(entry, io.BytesIO(secrets.token_bytes(LAYER)))
    name = f"imagesync-test-{secrets.token_hex(4)}"
    engine.api.import_image_from_data(content.getvalue(), repository=name, tag="1")
    registry.push(engine, f"{name}:1", "team/small:1")
    engine.images.remove(f"{name}:1")
    registry.put_list("team/small:list", of="team/small:1")
    return registry


@pytest.fixture(scope="module", params=["docker", "podman"])
def endpoint(
    request: pytest.FixtureRequest, registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    # Podman's socket path has to stay short.
    folder = tmp_path_factory.mktemp("e")
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
        yield from (docker_endpoint if request.param == "docker" else podman_endpoint)(folder)


@pytest.fixture
def real(endpoint: Endpoint) -> Iterator[Engine]:
    with Engine(endpoint) as engine:
        yield engine


@pytest.fixture
def small(registry: LocalRegistry, real: Engine) -> Iterator[str]:
    reference = f"{registry.host}/team/small:1"
    yield reference
    real.remove(reference)


@pytest.fixture
def root(
    registry: LocalRegistry, engine: docker.DockerClient, root_image: str, own_bases: None
) -> Iterator[str]:
    """Return the base image's name in the registry, which the engine doesn't have; afterwards it hasn't."""
    registry.push(engine, root_image, "debian:bookworm")
    reference = f"{registry.host}/debian:bookworm"
    yield reference
    forget(engine, reference)


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: LocalRegistry) -> Path:
    """Return a folder on PATH with credential helpers: `right`, `failing` and `babbling`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    answer = json.dumps({"ServerURL": registry.host, "Username": USER, "Secret": PASSWORD})
    for name, script in {
        "right": f'test "$1" = get && test "$(cat)" = {registry.host} && echo \'{answer}\'',
        "failing": "echo locked; exit 1",
        "babbling": "echo hello",
    }.items():
        (folder / f"docker-credential-{name}").write_text(f"#!/bin/sh\n{script}\n")
        (folder / f"docker-credential-{name}").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, content: object) -> None:
    folder.mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def log_in(monkeypatch: pytest.MonkeyPatch, registry: LocalRegistry, folder: Path, **more: object) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(folder / "docker", **more)))


def test_pull_with_what_docker_login_keeps(
    real: Engine,
    endpoint: Endpoint,
    registry: LocalRegistry,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_in(monkeypatch, registry, tmp_path)
    assert real.inspect(small) is None
    progress = Recording()
    image = real.pull(small, platform="linux/amd64", progress=progress)
    assert progress.lines == []
    digest = registry.digest("team/small:1")
    # What identifies the base is the registry's digest: the same on every machine, with every engine.
    assert root_digest(image.image_id, image.digests, small) == digest
    assert look_up(endpoint, base=small, repository="x").base_digest == digest
    by_digest = f"{registry.host}/team/small@{digest}"
    assert real.pull(by_digest, platform="linux/amd64", progress=progress).image_id == image.image_id
    assert look_up(endpoint, base=by_digest, repository="x").base_digest == digest


def test_docker_tells_the_bytes(
    engine: docker.DockerClient, registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, registry, tmp_path)
    progress = Recording()
    reference = f"{registry.host}/team/small:list"
    try:
        for endpoint in docker_endpoint(tmp_path):
            with Engine(endpoint) as ours:
                image = ours.pull(reference, platform="linux/amd64", progress=progress)
        # The digest of an image for several platforms is that of the list.
        assert root_digest(image.image_id, image.digests, reference) == registry.digest("team/small:list")
    finally:
        forget(engine, reference)
    assert LAYER < progress.total < LAYER * 1.1
    assert progress.done == progress.total


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"credHelpers": {"HOST": "right"}}, None),
        ({"credsStore": "right"}, None),
        ({"credsStore": "failing", "credHelpers": {"HOST": "right"}}, None),
        ({"auths": "AUTHS", "credHelpers": {"other.example.com": "failing"}}, None),
        ({"auths": "AUTHS", "credHelpers": {"HOST": "failing"}}, "locked"),
        ({"auths": "AUTHS", "credHelpers": {"HOST": "babbling"}}, "gives a malformed answer"),
        ({"auths": "AUTHS", "credsStore": "missing"}, "docker-credential-missing isn't installed"),
    ],
)
def test_image_is_pulled_with_credentials_of_helpers(
    real: Engine,
    registry: LocalRegistry,
    small: str,
    helpers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, object],
    said: str | None,
) -> None:
    content = json.dumps(config).replace("HOST", registry.host)
    auths = json.loads((registry.docker_config(tmp_path / "login") / "config.json").read_text())["auths"]
    configure(monkeypatch, tmp_path / "docker", content.replace('"AUTHS"', json.dumps(auths)))
    progress = Recording()
    real.pull(small, platform="linux/amd64", progress=progress)
    if said is None:
        assert progress.lines == []
    else:
        (line,) = progress.lines
        assert line.startswith(f"warning: The credential helper for {registry.host} ")
        assert said in line
        assert PASSWORD not in line


@pytest.mark.parametrize("content", [{}, {"credsStore": "failing"}, "{not json", {"auths": "nonsense"}])
def test_without_credentials_the_hint_is_to_log_in(
    real: Engine,
    registry: LocalRegistry,
    helpers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: object,
) -> None:
    configure(monkeypatch, tmp_path / "docker", content)
    progress = Recording()
    with pytest.raises(RegistryError, match="can't be pulled") as caught:
        real.pull(f"{registry.host}/team/small:1", platform="linux/amd64", progress=progress)
    assert f"docker login {registry.host}" in str(caught.value.hint)
    assert len(progress.lines) == (0 if content == {} else 1)


def test_wrong_password_is_told_and_not_shown(
    real: Engine, registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, registry, tmp_path, password=WRONG)
    with pytest.raises(RegistryError, match="unauthorized") as caught:
        real.pull(f"{registry.host}/team/small:1", platform="linux/amd64", progress=SilentProgress())
    assert f"docker login {registry.host}" in str(caught.value.hint)
    assert WRONG not in str(caught.value)


def test_podman_goes_by_its_own_login(
    registry: LocalRegistry, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Podman's socket path has to stay short.
    folder = tmp_path_factory.mktemp("e")
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    registry.docker_config(folder / "containers")
    (folder / "containers" / "config.json").rename(folder / "containers" / "auth.json")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    configure(monkeypatch, folder / "docker", {})
    for endpoint in podman_endpoint(folder):
        with Engine(endpoint) as ours:
            image = ours.pull(
                f"{registry.host}/team/small:1", platform="linux/amd64", progress=SilentProgress()
            )
    assert image.digests


@pytest.mark.parametrize("name", ["team/small:2", "team/nothing:1", "team/small@sha256:" + "0" * 64])
def test_image_that_is_not_there(
    real: Engine, registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    log_in(monkeypatch, registry, tmp_path)
    with pytest.raises(RegistryError, match="can't be pulled") as caught:
        real.pull(f"{registry.host}/{name}", platform="linux/amd64", progress=SilentProgress())
    assert "image's name and tag" in str(caught.value.hint)


def test_base_is_pulled_and_named_by_the_registrys_digest(
    registry: LocalRegistry,
    root: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_in(monkeypatch, registry, tmp_path)
    for endpoint in docker_endpoint(tmp_path):
        with Engine(endpoint) as ours:
            assert ours.inspect(root) is None
            base = ensure_base(ours, settings=Settings(base=root), progress=SilentProgress())
            assert base.digest == registry.digest("debian:bookworm")
            assert look_up(endpoint, base=root, repository="x").base_digest == base.digest


def test_base_of_a_registry_that_is_down(engine: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with LocalRegistry(tmp_path / "registry") as registry:
        host = registry.host
    for endpoint in docker_endpoint(tmp_path):
        with Engine(endpoint) as ours, pytest.raises(BaseImageError, match="connection refused") as caught:
            ensure_base(ours, settings=Settings(base=f"{host}/debian:1"), progress=SilentProgress())
    assert f"reaches {host}" in str(caught.value.hint)


def test_command_pulls_its_base(
    image_cli: CommandLine, registry: LocalRegistry, root: str, base_python: Path, tmp_path: Path
) -> None:
    with LocalIndex() as index:
        index.add_wheel("birch", "2.1.0")
        local = make_environment(
            tmp_path / "env", packages=["birch"], python=base_python, arguments=["--index-url", index.url]
        )
        cli = image_cli.with_environ(PIP_INDEX_URL=index.url, VIRTUAL_ENV=local.prefix)
        wrong = registry.docker_config(tmp_path / "wrong", password=WRONG)
        refused = cli.with_environ(DOCKER_CONFIG=wrong).run("build", "--base", root)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"docker login {registry.host}" in refused.stderr
        assert WRONG not in refused.stderr
        assert "Traceback" not in refused.stderr
        cli = cli.with_environ(DOCKER_CONFIG=registry.docker_config(tmp_path / "right"))
        first = cli("build", "--base", root)
        assert f"Pulling {root}" in first.stderr
        assert PASSWORD not in first.stderr
        second = cli("build", "--base", root)
    assert second.reference == first.reference
    assert "Pulling" not in second.stderr
