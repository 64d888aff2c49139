"""Credentials for registries: files of Docker and Podman, and the answers of helpers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.registry.login import registry_credentials
from tests.progress import RecordedLines

_HUB = "https://index.docker.io/v1/"
_AUTH = "bWU6c2U6Y3JldA=="
"""``me`` with the password ``se:cret``."""
_ME = {"username": "me", "password": "se:cret"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder without any configuration."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def credentials(registry: str, progress: RecordedLines) -> dict[str, str]:
    found = registry_credentials(registry, progress=progress)
    return {name: found[name] for name in ("username", "password", "identitytoken") if name in found}


@pytest.mark.parametrize(
    ("registry", "auths", "expected"),
    [
        ("r.example.com", {"r.example.com": {"auth": _AUTH}}, _ME),
        ("r.example.com", {"https://r.example.com/v2/": {"auth": _AUTH}}, _ME),
        ("docker.io", {_HUB: {"auth": _AUTH}}, _ME),
        ("r.example.com", {"r.example.com": {"auth": _AUTH, "identitytoken": "t"}}, {"identitytoken": "t"}),
        ("r.example.com", {"r.example.com": {}}, {}),
        ("r.example.com", {"r.example.com:5000": {"auth": _AUTH}}, {}),
    ],
)
def test_entry_of_a_registry_in_dockers_file(
    registry: str, auths: object, expected: dict[str, str], home: Path
) -> None:
    write(home / ".docker/config.json", {"auths": auths})
    progress = RecordedLines()
    assert credentials(registry, progress) == expected
    assert progress.lines == []


@pytest.mark.parametrize("entry", [7, {"auth": 7}, {"auth": "bWU="}, {"auth": "%"}])
def test_damaged_entry_is_reported_and_podmans_file_is_read(entry: object, home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"r.example.com": entry}})
    write(home / ".config/containers/auth.json", {"auths": {"r.example.com": {"auth": _AUTH}}})
    progress = RecordedLines()
    assert credentials("r.example.com", progress)["username"] == "me"
    (line,) = progress.lines
    assert "Docker's config.json can't be read" in line


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: the helper is a shell script")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('echo \'{"Username": "me", "Secret": "s"}\'', {"username": "me", "password": "s"}),
        ('echo \'{"Username": "<token>", "Secret": "s"}\'', {"identitytoken": "s"}),
        ('echo \'{"Username": "", "Secret": ""}\'', {}),
        ("echo credentials not found in native keychain; exit 1", {}),
        (
            f'test "$(cat)" = {_HUB} && echo \'{{"Username": "hub", "Secret": "s"}}\'',
            {"username": "hub", "password": "s"},
        ),
    ],
)
def test_answer_of_a_helper(
    script: str, expected: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".docker/config.json", {"credsStore": "test"})
    helper = home / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    progress = RecordedLines()
    assert credentials("docker.io", progress) == expected
    assert progress.lines == []


def test_credentials_are_read_without_the_docker_sdk() -> None:
    script = (
        "import sys\nfrom imagesync.core.progress import SilentProgress\n"
        "from imagesync.registry.login import registry_credentials\n"
        "registry_credentials('r.example.com', progress=SilentProgress())\n"
        "assert 'docker' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
