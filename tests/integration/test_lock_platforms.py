"""Plans and locks for another platform than the default one, without an engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment
from tests.integration.oci_environment import small_environment

MINOR = f"3.{sys.version_info.minor}"
NO_ENGINE = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return small_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def arm_cli(cli: CommandLine, local: LocalEnvironment) -> CommandLine:
    return cli.with_environ(
        VIRTUAL_ENV=local.prefix,
        DOCKER_HOST=NO_ENGINE,
        IMAGESYNC_PROFILE="none",
        IMAGESYNC_PYTHON="base",
        IMAGESYNC_TARGET_PYTHON=MINOR,
        IMAGESYNC_TARGET_GLIBC="2.36",
        IMAGESYNC_PLATFORMS="linux/arm64",
    )


def test_lock_for_arm64_has_its_wheels_and_is_checked_by_its_own_section(
    arm_cli: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "conda-lock.yml"
    lock = arm_cli("lock", "-o", path, "--format", "json").json()
    assert lock["target"]["platform"] == "linux/arm64"
    files = {package["name"]: package["artifact"]["filename"] for package in lock["packages"]}
    assert "aarch64" in files["markupsafe"]
    assert files["toolz"].endswith("-none-any.whl")
    assert [package["name"] for package in lock["vendored"]] == ["own-code"]
    assert "platform: linux-aarch64" in path.read_text("utf-8")
    assert arm_cli("lock", "--check", path).stdout == f"{path} fits the environment\n"
    other = arm_cli.with_environ(IMAGESYNC_PLATFORMS="").run("lock", "--check", path)
    assert other.returncode == 1
    assert "is locked for linux-aarch64, and the image is for linux-64" in other.stderr


def test_option_for_a_platform_wins_over_the_setting(arm_cli: CommandLine) -> None:
    assert arm_cli("plan", "--format", "json").json()["platform"] == "linux/arm64"
    assert (
        arm_cli("plan", "--platform", "linux/amd64", "--format", "json").json()["platform"] == "linux/amd64"
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("build",), "Images can only be made for linux/amd64, and IMAGESYNC_PLATFORMS names linux/arm64."),
        (("run", "true"), "Images can only be made for linux/amd64"),
        (("render", "-o", "context"), "Images can only be made for linux/amd64"),
        (("verify", "imagesync:1"), "Images can only be made for linux/amd64"),
        (("build", "--watch"), "Images can only be made for linux/amd64"),
        (("cluster", "config", "dask-operator"), "Images can only be made for linux/amd64"),
        (
            ("lock", "--platform", "linux/arm64", "--platform", "linux/amd64"),
            "This is for one platform at a time",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_no_platform_but_the_default_has_is_wrong_usage(
    arm_cli: CommandLine, command: tuple[str, ...], message: str
) -> None:
    finished = arm_cli.run(*command)
    assert finished.returncode == 2, finished.stderr
    assert message in finished.stderr


@pytest.mark.parametrize("command", [("diff", "local", "local"), ("lock", "--check", "pylock.toml")])
def test_comparison_is_for_one_platform_at_a_time(arm_cli: CommandLine, command: tuple[str, ...]) -> None:
    finished = arm_cli.with_environ(IMAGESYNC_PLATFORMS="linux/amd64,linux/arm64").run(*command)
    assert finished.returncode == 2
    assert "one platform at a time, and IMAGESYNC_PLATFORMS names linux/amd64 and" in finished.stderr
