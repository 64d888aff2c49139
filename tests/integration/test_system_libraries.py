"""A wheel whose extension module needs a library that the base image lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.elf import compile_extension
from tests.environments import make_environment
from tests.indexes import LocalIndex

LIBRARY, PACKAGE = "libsodium.so.23", "libsodium23"
TAG = "py3-none-manylinux_2_17_x86_64"


@pytest.fixture
def lamp(image_cli: CommandLine, base_python: Path, tmp_path: Path) -> Iterator[CommandLine]:
    """Return the command line for an environment with a wheel that imports its extension module."""
    extension = compile_extension(tmp_path / "_light.so", needs=[LIBRARY]).read_bytes()
    files = {"lamp/__init__.py": b"from . import _light\n", "lamp/_light.so": extension}
    with LocalIndex() as index:
        index.add_wheel("lamp", "1.0.0", tag=TAG, files=files)
        local = make_environment(
            tmp_path / "env", packages=["lamp"], python=base_python, arguments=["--index-url", index.url]
        )
        yield image_cli.with_environ(
            VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url, IMAGESYNC_PROFILE="none"
        )


def test_missing_library_is_named_with_its_apt_entry_which_cures_it(
    lamp: CommandLine, engine: docker.DockerClient
) -> None:
    refused = lamp.run("build", "--strict")
    assert refused.returncode == 1, refused
    assert f"lamp 1.0.0 needs {LIBRARY}, which the base image" in refused.stderr
    assert f'apt = ["{PACKAGE}"]' in refused.stderr
    # The base image has been listed, so that a plan knows it without an engine.
    offline = lamp.with_environ(DOCKER_HOST="unix:///nowhere.sock")
    findings = json.loads(offline("plan", "--format", "json").stdout)["findings"]
    assert [(f["code"], f["severity"], f["package"]) for f in findings] == [
        ("system-library", "error", "lamp")
    ]

    named = lamp.run("build")
    assert named.returncode == 0, named
    assert f"warning: lamp 1.0.0 needs {LIBRARY}" in named.stderr

    # A lock file has no installed files: what its wheels need is read from them.
    lamp("lock", "-o", "conda-lock.yml")
    refused = lamp.run("build", "--strict", "--locked", "conda-lock.yml")
    assert refused.returncode == 1, refused
    assert f"lamp 1.0.0 needs {LIBRARY}" in refused.stderr

    cured = lamp("build", "--strict", "--apt", PACKAGE)
    assert LIBRARY not in cured.stderr
    engine.containers.run(cured.reference, ["python", "-c", "import lamp"], remove=True)
