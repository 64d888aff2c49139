"""Images of conda environments, with packages of pip on top, that imagesync builds without an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.registry.config import ContainerConfig
from imagesync.registry.oci_layout import ImageLayout
from tests.channels.environments import make_conda_environment
from tests.commands import CommandLine, clean_environ
from tests.environments import make_environment
from tests.integration.oci_environment import unpacked
from tests.oci_images import small_image

MINOR = f"3.{sys.version_info.minor}"
PACKAGES = f"opt/env/lib/python{MINOR}/site-packages"


@pytest.fixture(scope="module")
def oci_cli(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Return the console script for a base without Python, without an engine, with a store of its own."""
    folder = tmp_path_factory.mktemp("conda")
    small_image(
        ImageLayout(folder / "base"),
        {
            "lib/x86_64-linux-gnu/libc.so.6": b"GNU C Library (x) stable release version 2.36.\n",
            "bin/bash": b"",
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
            "etc/group": b"root:x:0:\n",
            "etc/ssl/certs/ca-certificates.crt": b"certificates",
        },
        container=ContainerConfig(env=("PATH=/usr/bin:/bin",)),
    )
    (folder / "condarc").write_text(f"channels: [{channel.as_uri()}]\npkgs_dirs: [none]\n")
    environ = {
        **clean_environ(),
        "CONDARC": str(folder / "condarc"),
        "DOCKER_HOST": "tcp://127.0.0.1:1",
        "IMAGESYNC_BASE": f"oci:{folder / 'base'}",
        "IMAGESYNC_CACHE_DIR": str(folder / "store"),
        "IMAGESYNC_PROFILE": "none",
    }
    (folder / "work").mkdir()
    return CommandLine(environ, folder / "work")


def test_conda_environment_with_wheels_becomes_an_image(
    oci_cli: CommandLine, channel: Path, tmp_path: Path
) -> None:
    local = make_conda_environment(channel, ["python", "greeter", "compass"], tmp_path / "env")
    local.install("--no-deps", "toolz==1.0.0", "markupsafe==3.0.2")
    cli = oci_cli.with_environ(**local.activated)
    reference = cli("build", "--output", "oci:image:latest").reference
    assert cli("build").reference == reference
    root = unpacked(cli.cwd / "image", "latest", tmp_path / "bundle")
    records = {json.loads(path.read_text())["name"] for path in (root / "opt/env/conda-meta").glob("*.json")}
    assert {"python", "greeter", "compass"} <= records
    assert {"toolz", "markupsafe"} <= {path.name for path in (root / PACKAGES).iterdir()}
    assert (root / "opt/env/bin/greet").read_text().startswith("#!/opt/env/bin/python\n")
    # The interpreter finds its own tree: it runs where it was unpacked.
    text = "import greeter, toolz, markupsafe, sys; print(sys.prefix)"
    shown = subprocess.run(
        [root / "opt/env/bin/python", "-IBc", text], check=True, capture_output=True, text=True
    )
    assert shown.stdout == f"{root}/opt/env\n"
    found = ImageLayout(cli.cwd / "image").index().find("latest")
    assert found is not None
    container = ImageLayout(cli.cwd / "image").image(found).config.container
    assert container.entrypoint == ("/opt/env/share/imagesync/activate",)
    assert container.variables["CONDA_PREFIX"] == "/opt/env"
    # compass has scripts that activate it.
    assert "CONDA_SHLVL" not in container.variables


def test_image_of_conda_is_the_same_from_an_empty_store(
    oci_cli: CommandLine, channel: Path, tmp_path: Path
) -> None:
    local = make_conda_environment(channel, ["python", "greeter"], tmp_path / "env")
    cli = oci_cli.with_environ(**local.activated)
    reference = cli("build").reference
    first = ImageLayout(Path(cli.environ["IMAGESYNC_CACHE_DIR"]) / "images").index().find(reference)
    other = cli.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "cold", TZ="Pacific/Kiritimati", LC_ALL="C")
    assert other("build").reference == reference
    assert ImageLayout(tmp_path / "cold" / "images").index().find(reference) == first


def test_environment_of_pip_gets_the_python_of_a_channel(oci_cli: CommandLine, tmp_path: Path) -> None:
    local = make_environment(tmp_path / "env", packages=["toolz==1.0.0"], python=sys.executable)
    cli = oci_cli.with_environ(VIRTUAL_ENV=local.prefix, IMAGESYNC_PYTHON="conda")
    cli("build", "--output", "oci:image:latest")
    root = unpacked(cli.cwd / "image", "latest", tmp_path / "bundle")
    shown = subprocess.run(
        [root / "opt/env/bin/python", "-IBc", "import toolz, sys; print(*sys.version_info[:2], sep='.')"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout == f"{MINOR}\n"


def test_default_base_gives_way_to_one_with_the_local_python(oci_cli: CommandLine, tmp_path: Path) -> None:
    local = make_environment(tmp_path / "env", python=sys.executable)
    environ = {name: value for name, value in oci_cli.environ.items() if name != "IMAGESYNC_BASE"}
    cli = CommandLine({**environ, "VIRTUAL_ENV": str(local.prefix), "IMAGESYNC_PYTHON": "base"}, tmp_path)
    finished = cli.run("build", "--builder", "oci")
    assert f"The base image is python:{MINOR}." in finished.stderr
    assert "-slim: ubuntu:24.04 has no Python" in finished.stderr
