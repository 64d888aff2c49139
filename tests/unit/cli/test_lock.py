from __future__ import annotations

import io

from packaging.utils import canonicalize_name

from imagesync.cli.lock import print_lock
from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64, LINUX_ARM64
from imagesync.lock.lock import Deviation, Lock, Target
from imagesync.lock.locked_packages import Artifact, LockedPackage, VendoredPackage
from imagesync.plan.plan import PlannedPackage
from imagesync.scan.environment import Source

NUMPY = canonicalize_name("numpy")
MINE = canonicalize_name("mine")
DEVIATION = Deviation(NUMPY, "1.26.5", "1.26.4", Level.COMPATIBLE, "1.26.5 has no file for the target")


def planned(name: str, level: Level, *, source: Source | None = None) -> PlannedPackage:
    return PlannedPackage(canonicalize_name(name), "1.2.3", level, "==1.2.3", "as it is", source or Source())


def test_lock_lists_deviations_above_artifacts() -> None:
    local = planned("mine", Level.EXACT, source=Source("directory", url="file:///m"))
    lock = Lock(
        Target(LINUX_AMD64, "3.11.2", (2, 36)),
        packages=(
            LockedPackage(
                NUMPY, "1.26.4", Artifact("numpy-1.26.4.whl", "https://e/n", "sha256:00", 18_300_000)
            ),
            LockedPackage(
                canonicalize_name("six"), "1.17", Artifact("six.whl", "https://e/s", "sha256:01", None)
            ),
        ),
        vendored=(VendoredPackage(MINE, "1.2.3", "sha256:02", local),),
        deviations=(DEVIATION,),
    )
    stream = io.StringIO()
    print_lock(lock, stream=stream)
    text = stream.getvalue()
    assert text.startswith("1 deviation from the local environment\n")
    assert "  numpy    1.26.5  1.26.4        compatible  1.26.5 has no file for the target\n" in text
    assert "  numpy    1.26.4   18.3 MB  numpy-1.26.4.whl\n" in text
    assert "  mine     1.2.3    directory file:///m\n" in text
    assert "3 packages, at least 18.3 MB from indexes, 1 deviation\n" in text
    assert text.endswith(f"lock {lock.digest}\n")


def test_locks_of_two_platforms_say_once_what_they_share() -> None:
    six = LockedPackage(canonicalize_name("six"), "1.17", Artifact("six.whl", "https://e/s", "sha256:01", 1))
    wheels = [LockedPackage(NUMPY, "1", Artifact(f"{m}.whl", "https://e/n", f"sha256:{m}")) for m in "ab"]
    locks = [
        Lock(Target(platform, "3.11.2", (2, 36)), (wheel, six), deviations=(DEVIATION,))
        for platform, wheel in zip((LINUX_AMD64, LINUX_ARM64), wheels, strict=True)
    ]
    stream = io.StringIO()
    print_lock(*locks, stream=stream)
    text = stream.getvalue()
    assert [text.count(name) for name in ("six.whl", "1 deviation from", "a.whl", "b.whl")] == [1, 1, 1, 1]
    assert text.index("six.whl") < text.index("linux/amd64: artifacts from the indexes") < text.index("a.whl")
    assert text.index("a.whl") < text.index("linux/arm64: artifacts from the indexes") < text.index("b.whl")
    assert all(f"lock {lock.digest}\n" in text for lock in locks)
