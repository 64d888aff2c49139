"""Sdists whose build back-ends lie, break off or leave processes: a wheel that holds, or an error of ours."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from imagesync.core.build_log import LONGEST, MOST
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.errors import WheelError
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.lock.lock import Target
from imagesync.lock.locked_packages import Artifact, LockedPackage
from imagesync.scan.scan import scan
from imagesync.store.store import Store
from imagesync.wheels.build_indexes import BuildIndexes
from imagesync.wheels.sdists.sdist import build_sdists
from tests.environments import LocalEnvironment
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.servers import check_blobs
from tests.indexes import make_wheel
from tests.indexes.sdists import make_source_archive

NAME, WHEEL = make_wheel("demo", "1.0")
OTHER, OTHER_WHEEL = make_wheel("other", "1.0")
PYPROJECT = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
BACKEND = f"""
import os, pathlib, signal, subprocess, sys
NAME, WHEEL, OTHER, OTHER_WHEEL = {NAME!r}, {WHEEL!r}, {OTHER!r}, {OTHER_WHEEL!r}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    folder = pathlib.Path(folder)
"""
GOOD = "(folder / NAME).write_bytes(WHEEL); return NAME"
LEAVE = (
    "print('last words', end='', flush=True);"
    " pathlib.Path(os.environ['LEFT']).write_text(str(subprocess.Popen({}).pid))"
)
ANSWER = "pathlib.Path(sys.argv[2], 'output.json').write_text({!r}); os._exit(0)"
INSTEAD = "answer = os.path.join(sys.argv[2], 'output.json'); {}; os._exit(0)"
PIPE = """
def get_requires_for_build_wheel(config_settings=None):
    os.remove("pyproject.toml")
    os.mkfifo("pyproject.toml")
    return []
"""
# What the back-end does, and whether there is a wheel afterwards.
LIES = {
    "prints 50 MB": (f"os.write(1, b'x' * (50 << 20)); {GOOD}", True),
    "prints a password in a long line": (f"print('\"https://u:pass-canary@host/\"' * 2000); {GOOD}", True),
    "prints 100 MB of lines": (
        f"[os.write(1, b'a line of text\\n' * 70000) for _ in range(100)]; {GOOD}",
        True,
    ),
    "prints no UTF-8": (f"os.write(1, bytes(range(256)) * 9); {GOOD}", True),
    "closes its output": (f"os.close(1); os.close(2); {GOOD}", True),
    "leaves a process": (f"{LEAVE.format(['sleep', '600'])}; {GOOD}", True),
    "leaves a process that prints without an end": (f"{LEAVE.format(['yes'])}; {GOOD}", True),
    "ends without a word": ("os._exit(0)", False),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", False),
    "recurses": ("build_wheel(folder)", False),
    "answers without a result": (ANSWER.format("{}"), False),
    "answers with a list": (ANSWER.format("[]"), False),
    "answers with depth": (ANSWER.format("[" * 20000), False),
    "answers with a pipe": (INSTEAD.format("os.mkfifo(answer)"), False),
    "answers with a folder": (INSTEAD.format("os.mkdir(answer)"), False),
    "answers with a device": (INSTEAD.format("os.symlink('/dev/zero', answer)"), False),
    "answers with 100 MB": (INSTEAD.format("open(answer, 'w').write('[' + ' ' * (100 << 20) + ']')"), False),
    "makes a pipe of its settings": (
        f"os.remove('pyproject.toml'); os.mkfifo('pyproject.toml'); {GOOD}",
        True,
    ),
    "returns nothing": ("return None", False),
    "returns a number": ("return 5", False),
    "returns no file": ("return NAME", False),
    "returns a folder": ("(folder / NAME).mkdir(); return NAME", False),
    "returns a pipe": ("os.mkfifo(folder / NAME); return NAME", False),
    "returns a link": ("(folder / NAME).symlink_to('/etc/passwd'); return NAME", False),
    "returns a path that leads out": ("(folder / '..' / NAME).write_bytes(WHEEL); return '../' + NAME", None),
    "returns an absolute path": ("return '/etc/passwd'", False),
    "returns another package": ("(folder / OTHER).write_bytes(OTHER_WHEEL); return OTHER", False),
    "returns text": ("(folder / NAME).write_text('no'); return NAME", False),
    "returns half a wheel": ("(folder / NAME).write_bytes(WHEEL[:len(WHEEL) // 2]); return NAME", False),
    "removes the folder": ("import shutil; shutil.rmtree(folder); return NAME", False),
    "returns a long name": ("return 'x' * 100_000", False),
    "raises with odd text": ("raise ValueError('\\udc80\\0\\x1b[2J' * 1000)", False),
}
SAMPLE = [
    "answers with a pipe",
    "leaves a process that prints without an end",
    "answers without a result",
    "returns a pipe",
]


@pytest.fixture
def _ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the process that a back-end leaves."""
    left = tmp_path / "left"
    monkeypatch.setenv("LEFT", str(left))
    yield
    if left.is_file():
        with suppress(ProcessLookupError):
            os.kill(int(left.read_text()), signal.SIGKILL)


@pytest.mark.usefixtures("_ended")
@pytest.mark.parametrize("lie", LIES if IS_CAMPAIGN else SAMPLE)
def test_back_end_that_lies_gives_a_wheel_or_an_error_of_ours(
    environment: Callable[..., LocalEnvironment], tmp_path: Path, tried: Callable[[str], None], lie: str
) -> None:
    does, is_built = LIES[lie]
    files = {"pyproject.toml": PYPROJECT, "backend.py": f"{BACKEND}    {does}\n"}
    filename, content = make_source_archive("demo", "1.0", files)
    (tmp_path / filename).write_bytes(content)
    store = Store(tmp_path / "store")
    sdist = store.add_file(tmp_path / filename)
    package = LockedPackage("demo", "1.0", Artifact(filename, "file:///x", sdist.digest))
    began = time.monotonic()
    (built,) = build_sdists(
        [(package, sdist)],
        target=Target(LINUX_AMD64, ".".join(map(str, sys.version_info[:3])), (2, 36)),
        python=scan(python=environment().python, environ={}).python,
        store=store,
        indexes=BuildIndexes(IndexConfiguration(no_index=True)),
        progress=SilentProgress(),
    )
    assert time.monotonic() - began < 60
    tried(f"sdist: its back-end {lie}")
    if is_built is not None:
        assert is_built != isinstance(built, WheelError), built
    if isinstance(built, WheelError):
        assert "demo" in built.message
    else:
        assert built.path.read_bytes() == WHEEL
    check_blobs(store.root)
    logs = [log.read_text() for log in store.root.rglob("*.log")]
    assert all("last words" in log for log in logs) or "last words" not in does
    assert logs
    assert all(len(log) <= MOST + 30 * LONGEST for log in logs)
    assert not any("canary" in log for log in logs)
