"""Reading images from a registry and checking pushes, with passwords, tokens and own certificates."""

from __future__ import annotations

import io
import ipaddress
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.engine import Engine
from imagesync.errors import RegistryError
from imagesync.registry.http import Connection
from imagesync.registry.registry import check_push, read_config, read_digest
from tests.indexes.certificates import make_certificates
from tests.integration.engines import docker_endpoint
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry, forget
from tests.integration.tiny_image import REFERENCE
from tests.integration.token_service import IDENTITY_TOKEN, TokenService
from tests.passwords import Password

pytestmark = pytest.mark.engine
WRONG = "swordfish/4711"
PASSWORDS = Password(USER, PASSWORD), Password(USER, WRONG), Password("", IDENTITY_TOKEN)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a small image of the engine."""
    for _ in docker_endpoint(tmp_path_factory.mktemp("tiny")):
        yield REFERENCE


@pytest.fixture(scope="module")
def labelled(engine: docker.DockerClient, tiny: str) -> Iterator[docker.models.images.Image]:
    """Return a small image with a label."""
    dockerfile = f"FROM {tiny}\nLABEL dev.imagesync.test={secrets.token_hex(4)}\n"
    image, _ = engine.images.build(
        fileobj=io.BytesIO(dockerfile.encode()), tag="imagesync-test/labelled:1", rm=True
    )
    yield image
    forget(engine, image.id)


@pytest.fixture(scope="module")
def registry(
    engine: docker.DockerClient,
    labelled: docker.models.images.Image,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        registry.push(engine, labelled.id, "team/env:1")
        registry.put_list("team/env:list", of="team/env:1")
        yield registry


def hide_nothing(error: RegistryError) -> str:
    """Return all that a person is shown of an error, its causes included, without passwords in it."""
    shown, cause = str(error), error.__cause__
    while cause is not None:
        shown, cause = f"{shown}\n{cause!r}", cause.__cause__
    for password in PASSWORDS:
        password.assert_absent(shown.encode(), "the error")
    return shown


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("name", ["1", "list"])
def test_labels_and_digest_without_a_pull(
    engine: docker.DockerClient, registry: LocalRegistry, labelled: docker.models.images.Image, name: str
) -> None:
    reference = f"{registry.host}/team/env:{name}"
    image = read_config(reference, platform="linux/amd64")
    assert image is not None
    assert image.labels == labelled.labels
    assert image.config_digest == labelled.id
    assert image.digest == registry.digest(f"team/env:{name}") == read_digest(reference)
    assert image.reference == f"{registry.host}/team/env@{image.digest}"
    assert image.manifest_digest == registry.digest("team/env:1")
    again = read_config(image.reference, platform="linux/amd64")
    assert again == image
    assert engine.images.list(f"{registry.host}/team/env") == []


@pytest.mark.usefixtures("logged_in")
def test_missing_image_is_none(registry: LocalRegistry) -> None:
    for name in ("team/env:2", "team/other:1", f"team/env@sha256:{'0' * 64}"):
        assert read_config(f"{registry.host}/{name}", platform="linux/amd64") is None
        assert read_digest(f"{registry.host}/{name}") is None


@pytest.mark.usefixtures("logged_in")
def test_image_for_other_platforms_is_refused(registry: LocalRegistry) -> None:
    with pytest.raises(RegistryError, match="isn't there for linux/arm64"):
        read_config(f"{registry.host}/team/env:list", platform="linux/arm64")


@pytest.mark.usefixtures("logged_in")
def test_push_check_leaves_nothing_in_the_registry(registry: LocalRegistry, tmp_path: Path) -> None:
    check_push(f"{registry.host}/team/new")
    # The registry of Debian 12 keeps an empty folder of an upload that was cancelled.
    assert list(registry.data.glob("**/team/new/_uploads/*/startedat")) == []
    assert read_digest(f"{registry.host}/team/new:1") is None


@pytest.mark.parametrize("password", [None, WRONG])
def test_push_check_fails_without_permission(
    registry: LocalRegistry, password: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docker"
    if password is not None:
        registry.docker_config(folder, password=password)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with pytest.raises(RegistryError, match="doesn't let you push to team/env") as caught:
        check_push(f"{registry.host}/team/env")
    assert f"docker login {registry.host}" in hide_nothing(caught.value)
    with pytest.raises(RegistryError, match="doesn't let you read"):
        read_config(f"{registry.host}/team/env:1", platform="linux/amd64")


def test_unreachable_registry_is_a_registry_error(registry: LocalRegistry, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with LocalRegistry(tmp_path / "registry") as other:
        host = other.host
    with pytest.raises(RegistryError, match="can't be reached: connection refused"):
        read_digest(f"{host}/team/env:1")


def test_netrc_is_not_read_for_registries(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(RegistryError, match="Unauthorized"):
        read_digest(f"{registry.host}/team/env:1")


def test_podman_login_is_used(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = registry.docker_config(tmp_path / "containers") / "config.json"
    config.rename(config.with_name("auth.json"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    check_push(f"{registry.host}/team/env")
    # Docker's come first.
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker", password=WRONG)))
    with pytest.raises(RegistryError, match="doesn't let you"):
        check_push(f"{registry.host}/team/env")


class Tokens:
    """A registry with a token service, and an image in it that the engine has pushed."""

    def __init__(self, service: TokenService, registry: LocalRegistry) -> None:
        self.service = service
        self.host = registry.host
        self.registry = registry

    def log_in(self, monkeypatch: pytest.MonkeyPatch, folder: Path, entry: object) -> None:
        folder.mkdir(exist_ok=True)
        auths = {} if entry is None else {self.host: entry}
        (folder / "config.json").write_text(json.dumps({"auths": auths}))
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))


@pytest.fixture(scope="module")
def tokens(
    engine: docker.DockerClient, tiny: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tokens]:
    folder = tmp_path_factory.mktemp("tokens")
    with TokenService(folder) as service, LocalRegistry(folder, auth=service.configuration) as registry:
        reference = f"{registry.host}/team/env:1"
        engine.api.tag(tiny, reference)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_CONFIG", str(registry.docker_config(folder / "docker")))
            for endpoint in docker_endpoint(folder):
                with Engine(endpoint) as ours:
                    digest = ours.push(reference, progress=SilentProgress())
                    assert read_digest(reference) == digest
        forget(engine, reference)
        yield Tokens(service, registry)


def test_anonymous_token_reads_and_does_not_push(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.log_in(monkeypatch, tmp_path, None)
    tokens.service.asked.clear()
    assert read_config(f"{tokens.host}/team/env:1", platform="linux/amd64") is not None
    # One token for manifest and configuration, and no more than was needed.
    assert tokens.service.asked == [("anonymous", "repository:team/env:pull")]
    # The service grants a token all the same; only the registry says what it is worth.
    with pytest.raises(RegistryError, match="doesn't let you push to team/env"):
        check_push(f"{tokens.host}/team/env")
    assert tokens.service.asked[1] == ("anonymous", "repository:team/env:pull,push")


def test_anonymous_push_where_the_registry_allows_it(
    engine: docker.DockerClient, tokens: Tokens, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.log_in(monkeypatch, tmp_path, None)
    monkeypatch.setitem(tokens.service.grants, "anonymous", {"pull", "push"})
    reference = f"{tokens.host}/team/free:1"
    check_push(reference)
    engine.api.tag(tiny, reference)
    for endpoint in docker_endpoint(tmp_path):
        with Engine(endpoint) as ours:
            assert ours.push(reference, progress=SilentProgress()) == read_digest(reference)
    forget(engine, reference)


def test_password_and_identity_token_log_in(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tokens.registry.docker_config(tmp_path / "docker")))
    tokens.service.asked.clear()
    check_push(f"{tokens.host}/team/env")
    # As `az acr login` writes it.
    entry = {"auth": "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==", "identitytoken": IDENTITY_TOKEN}
    tokens.log_in(monkeypatch, tmp_path, entry)
    check_push(f"{tokens.host}/team/env")
    # Each twice, because this registry wants more of a token before it cancels an upload.
    assert list(dict.fromkeys(who for who, _ in tokens.service.asked)) == ["password", "identity"]


@pytest.mark.parametrize("entry", [{"auth": "bWU6c3dvcmRmaXNoLzQ3MTE="}, {"identitytoken": "expired-token"}])
def test_refusal_of_the_token_service_is_reported(
    tokens: Tokens, entry: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.log_in(monkeypatch, tmp_path, entry)
    with pytest.raises(RegistryError, match=r"doesn't let you log in: (incorrect|invalid)") as caught:
        read_digest(f"{tokens.host}/team/env:1")
    assert "expired-token" not in hide_nothing(caught.value)


def test_push_check_fails_for_a_read_only_user(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tokens.registry.docker_config(tmp_path / "docker")))
    monkeypatch.setitem(tokens.service.grants, "password", {"pull"})
    assert read_digest(f"{tokens.host}/team/env:1")
    with pytest.raises(RegistryError, match="doesn't let you push") as caught:
        check_push(f"{tokens.host}/team/env")
    hide_nothing(caught.value)


@pytest.fixture(scope="module")
def bridge(engine: docker.DockerClient) -> str:
    """Return an address of this machine that isn't loopback."""
    # An engine that has made its bridge itself doesn't say which address that has.
    subnet = ipaddress.ip_network(engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((str(subnet[-2]), 9))  # nothing is sent
        address: str = probe.getsockname()[0]
    return address


def test_certificates_in_certs_d_are_trusted(
    bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = make_certificates(tmp_path, address=bridge)
    monkeypatch.setenv("HOME", str(tmp_path))
    with LocalRegistry(tmp_path, tls=(certificate, key), address=bridge) as registry:
        monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker")))
        with pytest.raises(RegistryError, match="certificate isn't trusted") as caught:
            check_push(f"{registry.host}/team/env")
        assert f"/etc/docker/certs.d/{registry.host}" in hide_nothing(caught.value)
        folder = tmp_path / ".config" / "docker" / "certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(authority.read_bytes())
        check_push(f"{registry.host}/team/env")
        (folder / "ca.crt").write_text("not a certificate")
        with pytest.raises(RegistryError, match=r"The certificates in .* can't be used"):
            check_push(f"{registry.host}/team/env")


def test_plain_http_only_where_the_engine_allows_it(
    bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalRegistry(tmp_path, address=bridge) as registry:
        monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker")))
        with pytest.raises(RegistryError, match="can't be reached"):
            check_push(f"{registry.host}/team/env")
        check_push(f"{registry.host}/team/env", insecure=True)


class _Elsewhere(BaseHTTPRequestHandler):
    """A registry that wants a password, and sends who has given it elsewhere, where they want one, too."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/v2/") and not self.headers.get("Authorization"):
            self._end(401, {"WWW-Authenticate": "Basic realm=registry"})
        elif self.path.startswith("/v2/"):
            self._end(307, {"Location": f"http://localhost:{self.server.server_port}/elsewhere"})
        else:
            self._end(401, {"WWW-Authenticate": "Basic realm=elsewhere"})

    def _end(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


def test_redirects_carry_no_password() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            credentials = {"username": USER, "password": PASSWORD}
            with Connection(f"127.0.0.1:{server.server_port}", credentials) as connection:
                assert connection.request("GET", "/v2/", scope="").status_code == 401
        finally:
            server.shutdown()
    assert [path for path, _ in server.seen] == ["/v2/", "/v2/", "/elsewhere"]
    assert server.seen[1][1] is not None
    assert server.seen[2][1] is None


def test_password_goes_to_no_token_service_without_tls(
    bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = make_certificates(tmp_path, address=bridge)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with (
        TokenService(tmp_path) as tokens,
        LocalRegistry(
            tmp_path, auth=tokens.configuration, tls=(certificate, key), address=bridge
        ) as registry,
    ):
        monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config(tmp_path / "docker")))
        with pytest.raises(RegistryError, match=r"wants the password sent to .* without TLS"):
            read_digest(f"{registry.host}/team/env:1")
        assert tokens.asked == []
