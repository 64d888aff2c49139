"""Images of conda environments, with packages of pip on top, that imagesync builds without an engine."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.image_location import parse_location
from imagesync.core.platforms import PLATFORMS
from imagesync.core.progress import SilentProgress
from imagesync.registry.config import ContainerConfig
from imagesync.registry.image_source import open_image
from imagesync.registry.manifest import Index
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.repository import Repository
from tests.channels.environments import make_conda_environment
from tests.commands import CommandLine, clean_environ
from tests.environments import make_environment
from tests.integration.local_registry import LocalRegistry
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


@pytest.fixture(scope="module")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalRegistry(tmp_path_factory.mktemp("registry"), auth={}) as registry:
        yield registry.host


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


def test_image_of_conda_is_the_same_from_an_empty_store_and_from_parts_without_archives(
    oci_cli: CommandLine, channel: Path, tmp_path: Path
) -> None:
    local = make_conda_environment(channel, ["python", "greeter", "anvil"], tmp_path / "env")
    cli = oci_cli.with_environ(**local.activated)
    refused = cli.run("build")
    assert refused.returncode == 1
    assert "post-link scripts, which need a running container: anvil" in refused.stderr
    assert "Compiling bytecode" not in refused.stderr
    reference = cli("build", "--skip-scripts").reference
    store = Path(cli.environ["IMAGESYNC_CACHE_DIR"])
    first = ImageLayout(store / "images").index().find(reference)
    assert first is not None
    other = cli.with_environ(
        IMAGESYNC_CACHE_DIR=tmp_path / "cold",
        IMAGESYNC_SKIP_SCRIPTS="true",
        TZ="Pacific/Kiritimati",
        LC_ALL="C",
    )
    assert other("build").reference == reference
    assert ImageLayout(tmp_path / "cold" / "images").index().find(reference) == first
    before = archives_in(tmp_path / "cold")
    removed = other("cache", "prune", "--archives", "--format", "json").json()
    # Each package's archive, and the bytecode of those that have modules.
    assert removed["files"] > before == len(list(local.records.glob("*.json")))
    assert archives_in(tmp_path / "cold") == 0
    for entry in (tmp_path / "cold" / "layers").glob("*.json"):
        if '"layer"' in entry.read_text()[:40]:
            entry.unlink()
    again = other("build", "--no-cache", "--output", "oci:image:latest")
    assert "Writing conda packages" not in again.stderr
    assert archives_in(tmp_path / "cold") == 0
    found = ImageLayout(other.cwd / "image").index().find("latest")
    assert found is not None
    assert found.digest == first.digest


def archives_in(store: Path) -> int:
    """Return how many conda archives a store has."""
    return sum(
        "metadata.json" in zipfile.ZipFile(path).namelist()
        for path in (store / "blobs").rglob("*")
        if path.is_file() and zipfile.is_zipfile(path)
    )


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


def test_ci_with_an_empty_store_takes_conda_packages_from_the_cache(
    oci_cli: CommandLine, channel: Path, registry_host: str, tmp_path: Path
) -> None:
    local = make_conda_environment(channel, ["python", "greeter", "compass"], tmp_path / "env")
    local.install("--no-deps", "toolz==1.0.0")
    repository = f"{registry_host}/team/conda"
    job = oci_cli.with_environ(
        **local.activated, IMAGESYNC_REPOSITORY=repository, IMAGESYNC_CACHE_FROM=repository
    )
    first = job("build", "--push").reference
    local.install("--no-deps", "iniconfig==2.0.0")
    next_job = job.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "empty")
    second = next_job("-v", "build", "--push")
    assert second.reference != first
    fetched = [line for line in second.stderr.splitlines() if ".conda" in line or "toolz" in line]
    assert not fetched
    assert not list((tmp_path / "empty").rglob("*.conda"))
    # The same bytes as from a build that knows nothing.
    cold = job.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "cold", IMAGESYNC_CACHE_FROM="")
    alone = cold("build", "--no-cache", "--output", "oci:cold:latest")
    assert alone.reference == second.reference
    with Repository(second.reference) as there:
        found = there.resolve("linux/amd64")
    entry = ImageLayout(cold.cwd / "cold").index().find("latest")
    assert found is not None
    assert entry is not None
    assert entry.digest == found[1].digest


def test_conda_environment_with_wheels_becomes_images_for_two_platforms(
    oci_cli: CommandLine, channel: Path, tmp_path: Path
) -> None:
    bases, libc = ImageLayout(tmp_path / "bases"), b"GNU C Library stable release version 2.36.\n"
    images = [
        small_image(
            bases,
            {
                f"lib/{platform.machine}-linux-gnu/libc.so.6": libc,
                "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
                "etc/group": b"root:x:0:\n",
            },
            name=platform.name,
            platform=platform.full_name,
        )
        for platform in PLATFORMS
    ]
    bases.put_index(Index(tuple(image.descriptor for image in images)), name="both")
    local = make_conda_environment(channel, ["python", "msgpack-python", "tzdata"], tmp_path / "env")
    local.install("--no-deps", "toolz==1.0.0", "markupsafe==3.0.2")
    cli = oci_cli.with_environ(
        **local.activated,
        IMAGESYNC_BASE=f"oci:{bases.root}:both",
        IMAGESYNC_PLATFORMS=",".join(map(str, PLATFORMS)),
    )
    cli("build", "--output", "oci:both:latest")
    shown = {}
    for platform in PLATFORMS:
        location = parse_location(f"oci:{cli.cwd}/both:latest", given_as="base")
        with open_image(location, platform=platform.name, kept=bases, progress=SilentProgress()) as found:
            config = found.image.config
            pairs = zip(config.history, config.diff_ids, strict=True)
            shown[platform] = {str(step.created_by): diff_id for step, diff_id in pairs}
    amd64, arm64 = shown.values()
    shared = [step for step in amd64 if amd64[step] == arm64.get(step)]
    assert amd64.keys() == arm64.keys()
    assert [step for step in shared if "packages" in step] == [
        step for step in amd64 if "for all platforms" in step
    ]
