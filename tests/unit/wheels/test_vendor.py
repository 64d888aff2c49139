"""Wheels that the image couldn't use are refused before anything is built of them, with what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.errors import WheelError
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.plan.make_plan import make_plan
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.build_indexes import BuildIndexes
from imagesync.wheels.sdists.sdist import build_sdists
from imagesync.wheels.sources.source_digests import digest_sources
from imagesync.wheels.vendor import vendor
from tests.environments import LocalEnvironment
from tests.indexes import make_wheel
from tests.indexes.sdists import make_source_archive

MakeEnvironment = Callable[..., LocalEnvironment]
MINOR = f"{sys.version_info.major}{sys.version_info.minor}"
LINUX = f"cp{MINOR}-cp{MINOR}-linux_x86_64"
# What a library for a newer glibc has in its table of strings.
LIBRARY = b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.38\0"
BACKEND = """
import pathlib
def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path(folder, FILENAME).write_bytes(CONTENT)
    return FILENAME
"""
PYPROJECT = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"


def target(minor: int) -> Target:
    return Target(LINUX_AMD64, ".".join(map(str, sys.version_info[:3])), (2, minor))


class Vendoring:
    """A package that was installed from a file, with a library for glibc 2.38."""

    def __init__(self, environment: LocalEnvironment, store: Store) -> None:
        self.environment = environment
        self.store = store

    def wheel(self, minor: int) -> StoredFile:
        """Return its wheel for an image with glibc 2.<minor>."""
        found = scan(python=self.environment.python, environ={})
        plan = make_plan(found, settings=Settings(profile="none"))
        contents = digest_sources(plan)
        (planned,) = (package for package in plan.packages if package.vendored)
        (made,) = vendor(
            [VendoredPackage(planned.name, planned.version, contents[planned.name], planned)],
            python=found.python,
            target=target(minor),
            store=self.store,
            indexes=BuildIndexes(IndexConfiguration()),
            progress=SilentProgress(),
        )
        return made.wheel


@pytest.fixture
def vendoring(environment: MakeEnvironment, tmp_path: Path) -> Vendoring:
    filename, data = make_wheel("native", "1.0", tag=LINUX, files={"native.so": LIBRARY})
    (tmp_path / filename).write_bytes(data)
    return Vendoring(environment(str(tmp_path / filename)), Store(tmp_path / "store"))


def test_repacked_library_for_a_newer_glibc_is_refused(vendoring: Vendoring) -> None:
    with pytest.raises(WheelError, match=r"native\.so needs glibc 2\.38, and the image has 2\.36") as caught:
        vendoring.wheel(36)
    assert "newer base image" in str(caught.value.hint)


def test_stored_wheel_is_checked_for_each_target(vendoring: Vendoring) -> None:
    assert vendoring.wheel(39).filename == f"native-1.0-{LINUX}.whl"
    with pytest.raises(WheelError, match=r"needs glibc 2\.38"):
        vendoring.wheel(36)


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        (LINUX, r"needs glibc 2\.38, and the image has 2\.36"),
        (f"cp{MINOR}-cp{MINOR}-macosx_11_0_arm64", "can't be used on linux/amd64"),
        (f"cp{MINOR}-cp{MINOR}-manylinux_2_38_x86_64", "can't be used on linux/amd64"),
        ("cp39-cp39-linux_x86_64", "can't be used on linux/amd64"),
    ],
)
def test_sdist_that_gives_a_wrong_wheel_is_refused(
    environment: MakeEnvironment, tmp_path: Path, tag: str, said: str
) -> None:
    wheel_name, wheel = make_wheel("native", "1.0", tag=tag, files={"native.so": LIBRARY})
    backend = BACKEND.replace("FILENAME", repr(wheel_name)).replace("CONTENT", repr(wheel))
    filename, data = make_source_archive(
        "native", "1.0", {"pyproject.toml": PYPROJECT, "backend.py": backend}
    )
    (tmp_path / filename).write_bytes(data)
    store = Store(tmp_path / "store")
    sdist = store.add_file(tmp_path / filename)
    package = LockedPackage("native", "1.0", Artifact(filename, "file:///x", sdist.digest))
    (built,) = build_sdists(
        [(package, sdist)],
        target=target(36),
        python=scan(python=environment().python, environ={}).python,
        store=store,
        indexes=BuildIndexes(IndexConfiguration(no_index=True)),
        progress=SilentProgress(),
    )
    assert isinstance(built, WheelError)
    assert re.search(said, str(built))
    assert "base image" in str(built.hint)
