"""Images for several platforms from one machine, and the index that names them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesync.core.platforms import PLATFORMS
from imagesync.registry.manifest import Index
from imagesync.registry.oci_layout import ImageLayout
from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex
from tests.indexes.sdists import make_source_archive
from tests.integration.emulated_base import emulated_base, python_of_base, require_emulation
from tests.integration.local_registry import LocalRegistry
from tests.integration.oci_environment import python_base, small_environment, unpacked

NO_ENGINE = "tcp://127.0.0.1:1"
BOTH = ("--platform", "linux/arm64", "--platform", "linux/amd64")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an index of base images: one with what a build reads of it, and one that runs by emulation."""
    require_emulation()
    if python_of_base() != f"3.{sys.version_info.minor}":
        pytest.skip(f"no CPython 3.{sys.version_info.minor} on this machine: its release has another one")
    layout = ImageLayout(tmp_path_factory.mktemp("bases"))
    images = [python_base(layout), emulated_base(layout)]
    layout.remove("latest")
    layout.put_index(Index(tuple(image.descriptor for image in images)), name="both", images=images)
    return f"oci:{layout.root}:both"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return small_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache folder of all tests, so that bases are read and wheels are fetched once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def both_cli(cli: CommandLine, base: str, local: LocalEnvironment, cache: Path) -> CommandLine:
    return cli.with_environ(
        VIRTUAL_ENV=local.prefix,
        DOCKER_HOST=NO_ENGINE,
        IMAGESYNC_BASE=base,
        IMAGESYNC_PROFILE="none",
        IMAGESYNC_CACHE_DIR=cache,
    )


def document(layout: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout / "blobs" / "sha256" / digest[7:]).read_text())
    return found


