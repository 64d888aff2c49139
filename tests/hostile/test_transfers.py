"""Servers that send without an end, or a byte now and then: an error of ours in time, and nothing kept."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core import limits
from imagesync.core.progress import SilentProgress
from imagesync.errors import FetchError, LockError, RegistryError
from imagesync.indexes.pypi.access import Access
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.indexes.pypi.index_problems import find_problems
from imagesync.lock.locked_packages import Artifact
from imagesync.lock.resolvers.resolver import with_digest
from imagesync.registry.http import Connection
from imagesync.registry.manifest import Descriptor
from imagesync.registry.repository import Repository
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch
from imagesync.store.store import Store
from tests.hostile.raw_server import (
    Reply,
    endless,
    longer_than_said,
    serving,
    slow,
    slow_chunk,
    slow_head,
)

DIGEST = "sha256:" + "0" * 64
SLOW = (slow(0.05, length=1000), slow(0.05, length=None), slow_head(0.05), slow_chunk(0.05))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure speed over half a second; the test has to end in a few of them."""
    monkeypatch.setattr(limits.bounded, "__kwdefaults__", {**limits.bounded.__kwdefaults__, "window": 0.5})
    monkeypatch.setattr(limits, "WINDOW", 0.5)
    monkeypatch.setattr("imagesync.store.download._ATTEMPTS", 2)
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("size", [1000, 1])
@pytest.mark.parametrize("reply", [endless, longer_than_said(1001), *SLOW])
def test_download_is_bounded_by_its_size_and_by_time(tmp_path: Path, reply: Reply, size: int) -> None:
    store = Store(tmp_path / "store")
    with serving(reply) as url, pytest.raises(FetchError, match=r"a-1\.0\.whl"):
        fetch(
            [Download(f"{url}/a-1.0.whl", DIGEST, "a-1.0.whl", size)],
            store=store,
            access=Access(),
            progress=SilentProgress(),
        )
    assert not list((store.root / "blobs").rglob("*")) or not list((store.root / "partial").iterdir())


@pytest.mark.parametrize("reply", SLOW)
def test_file_without_a_digest_is_bounded_by_time(reply: Reply) -> None:
    with serving(reply) as url, pytest.raises(LockError, match="can't be read"):
        with_digest(Artifact("a-1.0.whl", f"{url}/a-1.0.whl", ""), Access())


def test_page_of_an_index_whose_headers_have_no_end_is_given_up() -> None:
    with serving(slow_head(0.05)) as url:
        (problem,) = find_problems(IndexConfiguration(index_url=url), "alder", Access())
    assert re.fullmatch(r"doesn't answer \(only \d+ bytes in \d s\)", problem.reason)


def repository(url: str) -> Repository:
    host = url.removeprefix("http://")
    connection = Connection(host, {}, insecure=True, pause=lambda seconds: None)
    return Repository(f"{host}/a:1", connection=connection)


@pytest.mark.parametrize("reply", [endless, *SLOW])
def test_manifest_and_blob_of_a_registry_are_bounded(reply: Reply) -> None:
    with serving(reply) as url:
        asked = repository(url)
        with pytest.raises(RegistryError):
            asked.manifest("1")
        with pytest.raises(RegistryError):
            list(asked.read(Descriptor("application/octet-stream", DIGEST, 1000)))
