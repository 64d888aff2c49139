"""What the environment hash covers, and what it doesn't."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.image_layout import image_tag
from imagesync.pipeline.environment_hash import BaseInputs, environment_hash, packages_hash
from imagesync.plan.loose_code import Code, CodeFile, CodePath
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Interpreter, Package, Source
from imagesync.settings.model import Settings

TOOLZ = PlannedPackage(
    name=canonicalize_name("toolz"),
    version="1.1.0",
    level=Level.COMPATIBLE,
    specifier="~=1.1.0",
    reason="Later fixes will do.",
    installed=Package(name=canonicalize_name("toolz"), version="1.1.0", location="/here/site-packages"),
)
MINE = PlannedPackage(
    name=canonicalize_name("mine"),
    version="0.1",
    level=Level.EXACT,
    specifier="==0.1",
    reason="Its wheel is made here.",
    source=Source(kind="directory", url="file:///here/mine", editable=True),
)
PLAN = Plan(
    python=Interpreter("cpython", "3.11.2", "linux-x86_64", "cp311", "/here/bin/python", "/here", "/usr"),
    packages=(MINE, TOOLZ),
)
LOOSE = Code(
    (CodePath("/here/lib", "/here/lib", (CodeFile("a.py", "/here/lib/a.py", 3),), "sha256:" + "4" * 64),)
)
BASE = BaseInputs("sha256:" + "2" * 64, "sha256:" + "3" * 64)
INPUTS: dict[str, Any] = {
    "source_digests": {MINE.name: "sha256:" + "1" * 64},
    "base": BASE,
    "settings": Settings(),
}


def digest(plan: Plan = PLAN, **changed: object) -> str:
    return environment_hash(plan, **{**INPUTS, **changed})


def test_environment_hash_is_a_sha256_digest() -> None:
    assert digest().startswith("sha256:")
    assert len(digest()) == len("sha256:") + 64
    assert digest() == "sha256:" + image_tag(digest()) + digest()[len("sha256:") + 16 :]


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, packages=(replace(TOOLZ, version="1.1.1"), MINE)),
        replace(PLAN, packages=(replace(TOOLZ, specifier="==1.1.0"), MINE)),
        replace(PLAN, packages=(replace(TOOLZ, extras=("fast",)), MINE)),
        replace(PLAN, packages=(MINE,)),
        replace(PLAN, python=replace(PLAN.python, version="3.11.3")),
        replace(PLAN, platform="linux/arm64"),
        replace(PLAN, strict=True),
        replace(PLAN, code=LOOSE),
    ],
)
def test_environment_hash_covers_the_plan(plan: Plan) -> None:
    assert digest(plan) != digest()


@pytest.mark.parametrize(
    "changed",
    [
        {"source_digests": {MINE.name: "sha256:" + "9" * 64}},
        {"base": BASE._replace(base_hash="sha256:" + "9" * 64)},
        {"base": BASE._replace(templates_digest="sha256:" + "9" * 64)},
        {"settings": Settings(allow_inconsistent=True)},
        {"settings": Settings(resolver="pip-tools")},
        {"settings": Settings(no_isolation=("Mine",))},
    ],
)
def test_environment_hash_covers_settings_base_and_templates(changed: dict[str, object]) -> None:
    assert digest(**changed) != digest()


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, packages=(TOOLZ, MINE)),
        replace(PLAN, packages=(replace(MINE, source=Source(kind="directory", url="file:///x")), TOOLZ)),
        replace(PLAN, packages=(MINE, replace(TOOLZ, reason="In other words."))),
        replace(PLAN, python=replace(PLAN.python, prefix="/there", executable="/there/bin/python")),
    ],
)
def test_environment_hash_ignores_order_and_paths(plan: Plan) -> None:
    assert digest(plan) == digest()


def test_environment_hash_covers_loose_code_but_not_its_place() -> None:
    (path,) = LOOSE.paths
    moved = replace(
        path, path="/there", root="/there", files=(CodeFile("a.py", "/there/a.py", 3, modified=9),)
    )
    assert digest(replace(PLAN, code=Code((moved,)))) == digest(replace(PLAN, code=LOOSE))
    edited = replace(path, digest="sha256:" + "5" * 64)
    assert digest(replace(PLAN, code=Code((edited,)))) != digest(replace(PLAN, code=LOOSE))
    # A path of which nothing goes in is as good as none.
    assert digest(replace(PLAN, code=Code((replace(path, files=()),)))) == digest()


def test_environment_hash_ignores_settings_of_this_machine() -> None:
    assert digest(settings=Settings(repository="elsewhere/env", base="named:otherwise")) == digest()
    # toolz comes from an index, and isn't built here.
    assert digest(settings=Settings(no_isolation=("toolz", "nothing"))) == digest()


def packages(plan: Plan = PLAN, **changed: object) -> str:
    inputs = {**INPUTS, "indexes": ("https://pypi.org/simple",), **changed}
    del inputs["source_digests"]
    return packages_hash(plan, **inputs)


def test_packages_hash_ignores_local_packages_and_code() -> None:
    edited = replace(PLAN, packages=(replace(MINE, version="0.2"), TOOLZ))
    assert packages(edited) == packages() == packages(replace(PLAN, packages=(TOOLZ,), code=LOOSE))


@pytest.mark.parametrize(
    "changed",
    [
        {"plan": replace(PLAN, packages=(MINE, replace(TOOLZ, version="1.1.1")))},
        {"plan": replace(PLAN, packages=(MINE,))},
        {"plan": replace(PLAN, strict=True)},
        {"plan": replace(PLAN, python=replace(PLAN.python, version="3.11.3"))},
        {"indexes": ("https://mirror.example/simple",)},
        {"base": BASE._replace(base_hash="sha256:" + "9" * 64)},
        {"base": BASE._replace(templates_digest="sha256:" + "9" * 64)},
        {"settings": Settings(resolver="pip-tools")},
    ],
)
def test_packages_hash_covers_what_the_packages_image_holds(changed: dict[str, Any]) -> None:
    assert packages(**changed) != packages()


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, packages=(MINE, replace(TOOLZ, installed=None))),
        replace(PLAN, packages=(MINE, replace(TOOLZ, extras=("fast",)))),
        replace(PLAN, python=replace(PLAN.python, platform="macosx-14.0-arm64")),
    ],
)
def test_packages_hash_covers_local_packages_where_versions_are_resolved(plan: Plan) -> None:
    needy = Package(name=MINE.name, version="0.1", requires=("toolz>=1",))
    edited = replace(plan, packages=(replace(MINE, installed=needy), plan.packages[1]))
    assert packages(edited) != packages(plan)
