"""Mirrors of conda channels, and the logins that pixi and mamba have stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesync.errors import ScanError
from imagesync.indexes.conda.channel_access import Mirrors
from imagesync.indexes.conda.conda_configuration import read_conda_configuration
from imagesync.indexes.conda.logins import Login, StoredLogins, read_logins
from imagesync.indexes.pypi.pixi import pixi_settings

FORGE = "https://conda.anaconda.org/conda-forge"
MAIN = "https://repo.anaconda.com/pkgs/main"
MIRROR = "https://mirror.example.com"


def logins(home: Path, *, override: str = "", **environ: str) -> StoredLogins:
    return read_logins({"HOME": str(home), **environ}, "linux", override=override)


def write(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_pixi_logins_open_their_hosts(tmp_path: Path) -> None:
    write(
        tmp_path / ".rattler" / "credentials.json",
        {
            "conda.example.com": {"CondaToken": "tk-1"},
            "*.prefix.example": {"BearerToken": "pfx-2"},
            "basic.example.com": {"BasicHTTP": {"username": "me", "password": "p/w"}},
            "bucket": {"S3Credentials": {"access_key_id": "x", "secret_access_key": "y"}},
            "oauth.example.com": {"OAuth": {"access_token": "oa-3", "refresh_token": "z"}},
        },
    )
    found = logins(tmp_path)
    assert found.of("https://conda.example.com/team") == Login("token", "tk-1")
    assert found.of("https://repo.prefix.example/team") == Login("bearer", "pfx-2")
    assert found.of("https://prefix.example/team") == Login("bearer", "pfx-2")
    assert found.of("http://basic.example.com:8080/x") == Login("basic", "p/w", "me")
    assert found.of("https://oauth.example.com/x") == Login("bearer", "oa-3")
    assert found.of("https://bucket/x") is None
    assert found.of("https://example.com/x") is None
    assert "tk-1" not in repr(found)


def test_rattler_auth_file_precedes_other_files(tmp_path: Path) -> None:
    host = "conda.example.com"
    write(tmp_path / ".rattler" / "credentials.json", {host: {"CondaToken": "home"}})
    write(tmp_path / "override.json", {host: {"CondaToken": "override"}, "b": {"CondaToken": "b"}})
    named = write(tmp_path / "named.json", {host: {"CondaToken": "named"}})
    url = f"https://{host}/x"
    secrets = [
        logins(tmp_path).of(url),
        logins(tmp_path, override=str(tmp_path / "override.json")).of(url),
        logins(tmp_path, override=str(tmp_path / "override.json"), RATTLER_AUTH_FILE=str(named)).of(url),
    ]
    assert [login.secret for login in secrets if login] == ["home", "override", "named"]


def test_mamba_logins_match_host_port_and_path(tmp_path: Path) -> None:
    password = base64.b64encode(b"p:w").decode()
    write(
        tmp_path / ".mamba" / "auth" / "authentication.json",
        {
            "h.example.com": {"type": "CondaToken", "token": "host"},
            "h.example.com/team": {"type": "BearerToken", "token": "team"},
            "h.example.com:8443": {"type": "BasicHTTPAuthentication", "user": "me", "password": password},
            "broken.example.com": {"type": "BasicHTTPAuthentication", "password": "%"},
        },
    )
    found = logins(tmp_path)
    assert found.of("https://h.example.com/other") == Login("token", "host")
    assert found.of("https://h.example.com/team/noarch") == Login("bearer", "team")
    assert found.of("https://h.example.com/teamwork") == Login("token", "host")
    assert found.of("https://h.example.com:8443/x") == Login("basic", "p:w", "me")
    assert found.of("https://broken.example.com/x") is None


def test_keyring_is_asked_for_private_hosts(tmp_path: Path) -> None:
    keyring = tmp_path / "keyring"
    keyring.write_text(
        '#!/bin/sh\necho "$*" >> "$(dirname "$0")/asked"\n'
        '[ "$4" = "*.example.com" ] && echo \'{"CondaToken": "from-keyring"}\' && exit 0\nexit 1\n'
    )
    keyring.chmod(0o700)
    environ = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    found = read_logins(environ, "linux", keyring=str(keyring))
    for _ in range(2):
        assert found.of("https://conda.example.com/x") == Login("token", "from-keyring")
    assert found.of(FORGE) is None
    assert (tmp_path / "asked").read_text().splitlines() == [
        "get -- rattler conda.example.com",
        "get -- rattler *.example.com",
    ]
    read_logins(environ, "linux", keyring=str(keyring), everywhere=True).of(FORGE)
    assert "get -- rattler conda.anaconda.org" in (tmp_path / "asked").read_text()


def test_invalid_login_file_is_named_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / ".rattler" / "credentials.json"
    path.parent.mkdir()
    path.write_text('{"h": "hunter2')
    with pytest.raises(ScanError) as caught:
        logins(tmp_path)
    assert str(path) in caught.value.message
    assert "hunter2" not in str(caught.value)


def mirrors(home: Path, condarc: str = "", pixi: str = "") -> Mirrors:
    (home / ".condarc").write_text(condarc)
    config = home / ".pixi" / "config.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(pixi)
    environ = {"HOME": str(home), "USERPROFILE": str(home)}
    configuration = read_conda_configuration(home / "env", environ)
    return Mirrors(configuration, pixi_settings(None, environ, "linux").mirrors)


@pytest.mark.parametrize(
    ("condarc", "channel", "place"),
    [
        (f"channel_alias: {MIRROR}/cloud\n", FORGE, f"{MIRROR}/cloud/conda-forge"),
        (f"custom_channels:\n  conda-forge: {MIRROR}/c\n", FORGE, f"{MIRROR}/c/conda-forge"),
        (f"custom_channels:\n  pkgs/main: {MIRROR}\n", MAIN, f"{MIRROR}/pkgs/main"),
        (f"default_channels:\n  - {MIRROR}/pkgs/main\n  - {MIRROR}/pkgs/r\n", MAIN, f"{MIRROR}/pkgs/main"),
        (f"channels:\n  - {MIRROR}/t/tk-1/conda-forge\n", FORGE, f"{MIRROR}/conda-forge"),
        (
            f"mirrored_channels:\n  conda-forge:\n    - {MIRROR}/one/conda-forge\n",
            FORGE,
            f"{MIRROR}/one/conda-forge",
        ),
    ],
)
def test_conda_configuration_names_mirrors_of_a_channel(
    tmp_path: Path, condarc: str, channel: str, place: str
) -> None:
    found = mirrors(tmp_path, condarc)
    assert found.places(channel) == (place, channel)
    assert found.places("https://conda.anaconda.org/other")[-1] == "https://conda.anaconda.org/other"
    assert found.places("https://own.example.com/team") == ("https://own.example.com/team",)


def test_mirrored_channels_stand_in_for_each_other(tmp_path: Path) -> None:
    found = mirrors(tmp_path, f"mirrored_channels:\n  farm:\n    - {MIRROR}/a\n    - {MIRROR}/b\n")
    assert found.places(f"{MIRROR}/b") == (f"{MIRROR}/a", f"{MIRROR}/b")


def test_pixi_mirrors_come_first_in_their_order(tmp_path: Path) -> None:
    pixi = (
        f'[mirrors]\n"https://conda.anaconda.org" = ["{MIRROR}/all"]\n'
        f'"{FORGE}" = ["https://me:hunter2@mirror.example.com/forge", "{FORGE}", "{MIRROR}/second/"]\n'
    )
    found = mirrors(tmp_path, f"channel_alias: {MIRROR}/alias\n", pixi)
    assert found.places(FORGE) == (
        f"{MIRROR}/forge",
        FORGE,
        f"{MIRROR}/second",
        f"{MIRROR}/alias/conda-forge",
    )
    assert found.places("https://conda.anaconda.org/bioconda")[0] == f"{MIRROR}/all/bioconda"
    assert "https://me:hunter2@mirror.example.com/forge" in found.private_urls
    assert "hunter2" not in repr(found)


def test_pixi_configuration_of_the_workspace_is_the_strongest(tmp_path: Path) -> None:
    for folder, token in ((tmp_path / ".config" / "pixi", "user"), (tmp_path / "farm" / ".pixi", "farm")):
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(
            f'authentication-override-file = "/{token}.json"\n[mirrors]\n"https://{token}" = ["https://m"]\n'
        )
    settings = pixi_settings(tmp_path / "farm", {"HOME": str(tmp_path)}, "linux")
    assert settings.authentication_file == "/farm.json"
    assert set(settings.mirrors) == {"https://user", "https://farm"}