def images_of(layout: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the manifests of an index by architecture."""
    entry = ImageLayout(layout).index().find(name)
    assert entry is not None
    manifests = document(layout, entry.digest)["manifests"]
    return {each["platform"]["architecture"]: document(layout, each["digest"]) for each in manifests}


def diff_ids(layout: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Return the diff IDs of an image's own layers by what their history says."""
    config = document(layout, manifest["config"]["digest"])
    pairs = zip(config["history"], config["rootfs"]["diff_ids"], strict=True)
    return {
        step["created_by"]: diff_id for step, diff_id in pairs if "imagesync" in step.get("created_by", "")
    }


def test_one_build_makes_an_index_whose_images_share_pure_packages_and_run(
    both_cli: CommandLine, tmp_path: Path
) -> None:
    built = both_cli("build", *BOTH, "--output", "oci:first:v1", "--metadata-file", "image.json")
    described = json.loads((both_cli.cwd / "image.json").read_text())
    assert described["reference"] == built.reference
    assert list(described["images"]) == ["linux/amd64", "linux/arm64"]
    first = both_cli.cwd / "first"
    amd64, arm64 = images_of(first, "v1").values()
    ours, theirs = diff_ids(first, amd64), diff_ids(first, arm64)
    pure = [step for step in ours if "toolz" in step or "own-code" in step]
    assert pure
    assert all(ours[step] == theirs[step] for step in pure)
    native = next(step for step in ours if "markupsafe" in step)
    assert ours[native] != theirs[native]
    # Each layer once, whichever image it is of: with two documents an image, and the index.
    layers = {layer["digest"] for manifest in (amd64, arm64) for layer in manifest["layers"]}
    assert len(list((first / "blobs" / "sha256").iterdir())) == len(layers) + 2 * 2 + 1

    # The order of the platforms doesn't count.
    both_cli("build", *BOTH[2:], *BOTH[:2], "--no-cache", "--output", "oci:second:v1")
    found = [ImageLayout(both_cli.cwd / name).index().find("v1") for name in ("first", "second")]
    assert found[0] is not None
    assert found[0] == found[1]

    subprocess.run(
        ["skopeo", "copy", "--override-arch=arm64", "oci:first:v1", "oci:one:arm64"],
        cwd=both_cli.cwd,
        check=True,
        capture_output=True,
    )
    root = unpacked(both_cli.cwd / "one", "arm64", tmp_path / "bundle")
    program = (
        "import platform, markupsafe, markupsafe._speedups, own_code, toolz;"
        "print(platform.machine(), markupsafe.escape('<'), toolz.__cached__.endswith('.pyc'))"
    )
    command = ["chroot", str(root), "/opt/env/bin/python", "-c", program]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["aarch64", "&lt;", "True"]


def test_index_is_pushed_after_its_images_and_found_by_others(both_cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with LocalRegistry(tmp_path / "registry", auth={}) as registry:
        pushing = both_cli.with_environ(IMAGESYNC_REPOSITORY=f"{registry.host}/team/env")
        reference = pushing("build", *BOTH, "--push").reference
        inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"]
        raw = subprocess.run([*inspect, "--raw"], check=True, capture_output=True).stdout
        platforms = [each["platform"] for each in json.loads(raw)["manifests"]]
        assert platforms == [
            {"architecture": "amd64", "os": "linux"},
            {"architecture": "arm64", "os": "linux", "variant": "v8"},
        ]
        arm64 = subprocess.run([*inspect, "--override-arch=arm64"], check=True, capture_output=True).stdout
        assert json.loads(arm64)["Architecture"] == "arm64"
        elsewhere = pushing.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "elsewhere")
        again = elsewhere("build", *BOTH, "--push", "--tag", f"{registry.host}/team/env:stable")
        assert again.reference == reference
        assert again.stderr.count("The registry has it already") == 2
        assert "Writing layers" not in again.stderr
        assert "layers of the image" not in again.stderr
        # Images are fetched for a name that isn't in their repository.
        elsewhere("build", *BOTH, "--push", "--tag", "mine:stable")
        pushed = elsewhere("push", "mine:stable", f"{registry.host}/other/env")
        assert pushed.stdout.strip().endswith(f"/other/env@sha256:{hashlib.sha256(raw).hexdigest()}")


# It notes that it builds, outside of the copy that it builds in.
BACKEND = """
import pathlib, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open({notes!r}, "a") as notes:
        notes.write("x")
    files = {{
        "amber.py": "",
        "amber-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: amber\\nVersion: 1.0\\n",
        "amber-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    record = "".join(path + ",,\\n" for path in (*files, "amber-1.0.dist-info/RECORD"))
    name = "amber-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as archive:
        for path, text in (*files.items(), ("amber-1.0.dist-info/RECORD", record)):
            archive.writestr(path, text)
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def test_sdist_of_python_alone_is_built_once_for_all_platforms_and_in_no_container(
    cli: CommandLine, tmp_path: Path
) -> None:
    layout, notes = ImageLayout(tmp_path / "bases"), tmp_path / "notes"
    images = [python_base(layout, platform_name=platform.full_name) for platform in PLATFORMS]
    layout.put_index(Index(tuple(image.descriptor for image in images)), name="both", images=images)
    with LocalIndex() as index:
        files = {
            # Static, so that no resolver builds it for them.
            "PKG-INFO": "Metadata-Version: 2.2\nName: amber\nVersion: 1.0\n",
            "pyproject.toml": PYPROJECT,
            "backend.py": BACKEND.format(notes=str(notes)),
        }
        index.add_file(*make_source_archive("amber", "1.0", files))
        environ = {"PIP_INDEX_URL": index.url, "UV_INDEX_URL": index.url}
        local = make_environment(tmp_path / "env", packages=["amber"], python=sys.executable, environ=environ)
        notes.unlink()
        built = cli.with_environ(
            VIRTUAL_ENV=local.prefix,
            PIP_INDEX_URL=index.url,
            DOCKER_HOST=NO_ENGINE,
            IMAGESYNC_BASE=f"oci:{layout.root}:both",
            IMAGESYNC_PROFILE="none",
            IMAGESYNC_CACHE_DIR=tmp_path / "cache",
        )("build", *BOTH)
    assert "can't be built" not in built.stderr
    assert notes.read_text() == "x"
