"""Conda environments locked for linux/arm64: solved elsewhere, read off the records on such a machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from imagesync.core.names import Level
from imagesync.errors import DeviationError, UnsolvableError
from tests.commands import CommandLine
from tests.conftest import MakeCondaEnvironment
from tests.indexes import LocalIndex
from tests.integration.test_lock_conda import MakeBench, bench, unpack

__all__ = ["bench"]
ARM64 = ("linux/arm64",)


def test_amd64_machine_gets_its_versions_for_arm64_and_the_nearest_named(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    at = bench(conda_environment("python", "numpy", "toolz", "trellis=1.4.1", "lattice"), platforms=ARM64)
    plan = at.plan()
    lock = at.lock()
    assert {package.subdir for package in lock.conda} == {"linux-aarch64", "noarch"}
    assert all(package.artifact.url.split("/")[-2] in ("linux-aarch64", "noarch") for package in lock.conda)
    versions = {package.name: package.version for package in lock.conda}
    same = {p.name: p.version for p in plan.conda if p.name in ("python", "numpy", "toolz", "tzdata")}
    assert same.items() <= versions.items()
    assert len(same) == 4
    found = {each.name: each for each in lock.deviations}
    assert {name: found[name].locked for name in ("trellis", "lattice")} == {
        "trellis": "1.4.3",
        "lattice": "",
    }
    assert "has no 1.4.1 for linux-aarch64; it has 1.4.3, 1.5.0" in found["trellis"].reason
    assert (found["lattice"].level, found["lattice"].requested) == (Level.PLATFORM_ONLY, True)
    assert "linux-aarch64" in found["lattice"].reason
    with pytest.raises(DeviationError, match=r"trellis 1\.4\.1 would become 1\.4\.3"):
        bench(at.environment, platforms=ARM64, strict=True).lock()


def test_installed_packages_are_the_lock_on_an_arm64_machine(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    at = bench(conda_environment("python", "numpy", "trellis", platform="linux-aarch64"), platforms=ARM64)
    lock = at.lock()
    records = [json.loads(path.read_text()) for path in at.environment.records.glob("*.json")]
    assert {(p.name, p.build, p.artifact.digest) for p in lock.conda} == {
        (record["name"], record["build"], f"sha256:{record['sha256']}") for record in records
    }
    assert lock.deviations == ()


def test_glibc_of_the_image_counts_for_arm64_and_not_that_of_this_machine(
    conda_environment: MakeCondaEnvironment, bench: MakeBench
) -> None:
    at = bench(conda_environment("python", "toolz"), platforms=ARM64)
    with pytest.raises(UnsolvableError, match="__glibc"):
        at.lock(glibc=(2, 12))


def test_mixed_environment_is_locked_for_both_platforms_in_one_file(
    conda_environment: MakeCondaEnvironment, cli: CommandLine, tmp_path: Path
) -> None:
    environment = conda_environment("python", "numpy", "trellis=1.4.1")
    digits = "".join(map(str, sys.version_info[:2]))
    tags = {machine: f"cp{digits}-cp{digits}-manylinux_2_17_{machine}" for machine in ("x86_64", "aarch64")}
    unpack(environment, "fern", "1.0.0", requires=["numpy>=1.20"], tag=tags["x86_64"])
    path = tmp_path / "conda-lock.yml"
    with LocalIndex() as index:
        index.add_wheel("fern", "1.0.0", requires=["numpy>=1.20"], tag=tags["x86_64"])
        index.add_wheel("fern", "1.0.1", requires=["numpy>=1.20"], tag=tags["aarch64"])
        at = cli.with_environ(
            CONDA_PREFIX=environment.prefix,
            DOCKER_HOST="tcp://127.0.0.1:1",
            IMAGESYNC_PROFILE="none",
            IMAGESYNC_PLATFORMS="linux/amd64,linux/arm64",
            PIP_CONFIG_FILE="/dev/null",
            PIP_INDEX_URL=index.url,
        )
        printed = at("lock", "-o", path).stdout
    assert printed.startswith("linux/arm64: 2 deviations from the local environment\n")
    assert "  fern     1.0.0  1.0.1 " in printed
    assert "  trellis  1.4.1  1.4.3 " in printed
    found: dict[str, dict[str, str]] = {subdir: {} for subdir in ("linux-64", "linux-aarch64")}
    for entry in yaml.safe_load(path.read_text("utf-8"))["package"]:
        found[entry["platform"]][entry["name"]] = entry["version"]
    assert (found["linux-64"]["trellis"], found["linux-64"]["fern"]) == ("1.4.1", "1.0.0")
    assert (found["linux-aarch64"]["trellis"], found["linux-aarch64"]["fern"]) == ("1.4.3", "1.0.1")
    assert found["linux-64"]["numpy"] == found["linux-aarch64"]["numpy"]
    assert at("lock", "--check", path).stdout == f"{path} fits the environment\n"
