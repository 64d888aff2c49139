"""What a base image is identified by, and whether its interpreter fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.engine.lookup import root_digest
from imagesync.errors import BaseImageError, UsageError
from imagesync.image.base import _advice, base_hash, check_apt, check_interpreter
from imagesync.image_layout import BaseImage
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Interpreter


def base(version: str) -> BaseImage:
    return BaseImage(
        reference="imagesync-base:0123456789abcdef",
        root="ubuntu:24.04",
        digest="sha256:" + "a" * 64,
        image_id="sha256:" + "b" * 64,
        python_version=version,
        python_executable="/usr/bin/python3",
        glibc=(2, 39),
        base_hash="sha256:" + "c" * 64,
    )


def plan(version: str) -> Plan:
    interpreter = Interpreter("cpython", version, "linux-x86_64", "cp3", "/python", "/env", "/usr")
    python = PlannedPackage(canonicalize_name("python"), version, Level.CRITICAL, f"=={version}", "profile")
    return Plan(interpreter, (python,))


@pytest.mark.parametrize("version", ["3.12.3", "3.12.1"])
def test_interpreter_of_the_same_feature_version_is_accepted(version: str) -> None:
    check_interpreter(base("3.12.3"), plan(version))


@pytest.mark.parametrize(
    ("version", "bases"),
    [
        ("3.10.13", ["ubuntu:22.04", "python:3.10-slim"]),
        ("3.11.7", ["debian:bookworm-slim", "python:3.11-slim"]),
        ("3.13.0", ["debian:trixie-slim", "python:3.13-slim"]),
        ("3.14.1", ["python:3.14-slim"]),
    ],
)
def test_interpreter_of_another_feature_version_is_refused(version: str, bases: list[str]) -> None:
    with pytest.raises(BaseImageError, match=rf"Python {version}, and .* has 3\.12\.3") as caught:
        check_interpreter(base("3.12.3"), plan(version))
    assert [f"--base {name}" in str(caught.value.hint) for name in bases] == [True] * len(bases)


def test_python_older_than_a_base_image_needs_is_refused() -> None:
    with pytest.raises(BaseImageError, match=r"has Python 3\.8\.10, which is older") as caught:
        check_interpreter(base("3.8.10"), plan("3.8.10"))
    assert "IMAGESYNC_PYTHON=conda" in str(caught.value.hint)
    with pytest.raises(BaseImageError, match=r"has Python 3\.9, which is older") as caught:
        check_interpreter(base("3.9"), replace(plan("3.8.10"), interpreter="conda"))
    assert caught.value.hint == "Name a base image with Python 3.10 or later, such as --base ubuntu:24.04"
    check_interpreter(base(""), replace(plan("3.8.10"), interpreter="conda"))


def test_base_hash_depends_on_each_input_and_on_no_order() -> None:
    same = base_hash("sha256:1", "FROM x", ["b", "a", "a"])
    assert same == base_hash("sha256:1", "FROM x", ("a", "b"))
    others = {
        base_hash("sha256:2", "FROM x", ("a", "b")),
        base_hash("sha256:1", "FROM y", ("a", "b")),
        base_hash("sha256:1", "FROM x", ("a",)),
        base_hash("sha256:1", "FROM x", ("ab",)),
        base_hash("sha256:1", "FROM x", ("a", "b"), toolchain=True),
    }
    assert len(others | {same}) == 6


@pytest.mark.parametrize(
    ("reference", "digests", "expected"),
    [
        ("ubuntu:24.04", ["ubuntu@sha256:a"], "sha256:a"),
        ("ubuntu", ["docker.io/library/ubuntu@sha256:a"], "sha256:a"),
        ("docker.io/library/ubuntu:24.04", ["ubuntu@sha256:a", "alpha.example/ubuntu@sha256:0"], "sha256:a"),
        ("reg.example:5000/team/base:1", ["reg.example:5000/team/base@sha256:c"], "sha256:c"),
        ("reg.example:5000/team/base", ["other@sha256:b", "reg.example:5000/team/base@sha256:c"], "sha256:c"),
        ("renamed:1", ["ubuntu@sha256:b"], "sha256:b"),
        ("ubuntu@sha256:a", ["ubuntu@sha256:a"], "sha256:a"),
        ("localhost/debian:1", [], "sha256:id"),
    ],
)
def test_root_digest_is_that_of_the_named_repository(
    reference: str, digests: list[str], expected: str
) -> None:
    assert root_digest("sha256:id", digests, reference) == expected
    assert root_digest("sha256:id", digests[::-1], reference) == expected


def test_apt_packages_are_sorted_without_duplicates() -> None:
    assert check_apt(("libgl1", "curl", "curl")) == ("curl", "libgl1")
    assert check_apt(("g++", "libstdc++6:amd64", "curl=7.88.1-10+deb12u8", "git/bookworm-backports")) != ()


@pytest.mark.parametrize(
    "name", ["", "curl; rm -rf /", "--reinstall", "a b", "Curl", "git-", "$(id)", "curl\n", "c"]
)
def test_apt_package_with_an_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="system package"):
        check_apt((name,))


def test_hint_for_a_base_of_the_users_own_names_its_dockerfile(tmp_path: Path) -> None:
    log = "/bin/sh: 1: cannot create /etc/own: Permission denied"
    assert "with --base" in _advice(log, tmp_path)
    (tmp_path / "Dockerfile.base").write_text("ARG BASE\nFROM $BASE\nRUN echo own > /etc/own\n")
    assert f"Correct {tmp_path / 'Dockerfile.base'}" in _advice(log, tmp_path)
