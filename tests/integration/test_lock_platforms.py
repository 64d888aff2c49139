"""Plans and locks for another platform than the default one, without an engine."""

from __future__ import annotations

import json
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


def test_option_for_a_platform_wins_over_the_setting(arm_cli: CommandLine) -> None:
    assert arm_cli("plan", "--format", "json").json()["platform"] == "linux/arm64"
    assert (
        arm_cli("plan", "--platform", "linux/amd64", "--format", "json").json()["platform"] == "linux/amd64"
    )


def test_explicit_file_for_two_platforms_is_wrong_usage(arm_cli: CommandLine) -> None:
    platforms = ("--platform", "linux/arm64", "--platform", "linux/amd64")
    finished = arm_cli.run("lock", *platforms, "--export", "explicit")
    assert finished.returncode == 2, finished.stderr
    assert "An explicit file is for one platform, and not for linux/arm64 and linux/amd64." in finished.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("render", "-o", "context"),
        ("verify", "imagesync:1"),
    ],
)
def test_rendering_and_verifying_are_for_one_platform_at_a_time(
    arm_cli: CommandLine, command: tuple[str, ...]
) -> None:
    finished = arm_cli.with_environ(IMAGESYNC_PLATFORMS="linux/amd64,linux/arm64").run(*command)
    assert finished.returncode == 2
    assert "one platform at a time, and IMAGESYNC_PLATFORMS names linux/amd64 and" in finished.stderr


def test_two_platforms_are_locked_into_one_file_and_each_is_checked_by_its_section(
    arm_cli: CommandLine, local: LocalEnvironment, tmp_path: Path
) -> None:
    both = arm_cli.with_environ(IMAGESYNC_PLATFORMS="linux/arm64,linux/amd64")
    path = tmp_path / "conda-lock.yml"
    locks = both("lock", "-o", path, "--format", "json").json()["platforms"]
    assert list(locks) == ["linux/arm64", "linux/amd64"]
    files = [{package["artifact"]["filename"] for package in lock["packages"]} for lock in locks.values()]
    assert {name.split("-")[0] for name in files[0] & files[1]} == {"toolz"}
    markupsafe = sorted(name.lower() for name in files[0] ^ files[1])
    assert [name.startswith("markupsafe-") for name in markupsafe] == [True, True]
    assert ["aarch64" in name for name in markupsafe] == [True, False]
    assert [each["content"] for each in locks["linux/arm64"]["vendored"]] == [
        each["content"] for each in locks["linux/amd64"]["vendored"]
    ]
    before = path.read_bytes()
    only_amd64 = arm_cli.with_environ(IMAGESYNC_PLATFORMS="")
    finished = only_amd64("lock", "-o", path)
    assert "keeps its section for linux/arm64, which isn't locked again" in finished.stderr
    assert path.read_bytes() == before
    for command in (both, arm_cli, only_amd64):
        assert command("lock", "--check", path).stdout == f"{path} fits the environment\n"
    diff = both("diff", "local", path, "--platform", "linux/arm64").stdout
    assert f"by build: local is linux-x86_64, {path} is linux-aarch64.\n" in diff
    assert "Compared by version" not in both("diff", "local", path).stdout
    (metadata,) = local.site_packages.glob("toolz-*.dist-info/METADATA")
    text = metadata.read_text("utf-8")
    try:
        metadata.write_text(text.replace("Version: 1.0.0", "Version: 1.0.1"), "utf-8")
        moved = both.run("lock", "--check", path, "--format", "json")
        text_form = both.run("lock", "--check", path)
    finally:
        metadata.write_text(text, "utf-8")
    assert moved.returncode == text_form.returncode == 1
    for differences in json.loads(moved.stdout)["platforms"].values():
        assert [(each["name"], each["here"]) for each in differences] == [("toolz", "1.0.1")]
    assert text_form.stdout.count("toolz") == 1


def test_plans_of_two_platforms_are_keyed_by_platform(arm_cli: CommandLine) -> None:
    both = arm_cli.with_environ(IMAGESYNC_PLATFORMS="linux/arm64,linux/amd64")
    plans = both("plan", "--format", "json").json()["platforms"]
    assert {name: plan["platform"] for name, plan in plans.items()} == {
        "linux/arm64": "linux/arm64",
        "linux/amd64": "linux/amd64",
    }
    refused = both.run("plan", "--fail-on", "any")
    assert refused.returncode == 1
    assert "error: The image could differ in: markupsafe, toolz.\n" in refused.stderr
