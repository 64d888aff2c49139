"""Certificates of a company's own authority: at an index and at a registry, direct and behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import FetchError, RegistryError
from imagesync.indexes.pypi.access import Access
from imagesync.registry.http import Connection
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch
from imagesync.store.store import Store
from tests.indexes import LocalIndex
from tests.indexes.certificates import make_certificates
from tests.indexes.proxy import CountingProxy
from tests.integration.local_registry import PASSWORD, USER, LocalRegistry
from tests.integration.token_service import IDENTITY_TOKEN, TokenService

REGISTRY = "registry.invalid"
CREDENTIALS = {"username": USER, "password": PASSWORD}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex(tls=True) as index:
        yield index


def download(index: LocalIndex, store: Path, *, access: Access) -> None:
    name = index.add_wheel("demo", "1.0")
    wanted = Download(index.file_url(name), index.digest(name), name)
    fetch([wanted], store=Store(store), access=access, progress=SilentProgress())


def test_download_behind_a_proxy_trusts_the_systems_authorities(
    index: LocalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CountingProxy() as proxy:
        access = Access(proxy=proxy.url)
        with pytest.raises(FetchError, match="certificate"):
            download(index, tmp_path / "untrusted", access=access)
        # Where OpenSSL looks for the system's authorities.
        monkeypatch.setenv("SSL_CERT_FILE", str(index.ca_file))
        download(index, tmp_path / "trusted", access=access)
        download(index, tmp_path / "direct", access=Access())
    assert set(proxy.urls) == {f"127.0.0.1:{index.port}"}


@pytest.mark.parametrize("kind", ["bundle", "trusted host"])
def test_download_behind_a_proxy_follows_pips_configuration(
    kind: str, index: LocalIndex, tmp_path: Path
) -> None:
    with CountingProxy() as proxy:
        if kind == "bundle":
            access = Access(proxy=proxy.url, ca_bundle=str(index.ca_file))
        else:
            access = Access(proxy=proxy.url, trusted_hosts=(f"127.0.0.1:{index.port}",))
        download(index, tmp_path / "store", access=access)
    assert proxy.urls == [f"127.0.0.1:{index.port}"]


@pytest.mark.parametrize("place", ["system", "certs.d"])
def test_registry_behind_a_proxy_trusts_the_systems_and_its_own_authorities(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = make_certificates(tmp_path, name=REGISTRY)
    monkeypatch.setenv("HOME", str(tmp_path))
    with LocalRegistry(tmp_path, tls=(certificate, key)) as registry:
        port = int(registry.host.rpartition(":")[2])
        with CountingProxy(resolve={REGISTRY: ("127.0.0.1", port)}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            with (
                Connection(f"{REGISTRY}:{port}", CREDENTIALS) as connection,
                pytest.raises(RegistryError, match="certificate isn't trusted"),
            ):
                connection.request("GET", "/v2/", scope="")
            if place == "system":
                monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            else:
                folder = tmp_path / ".config" / "docker" / "certs.d" / f"{REGISTRY}:{port}"
                folder.mkdir(parents=True)
                (folder / "ca.crt").write_bytes(authority.read_bytes())
            with Connection(f"{REGISTRY}:{port}", CREDENTIALS) as connection:
                assert connection.request("GET", "/v2/", scope="").status_code == 200
        assert set(proxy.urls) == {f"{REGISTRY}:{port}"}


@pytest.mark.parametrize("credentials", [CREDENTIALS, {"identitytoken": IDENTITY_TOKEN}])
def test_every_login_works_where_the_certificate_is_not_checked(
    credentials: dict[str, str], tmp_path: Path
) -> None:
    _, certificate, key = make_certificates(tmp_path)
    tls = (certificate, key)
    with (
        TokenService(tmp_path, tls=tls) as tokens,
        LocalRegistry(tmp_path, auth=tokens.configuration, tls=tls) as registry,
        Connection(registry.host, credentials) as connection,
    ):
        response = connection.request("GET", "/v2/team/env/tags/list", scope="repository:team/env:pull")
    # There is no such repository; who may not ask gets 401.
    assert response.status_code == 404
    assert [who for who, _ in tokens.asked] == ["identity" if "identitytoken" in credentials else "password"]
