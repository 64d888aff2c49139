"""pip's configuration in uv's words, in pip's, and for fetching."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.indexes.pypi.uv_environment import (
    build_environment,
    make_access,
    pip_environment,
    uv_environment,
)

FULL = IndexConfiguration(
    index_url="https://me:secret@a.example.com/simple",
    extra_index_urls=("https://b.example.com/simple", "file:///c"),
    find_links=("/wheels", "https://d.example.com/links.html"),
    cert="/ca.pem",
    client_cert="/client.pem",
    trusted_hosts=("a.example.com", "b.example.com:8443"),
    proxy="user:pass@proxy.example.com:3128",
    timeout=7.5,
    keyring_provider="disabled",
)


def test_uv_variables_have_the_whole_configuration() -> None:
    environment = uv_environment(
        FULL, {"PATH": "/bin", "SSL_CERT_DIR": "/etc/ssl/certs", "UV_INDEX_URL": "x"}
    )
    proxy = "http://user:pass@proxy.example.com:3128"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    assert environment == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "https://me:secret@a.example.com/simple",
        "UV_INDEX": "https://b.example.com/simple file:///c",
        "UV_FIND_LINKS": "/wheels,https://d.example.com/links.html",
        "UV_INSECURE_HOST": "a.example.com b.example.com:8443",
        "UV_HTTP_TIMEOUT": "7",
        "SSL_CERT_FILE": "/ca.pem",
        "SSL_CLIENT_CERT": "/client.pem",
        **dict.fromkeys(names, proxy),
        **{name.lower(): proxy for name in names},
    }


def test_uv_variables_stay_where_pip_has_no_configuration() -> None:
    own = {"PATH": "/bin", "UV_HTTP_TIMEOUT": "3", "UV_SYSTEM_CERTS": "false", "HTTPS_PROXY": "http://p"}
    environment = uv_environment(IndexConfiguration(keyring_provider="disabled"), own)
    assert environment == own


def test_system_certificates_are_used_by_default() -> None:
    environment = uv_environment(IndexConfiguration(), {"PATH": "/bin"})
    assert environment["UV_SYSTEM_CERTS"] == "true"
    assert environment["UV_KEYRING_PROVIDER"] == "subprocess"


def test_constraints_apply_to_build_requirements_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "https://me:secret@a.example.com/c.txt"
    indexes = IndexConfiguration(build_constraints=("c.txt", "/with space/c.txt", url))
    own = {"PATH": "/bin", "UV_CONSTRAINT": "/own.txt"}
    environment = build_environment(indexes, own, tmp_path)
    given = f"{tmp_path}/c.txt file:///with%20space/c.txt {url}"
    assert environment["UV_CONSTRAINT"] == f"/own.txt {given}"
    assert environment["UV_BUILD_CONSTRAINT"] == given
    assert uv_environment(indexes, own)["UV_CONSTRAINT"] == "/own.txt"
    assert "UV_BUILD_CONSTRAINT" not in build_environment(IndexConfiguration(), own, tmp_path)


def test_certificate_variables_of_requests_apply_to_uv() -> None:
    environment = uv_environment(IndexConfiguration(), {"REQUESTS_CA_BUNDLE": "/bundle.pem"})
    assert environment["SSL_CERT_FILE"] == "/bundle.pem"


def test_pip_environment_drops_conflicting_options() -> None:
    environment = pip_environment(FULL, {"PIP_TARGET": "/x", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_PRE": "1"})
    assert "PIP_TARGET" not in environment
    assert "PIP_REQUIRE_VIRTUALENV" not in environment
    assert environment["PIP_PRE"] == "1"
    assert environment["PIP_EXTRA_INDEX_URL"] == "https://b.example.com/simple file:///c"


def test_access_has_credentials_that_its_representation_hides() -> None:
    access = make_access(FULL, {"PATH": "/bin"})
    assert access.authentication("https://a.example.com/files/x.whl") == ("me", "secret")
    assert (access.ca_bundle, access.timeout, access.keyring) == ("/ca.pem", 7.5, None)
    assert access.proxy == "http://user:pass@proxy.example.com:3128"
    assert "secret" not in repr(access)
    assert "pass" not in repr(access).replace("password", "")
