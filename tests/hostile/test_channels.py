"""Channels that lie, never end or are slow: records that hold, or an error of ours in time."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import ImagesyncError, LockError
from imagesync.indexes.conda.channel_access import ChannelSettings
from imagesync.lock.conda.repodata import Repodata
from imagesync.lock.conda.solver import CondaRequest
from imagesync.registry.oci_layout import ImageLayout
from tests.channels.environments import make_conda_environment
from tests.channels.server import ChannelServer
from tests.commands import CommandLine
from tests.hostile.conftest import IS_CAMPAIGN
from tests.hostile.mutations import other_values
from tests.hostile.servers import check_blobs
from tests.hostile.test_fault_proxies import FAULTS, SLOW_FAULTS
from tests.integration.registry_proxy import Fault, RegistryProxy
from tests.oci_images import small_image

RECORD = {
    "name": "elder",
    "version": "1.0",
    "build": "py_0",
    "build_number": 0,
    "depends": [],
    "constrains": [],
    "subdir": "noarch",
    "sha256": "0" * 64,
    "md5": "0" * 32,
    "size": 5,
}
LIES: dict[str, dict[str, object]] = {
    "another name": {"name": "birch"},
    "name of another folder": {"name": "../elder"},
    "option as a name": {"name": "--elder"},
    "long version": {"version": "9" * 5000},
    "odd version": {"version": "1.0\u0000\n"},
    "odd build": {"build": "../../x"},
    "half a digest": {"sha256": "abc"},
    "negative size": {"size": -1},
    "huge size": {"size": 2**70},
    "itself as a dependency": {"depends": ["elder >=2"]},
    "no match spec": {"depends": ["[", "elder ==", "a" * 100_000]},
    "another subdir": {"subdir": "../noarch"},
    "a URL of its own": {"url": "file:///etc/passwd"},
    "numbers for texts": {"name": 5, "depends": 5},
}


def document(record: object, filename: str = "elder-1.0-py_0.conda") -> str:
    return json.dumps(
        {
            "info": {"subdir": "noarch"},
            "packages": {},
            "packages.conda": {filename: record},
            "repodata_version": 1,
        }
    )


@contextmanager
def channel(content: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """Provide the URL of a channel whose ``noarch/repodata.json`` is *content*."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.endswith("/noarch/repodata.json")
            self.send_response(200 if found else 404)
            self.end_headers()
            with suppress(OSError):
                for piece in content() if found else ():
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads, block_on_close = True, False

        def handle_error(self, *_: object) -> None:
            """Say nothing: a client that goes away is part of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/channel"
        server.shutdown()


def ask(url: str, cache: Path, *, timeout: float = 30.0, total: float = 60.0, most: int = 1 << 20) -> None:
    """Look a package up, and solve for it; what is found must be usable as the name of a file."""
    asked = Repodata(
        ChannelSettings(channels=(url,), cache=str(cache), timeout=timeout, total=total, most=most),
        dict(os.environ),
    )
    try:
        found = [
            each
            for records in asked.available(["elder"], subdirs=LINUX_AMD64.subdirs).values()
            for each in records
        ]
        found += asked.solve(CondaRequest(("elder",), (), timeout=20.0), platform=LINUX_AMD64)
    finally:
        asked.close()
    for package in found:
        assert "/" not in package.artifact.filename
        assert not package.name.startswith("-")


def test_repodata_without_an_end_is_given_up(tmp_path: Path, tried: Callable[[str], None]) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65536

    began = time.monotonic()
    with channel(endless) as url, pytest.raises(LockError, match=f"channel {url} doesn't answer"):
        ask(url, tmp_path)
    assert time.monotonic() - began < 25
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 4 << 20
    tried("channel: repodata without an end")


@pytest.mark.campaign
def test_slow_repodata_is_given_up(tmp_path: Path, tried: Callable[[str], None]) -> None:
    def slow() -> Iterator[bytes]:
        while True:
            yield b" "
            threading.Event().wait(0.1)

    with channel(slow) as url, pytest.raises(LockError, match="doesn't answer"):
        ask(url, tmp_path, total=2)
    tried("channel: repodata by the byte")


def test_slow_repodata_is_read_while_bytes_come_here_or_in_another_process(tmp_path: Path) -> None:
    content = document(RECORD).encode()
    size = len(content) // 6

    def slow() -> Iterator[bytes]:
        for start in range(0, len(content), size):
            threading.Event().wait(0.25)
            yield content[start : start + size]

    began = time.monotonic()
    # The second one waits for the lock of the first one.
    with channel(slow) as url, ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(ask, url, tmp_path, timeout=1) for _ in range(2)]:
            done.result()
    assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("first", [b"", b"{"])
def test_silent_channel_is_given_up(tmp_path: Path, first: bytes) -> None:
    def silent() -> Iterator[bytes]:
        yield first
        threading.Event().wait(20)

    began = time.monotonic()
    with channel(silent) as url, pytest.raises(LockError, match=f"channel {url} doesn't answer: not a byte"):
        ask(url, tmp_path, timeout=1)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("lie", LIES if IS_CAMPAIGN else ["name of another folder"])
def test_lie_of_a_channel_is_an_error_or_without_harm(
    tmp_path: Path, tried: Callable[[str], None], lie: str
) -> None:
    content = document({**RECORD, **LIES[lie]}).encode()
    with channel(lambda: iter([content])) as url, suppress(ImagesyncError):
        ask(url, tmp_path)
    tried("channel: records that lie")


@pytest.mark.campaign
def test_changed_repodata_is_read_or_named(tmp_path: Path, tried: Callable[[str], None]) -> None:
    current = [b""]
    numbers = iter(range(10_000))

    with channel(lambda: iter(current)) as url:

        @settings(settings.get_profile("hostile"), max_examples=40)
        @given(other_values(document(RECORD)))
        def try_one(content: bytes) -> None:
            current[:] = [content]
            with suppress(ImagesyncError):
                ask(url, tmp_path / str(next(numbers)))
            tried("channel: repodata, changed in a few places")

        try_one()


BUDGET = 90.0  # seconds for the trials of a campaign


@pytest.mark.campaign
def test_fault_at_a_request_of_a_build_is_made_good_or_named(
    cli: CommandLine, channel: Path, tmp_path: Path, tried: Callable[[str], None]
) -> None:
    with ChannelServer(channel) as server, RegistryProxy(server.host) as proxy:
        # For the other platform: its Python is small.
        prefix = tmp_path / "env"
        url = f"http://{proxy.host}/channel"
        make_conda_environment(url, ["python", "greeter", "trellis"], prefix, platform="linux-aarch64")
        (tmp_path / "condarc").write_text(f"channels: [{url}]\npkgs_dirs: [none]\n")
        libc = b"GNU C Library stable release version 2.36.\n"
        files = {
            "lib/aarch64-linux-gnu/libc.so.6": libc,
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
            "etc/group": b"root:x:0:\n",
        }
        small_image(ImageLayout(tmp_path / "base"), files, platform="linux/arm64")
        base = cli.with_environ(
            CONDARC=tmp_path / "condarc",
            DOCKER_HOST="tcp://127.0.0.1:1",
            IMAGESYNC_BASE=f"oci:{tmp_path / 'base'}",
            IMAGESYNC_PLATFORMS="linux/arm64",
            IMAGESYNC_PROFILE="none",
            IMAGESYNC_PYTHON="conda",
        )
        number = itertools.count()

        def machine() -> CommandLine:
            return base.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / f"store-{next(number)}")

        proxy.forget()
        reference = machine()("build", "--prefix", prefix).reference
        many = len(proxy.requests)
        assert many > 2
        planned = [(place, fault) for place in range(many) for fault in {**FAULTS, **SLOW_FAULTS}]
        random.shuffle(planned)
        end = time.monotonic() + BUDGET
        for place, fault in planned:
            here = machine()
            proxy.forget()
            proxy.fail(Fault(".*", ".*", skip=place, **{**FAULTS, **SLOW_FAULTS}[fault]))
            # Without a fault the channel has the time that a busy machine takes.
            finished = here.with_environ(IMAGESYNC_TIMEOUT="2").run("build", "--prefix", prefix, timeout=300)
            proxy.forget()
            print(place, fault, finished)  # for whoever reads of a failure
            assert "Traceback" not in finished.stderr
            assert finished.returncode in (0, 1)
            if "repacked: " in finished.stderr:
                continue  # a redirect to a page that isn't there: installed files stand in for the archive
            assert finished.returncode == 1 or finished.reference == reference
            assert finished.returncode == 0 or "error: " in finished.stderr
            check_blobs(Path(here.environ["IMAGESYNC_CACHE_DIR"]))
            assert here("build", "--prefix", prefix).reference == reference
            tried(f"channel behind a fault proxy, cold build: {fault}")
            if time.monotonic() > end:
                break
