"""The target platform is one value: its other names stand in one module, and hashes keep their values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import imagesync
from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64, Platform, runs_on
from imagesync.image.base import base_hash, base_identity
from imagesync.image.templates import dockerfile_base
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.lock.wheel_tags import target_tags
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_hash import BaseInputs, lock_content
from imagesync.pipeline.wheel_container import missing_container
from imagesync.plan.checks.sources import unbuildable_wheels
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import Plan
from imagesync.plan.requirements import target_markers
from imagesync.scan.environment import Environment, Source
from imagesync.settings.model import Settings
from tests.plans import PYTHON, distribution

SOURCE = Path(imagesync.__file__).parent
NAME = re.compile(r"linux[-_/]?64|amd64|x86[-_]?64|aarch64|arm64", re.IGNORECASE)
# They name the machines that an environment or a wheel may be of, and the image isn't asked about.
OF_LOCAL_MACHINES = ("scan/environment_files.py", "scan/prefix.py", "lock/conda/preferences.py")
DIGEST = "sha256:" + "1" * 64
# Of the lock in the test, by the release before there was a choice of platforms.
LOCK = "sha256:f2f5cf74fb47d62990dbe3c043ba06da5cfb11f94802a4ce5b311d63ecfe6c6e"
ENVIRONMENT = "sha256:fb18ca81c0e221f8f6ee45f4c3112a6d42bb5101e1ef9dec201b82f30376aa65"


def literals(path: Path) -> Iterator[ast.Constant]:
    """Yield the texts of a module that may name a platform, without docstrings."""
    source = path.read_text("utf-8")
    if not NAME.search(source):
        return
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def test_platform_is_named_in_one_module() -> None:
    found = [
        f"{name}:{node.lineno} {node.value!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        if (name := path.relative_to(SOURCE).as_posix()) not in (*OF_LOCAL_MACHINES, "core/platforms.py")
        for node in literals(path)
        if NAME.search(str(node.value))
    ]
    assert found == []


def test_templates_name_no_platform() -> None:
    root = SOURCE.parent
    templates = [path for path in (root / "templates").rglob("*") if path.is_file()]
    found = [
        path.name for path in (root / "Dockerfile.base", *templates) if NAME.search(path.read_text("utf-8"))
    ]
    assert templates
    assert found == []


@pytest.mark.parametrize("platform", [LINUX_AMD64, LINUX_ARM64], ids=str)
def test_names_of_a_platform_follow_from_it(platform: Platform) -> None:
    tags = [str(tag) for tag in target_tags(Target(platform, "3.11.2", (2, 36)))]
    assert tags[0] == f"cp311-cp311-manylinux_2_36_{platform.machine}"
    assert {tag.rpartition("-")[2].partition(platform.machine)[1] for tag in tags} == {platform.machine, ""}
    assert (f"cp311-cp311-manylinux2010_{platform.machine}" in tags) == (platform is LINUX_AMD64)
    assert target_markers(PYTHON, platform)["platform_machine"] == platform.machine
    assert runs_on(platform, local=platform.sysconfig_name, libc="glibc 2.36")


def test_hashes_of_the_default_platform_stay_as_they_were() -> None:
    artifact = Artifact(
        "toolz-1.0.0-py3-none-any.whl", "https://pypi.org/toolz-1.0.0-py3-none-any.whl", DIGEST
    )
    package = LockedPackage(canonicalize_name("toolz"), "1.0.0", artifact)
    lock = Lock(Target(LINUX_AMD64, "3.12.3", (2, 39)), (package,))
    base = BaseInputs("sha256:base", "sha256:templates")
    content = lock_content(lock, wheels={}, code="", base=base, options="", only_interpreter=False)
    assert (lock.digest, content.digest) == (LOCK, ENVIRONMENT)
    assert Lock.from_dict(lock.to_dict()) == lock
    of_base = base_hash(DIGEST, dockerfile_base(None), ())
    assert base_identity(DIGEST, Settings()) == of_base
    assert base_identity(DIGEST, Settings(platforms=("linux/arm64",))) != of_base


def plan_of_local_package(settings: Settings, *, tag: str, local: str) -> Plan:
    """Return the plan of a package that was installed from a folder on a machine of the platform *local*."""
    source = Source("directory", "file:///mine", editable=True)
    package = distribution("mine==1.0", source=source, tags=(tag,))
    environment = Environment(replace(PYTHON, platform=local, libc="glibc 2.36"), (package,))
    return make_plan(environment, settings=settings)


@pytest.mark.parametrize(
    ("platform", "tag", "local", "builder", "problem"),
    [
        (LINUX_ARM64, "cp311-cp311-linux_x86_64", "linux-x86_64", "oci", 'builder = "oci"'),
        (LINUX_ARM64, "cp311-cp311-linux_x86_64", "linux-x86_64", "auto", "No container engine answers"),
        (LINUX_AMD64, "cp311-cp311-macosx_11_0_arm64", "macosx-11.0-arm64", "docker", "No container engine"),
        (LINUX_ARM64, "py3-none-any", "linux-x86_64", "auto", ""),
        (LINUX_ARM64, "cp311-cp311-linux_aarch64", "linux-aarch64", "auto", ""),
    ],
)
def test_plan_names_local_packages_whose_wheel_nobody_here_can_build(
    platform: Platform, tag: str, local: str, builder: str, problem: str, tmp_path: Path
) -> None:
    settings = Settings(profile="none", platforms=(platform.name,), builder=builder)
    plan = plan_of_local_package(settings, tag=tag, local=local)
    assert plan.platform == platform
    context = Context(settings, {"DOCKER_HOST": "tcp://127.0.0.1:1", "IMAGESYNC_CACHE_DIR": str(tmp_path)})
    found = list(missing_container(plan, context))
    assert [finding.code for finding in found] == (["wheel-not-buildable"] if problem else [])
    assert all(problem in finding.message for finding in found)


@pytest.mark.parametrize(("gone", "found"), [(False, []), (True, ["wheel-not-buildable"])])
def test_wheel_whose_sources_are_gone_is_built_in_no_container(gone: bool, found: list[str]) -> None:
    settings = Settings(profile="none", platforms=("linux/arm64",))
    plan = plan_of_local_package(settings, tag="cp311-cp311-linux_x86_64", local="linux-x86_64")
    plan = replace(plan, packages=tuple(replace(each, as_installed=gone) for each in plan.packages))
    assert [each.code for each in unbuildable_wheels(plan, problem="", remedy="")] == found
