"""What is known of a base image that no engine has, who says so, and what is made of it without an engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import BaseImageError, UsageError
from imagesync.image.base import target_of
from imagesync.image.known_base import facts_of, known_base, refuse_contradiction, registry_facts, remember
from imagesync.image_layout import BaseImage, Label
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Interpreter
from imagesync.settings.bases import base_hint, well_known
from imagesync.settings.model import Settings
from tests.commands import CommandLine
from tests.conftest import MakeEnvironment
from tests.indexes import LocalIndex
from tests.progress import RecordedLines

# Of the Python that runs these tests, and with it the environments that they make.
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = f"python:{HERE}-slim-bookworm"
NOBODY = "127.0.0.1:1"
UNREACHABLE = f"{NOBODY}/team/base:1"


@pytest.mark.parametrize(
    ("reference", "python", "glibc"),
    [
        ("ubuntu:22.04", "3.10.12", (2, 35)),
        ("ubuntu:24.04", "3.12.3", (2, 39)),
        ("docker.io/library/ubuntu:noble", "3.12.3", (2, 39)),
        ("ubuntu:26.04", "3.14.4", (2, 43)),
        ("debian:bookworm", "3.11.2", (2, 36)),
        ("debian:12-slim", "3.11.2", (2, 36)),
        ("debian:trixie-slim", "3.13.5", (2, 41)),
        ("python:3.12", "3.12", (2, 41)),
        ("python:3.10-slim", "3.10", (2, 41)),
        ("python:3.13.1-slim-bookworm", "3.13.1", (2, 36)),
        ("python:3.11-bullseye", "3.11", (2, 31)),
        # Of which Debian depends on the day that it was built.
        ("python:3.12.1-slim", "3.12.1", None),
    ],
)
def test_well_known_image_has_this_python_and_glibc(
    reference: str, python: str, glibc: tuple[int, int] | None
) -> None:
    known = well_known(reference)
    assert known is not None
    assert (known.python, known.glibc) == (python, glibc)


@pytest.mark.parametrize(
    "reference",
    [
        "python:3.12-alpine",
        "python:3",
        "ubuntu",
        "ubuntu:20.04",
        "mirror.example.com/ubuntu:24.04",
        "me/debian:12",
    ],
)
def test_other_image_is_not_guessed_at(reference: str) -> None:
    assert well_known(reference) is None


def test_old_python_gets_no_base_image_that_would_be_refused() -> None:
    assert "--base" not in base_hint("3.8")
    assert "IMAGESYNC_PYTHON=conda" in base_hint("3.8")
    assert "--base ubuntu:22.04, or --base python:3.10-slim" in base_hint("3.10")


def config(
    *,
    env: Sequence[str] = (),
    labels: dict[str, str] | None = None,
    steps: Sequence[str] = (),
    layers: int = 1,
) -> dict[str, Any]:
    return {
        "config": {"Env": list(env), "Labels": labels},
        "history": [{"created_by": step} for step in steps],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:0"] * layers},
    }


DEBIAN = "# debian.sh --arch 'amd64' out/ 'trixie' '@1789689600'"
OFFICIAL = (
    "PATH=/usr/local/bin",
    "GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305",
    "PYTHON_VERSION=3.12.9",
)
UBUNTU = {"org.opencontainers.image.ref.name": "ubuntu", "org.opencontainers.image.version": "24.04"}


@pytest.mark.parametrize(
    ("configuration", "python", "glibc"),
    [
        (config(env=OFFICIAL, steps=[DEBIAN, "ENV PYTHON_VERSION=3.12.9"], layers=4), "3.12.9", (2, 41)),
        (config(steps=[DEBIAN]), "3.13.5", (2, 41)),
        (config(labels=UBUNTU), "3.12.3", (2, 39)),
        # What was put on it may have brought another Python; the C library stays.
        (config(labels=UBUNTU, layers=3), "", (2, 39)),
        # A variable of that name means what its maker wants, where it isn't the official image's.
        (config(env=["PYTHON_VERSION=3.12.9"], steps=[DEBIAN], layers=4), "", (2, 41)),
        (config(env=["PYTHON_VERSION=3.9"]), "", None),
        (config(labels={Label.BASE: "{"}), "", None),
        (
            config(
                labels={
                    **UBUNTU,
                    Label.BASE: json.dumps(
                        {"version": "3.11.2", "libc": "glibc 2.36", "executable": "/usr/bin/python3.11"}
                    ),
                }
            ),
            "3.11.2",
            (2, 36),
        ),
        ({}, "", None),
    ],
)
def test_registry_says_no_more_than_its_configuration_does(
    configuration: dict[str, Any], python: str, glibc: tuple[int, int] | None
) -> None:
    found = list(registry_facts(configuration))
    assert next((facts.python for facts in found if facts.python), "") == python
    assert next((facts.glibc for facts in found if facts.glibc), None) == glibc


def made(root: str = UNREACHABLE, python: str = "3.11.2") -> BaseImage:
    digest = "sha256:" + "a" * 64
    return BaseImage(
        "imagesync-base:1", root, digest, "sha256:id", python, "/usr/bin/python3.11", (2, 36), "sha256:b"
    )


def known(cache: Path, progress: RecordedLines | None = None, **settings: object) -> BaseImage | None:
    """Return what is known where there is no engine, and no registry answers."""
    given = Settings(**{"base": UNREACHABLE, **settings})  # type: ignore[arg-type]
    return known_base(given, cache=cache, progress=progress or RecordedLines(), problem="No engine.")


def test_flags_are_enough_and_nobody_is_asked(tmp_path: Path) -> None:
    said = RecordedLines()
    base = known(tmp_path, said, target_python="3.12", target_glibc="2.38")
    assert base is not None
    assert (base.python_version, base.glibc, base.digest, base.pinned) == ("3.12", (2, 38), "", "")
    assert said.lines == [f"{UNREACHABLE}: Python 3.12, glibc 2.38 (as you say)"]


def test_flag_and_table_add_up(tmp_path: Path) -> None:
    said = RecordedLines()
    base = known(tmp_path, said, base="debian@sha256:" + "c" * 64, target_python="3.11", target_glibc="2.36")
    assert base is not None
    base = known(tmp_path, said, base="python:3.12.1-slim", target_glibc="2.36", target_python="3.12")
    assert base is not None
    assert base.python_version == "3.12.1"
    assert base.python_executable == "/usr/local/bin/python3"


def test_remembered_image_needs_no_engine_again(tmp_path: Path) -> None:
    remember(tmp_path, made(), LINUX_AMD64)
    said = RecordedLines()
    base = known(tmp_path, said)
    assert base is not None
    assert (base.python_version, base.glibc, base.python_executable) == (
        "3.11.2",
        (2, 36),
        "/usr/bin/python3.11",
    )
    assert said.lines == [f"{UNREACHABLE}: Python 3.11.2, glibc 2.36 (what an engine said of it before)"]


def test_remembered_image_is_of_its_platform(tmp_path: Path) -> None:
    remember(tmp_path, made(), LINUX_AMD64)
    with pytest.raises(BaseImageError, match=r"No engine\."):
        known(tmp_path, platforms=("linux/arm64",))


def test_unknown_image_names_each_reason_and_the_flags(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError) as caught:
        known(tmp_path, target_python="3.12")
    assert "No engine." in caught.value.message
    assert NOBODY in caught.value.message
    assert "--target-glibc" in str(caught.value.hint)


def test_python_may_stay_unknown_for_an_environment_that_brings_its_own(tmp_path: Path) -> None:
    base = known(tmp_path, target_glibc="2.28")
    assert base is not None
    assert (base.python_version, base.python_executable) == ("", "python3")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_python": "3.12"}, "has Python 3.11.2 .the engine., and --target-python says 3.12"),
        ({"target_python": "3.11.9"}, "--target-python says 3.11.9"),
        ({"target_glibc": "2.39"}, "has glibc 2.36 .the engine., and --target-glibc says 2.39"),
    ],
)
def test_flag_that_contradicts_what_is_known_is_refused(settings: dict[str, str], message: str) -> None:
    given = Settings(base=UNREACHABLE, **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        refuse_contradiction(given, facts_of(made()))


@pytest.mark.parametrize(
    "settings", [{"target_python": "3.11"}, {"target_python": "3.11.2", "target_glibc": "2.36"}]
)
def test_flag_that_says_the_same_will_do(settings: dict[str, str]) -> None:
    refuse_contradiction(Settings(**settings), facts_of(made()))  # type: ignore[arg-type]


def test_flag_is_held_against_memory_and_table(tmp_path: Path) -> None:
    remember(tmp_path, made(), LINUX_AMD64)
    with pytest.raises(UsageError, match="what an engine said of it before"):
        known(tmp_path, target_python="3.11", target_glibc="2.31")
    with pytest.raises(UsageError, match=r"table of well-known images: Ubuntu 24\.04"):
        known(tmp_path, base="ubuntu:24.04", target_python="3.11", target_glibc="2.39")
    # A distribution may have gone on to another patch level.
    base = known(tmp_path, base="ubuntu:24.04", target_python="3.12.4", target_glibc="2.39")
    assert base is not None
    assert base.python_version == "3.12.4"


def test_unknown_patch_level_is_taken_to_be_the_local_one() -> None:
    python = Interpreter("cpython", "3.12.7", "linux-x86_64", "cp312", "/python", "/env", "/usr")
    assert target_of(Plan(python, ()), made(python="3.12")).python_version == "3.12.7"
    assert target_of(Plan(python, ()), made(python="3.12.3")).python_version == "3.12.3"


@pytest.fixture
def index() -> Any:
    with LocalIndex() as running:
        running.add_wheel("alder", "1.0")
        yield running


@pytest.fixture
def offline(cli: CommandLine, environment: MakeEnvironment, index: LocalIndex) -> CommandLine:
    """Return a command line with an environment, an index, and neither an engine nor a network."""
    local = environment("alder==1.0", environ={**os.environ, "UV_DEFAULT_INDEX": index.url})
    return cli.with_environ(
        VIRTUAL_ENV=local.prefix,
        DOCKER_HOST=f"tcp://{NOBODY}",
        PIP_INDEX_URL=index.url,
        HTTPS_PROXY=f"http://{NOBODY}",
        NO_PROXY="127.0.0.1",
        IMAGESYNC_BASE=BASE,
    )


def test_every_form_of_a_lock_is_written_without_an_engine(offline: CommandLine) -> None:
    document = offline("lock", "--format", "json")
    assert document.json()["target"]["glibc"] == [2, 36]
    assert "Going on without an engine: No container engine answers" in document.stderr
    table = "imagesync's table of well-known images: Debian bookworm"
    assert f"{BASE}: Python {HERE}, glibc 2.36 ({table})" in document.stderr
    assert offline("lock", "--format", "json").stdout == document.stdout
    offline("lock", "-o", "pylock.toml")
    assert "alder" in (offline.cwd / "pylock.toml").read_text()
    assert "alder==1.0" in offline("lock", "--export", "requirements").stdout


def test_context_is_rendered_without_an_engine(offline: CommandLine) -> None:
    offline("render", "-o", "context")
    dockerfile = (offline.cwd / "context" / "Dockerfile").read_text()
    assert f"ARG BASE={BASE}\nFROM ${{BASE}} AS root\n" in dockerfile
    assert "base.digest" not in dockerfile
    assert (offline.cwd / "context" / "wheels" / "index" / "alder-1.0-py3-none-any.whl").is_file()


def test_build_without_an_engine_says_what_can_be_done_without(offline: CommandLine) -> None:
    finished = offline.run("build", "--builder", "docker")
    assert finished.returncode == 1
    assert "A build needs an engine" in finished.stderr
    assert "imagesync render -o DIR" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_build_goes_on_without_an_engine_as_far_as_its_base_can_be_had(offline: CommandLine) -> None:
    finished = offline.run("build", "--base", "oci:missing")
    assert finished.returncode == 1
    assert "The OCI layout missing doesn't exist." in finished.stderr
    finished = offline.run("build", "--base", UNREACHABLE)
    assert finished.returncode == 1
    assert "Building without a container engine: No container engine answers" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_flags_stand_in_for_an_unknown_image(offline: CommandLine) -> None:
    refused = offline.run("lock", "--base", UNREACHABLE)
    assert refused.returncode == 1
    assert "--target-python" in refused.stderr
    flags = ("--base", UNREACHABLE, "--target-python", HERE, "--target-glibc", "2.34")
    assert offline("lock", *flags, "--format", "json").json()["target"]["glibc"] == [2, 34]
    contradicting = offline.run("lock", "--target-python", "3.9", "--target-glibc", "2.36")
    assert contradicting.returncode == 2
    assert "--target-python says 3.9" in contradicting.stderr
    assert offline.run("lock", "--target-glibc", "new").returncode == 2
