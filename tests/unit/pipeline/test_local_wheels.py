"""What is remembered of the wheels of a build."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.lock.lock import Lock, Target
from imagesync.lock.locked_packages import VendoredPackage
from imagesync.pipeline.context import Context
from imagesync.pipeline.local_wheels import wheel_contents
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.scan.environment import Interpreter, Package, Source
from imagesync.settings.model import Settings
from imagesync.store.store import StoredFile
from imagesync.wheels.wheel_contents import WheelContent, content_digest, recall_contents

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
MINE = canonicalize_name("mine")
SOURCES = "sha256:" + "1" * 64
FROM_FOLDER = PlannedPackage(
    *(MINE, "1.0", Level.EXACT, "==1.0", ""),
    source=Source("directory", "file:///home/me/mine", editable=True),
    installed=Package(MINE, "1.0", location="/env/site-packages"),
)
FROM_LOCK_FILE = replace(
    FROM_FOLDER, source=Source("archive", "file:///lock/wheels/mine-1.0-py3-none-any.whl"), installed=None
)


@pytest.mark.parametrize(("planned", "is_remembered"), [(FROM_FOLDER, True), (FROM_LOCK_FILE, False)])
def test_sources_that_only_a_lock_file_names_are_not_remembered_for_its_wheel(
    tmp_path: Path, planned: PlannedPackage, is_remembered: bool
) -> None:
    wheel = tmp_path / "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mine.py", "")
    digest = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    stored = StoredFile(wheel.name, wheel, digest, wheel.stat().st_size)
    content = WheelContent(content_digest(wheel), "1.0")
    plan = Plan(python=PYTHON, packages=(planned,))
    context = Context(Settings(cache_dir=tmp_path / "cache"))
    lock = Lock(Target(LINUX_AMD64, "3.11.7", (2, 36)), (), (VendoredPackage(MINE, "1.0", SOURCES, planned),))
    assert wheel_contents(lock, (stored,), plan, context) == {MINE: content}
    found = recall_contents(plan, {MINE: SOURCES}, no_isolation=(), cache=context.cache_folder)
    assert found == ({MINE: content} if is_remembered else {})
