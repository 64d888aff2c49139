"""Archives, lock files, answers of registries and cache entries that somebody has changed: read, or named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.strict_json import load_json
from imagesync.engine.build_trace import decode_trace
from imagesync.errors import ImagesyncError
from imagesync.indexes.conda.condarc import read_condarc
from imagesync.lock.conda.archive_files import read_archives
from imagesync.lock.lock import Target
from imagesync.lock.lockfile.models import ReadRequest
from imagesync.lock.lockfile.read import read_lock
from imagesync.registry.archive import ImageArchive
from imagesync.registry.config import parse_config
from imagesync.registry.manifest import parse_manifest
from imagesync.scan.distributions.direct_url import parse_direct_url
from imagesync.store.layout import DERIVED, DERIVED_FORMAT
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.rewrite import is_odd
from imagesync.wheels.secret_files import secret_members
from imagesync.wheels.sources.origin import unpack_sdist
from imagesync.wheels.wheel_checks import check_wheel
from tests.channels.archive import CondaPackage, File, write_package
from tests.hostile.mutations import mutated, other_values
from tests.indexes import make_wheel
from tests.indexes.sdists import make_source_archive

TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))
LIBRARY = "demo-1.0-cp311-cp311-linux_x86_64.whl"
DIGEST = "sha256:" + "0" * 64
WHEEL = make_wheel("demo", "1.0", files={"demo/a.so": b"\x7fELF" * 9, "demo/a.pem": b"x"})[1]
SDIST = make_source_archive("demo", "1.0", {"demo.py": "x = 1\n"})[1]
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 2}],
        "annotations": {"a": "b"},
    }
)
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": DIGEST,
                "size": 2,
                "platform": {"os": "linux", "architecture": "amd64"},
                "annotations": {"org.opencontainers.image.ref.name": "1"},
            }
        ],
    }
)
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["A=b"], "Cmd": ["x"], "Labels": {"a": "b"}, "ExposedPorts": {"1/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "x", "empty_layer": True}],
    }
)
DOCKER = json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}])
PYLOCK = f"""lock-version = "1.0"
created-by = "x"
requires-python = ">=3.8"
[[packages]]
name = "alder"
version = "1.0"
[[packages.wheels]]
url = "https://i.example/alder-1.0-py3-none-any.whl"
size = 5
hashes = {{sha256 = "{"0" * 64}"}}
"""
ZEROS = "0" * 64
REQUIREMENTS = f"""# x
--index-url https://i.example/simple
alder==1.0 ; python_version > '3' --hash=sha256:{ZEROS}
"""
EXPLICIT = f"""# platform: linux-64
@EXPLICIT
https://c.example/main/noarch/elder-1.0-py_0.conda#sha256:{ZEROS}
"""
CONDA_LOCK = f"""version: 1
metadata:
  content_hash: {{linux-64: x}}
  channels: [{{url: main, used_env_vars: []}}]
  platforms: [linux-64]
  sources: [environment.yml]
package:
- name: python
  version: 3.11.2
  manager: conda
  platform: linux-64
  dependencies: {{}}
  url: https://c.example/main/linux-64/python-3.11.2-h0_0.conda
  hash: {{md5: {"0" * 32}, sha256: {"0" * 64}}}
  category: main
  optional: false
- name: alder
  version: 1.0
  manager: pip
  platform: linux-64
  dependencies: {{}}
  url: https://i.example/alder-1.0-py3-none-any.whl
  hash: {{sha256: {"0" * 64}}}
  category: main
  optional: false
"""


def docker_archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        files = {"manifest.json": DOCKER, "c.json": CONFIG, "index.json": INDEX, "l.tar": ""}
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data.encode()))
    return content.getvalue()


def conda_package(archive: Literal["conda", "tar.bz2"]) -> bytes:
    files = {"site-packages/elder.py": File(b"x = 1\n")}
    package = CondaPackage("elder", "1.0", noarch="python", files=files, archive=archive)
    with tempfile.TemporaryDirectory() as folder:
        return write_package(package, Path(folder)).read_bytes()


def zip_sdist() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("demo-1.0/pyproject.toml", "[project]")
        archive.writestr("demo-1.0/demo.py", "")
    return content.getvalue()


def lock_file(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read_lock(ReadRequest(folder / name, lambda: TARGET, {}, LINUX_AMD64))

    return read


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def write_and_read(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return write_and_read


def parsed(parse: Callable[[Any], object]) -> Callable[[Path, bytes], object]:
    """Return a reader by a function whose callers name the file in its ``ValueError``."""

    def read(_: Path, content: bytes) -> object:
        with suppress(ValueError):
            return parse(content)
        return None

    return read


def unpack(folder: Path, content: bytes) -> None:
    (folder / "sdist").write_bytes(content)
    with tempfile.TemporaryDirectory(dir=folder) as into:
        unpack_sdist(folder / "sdist", Path(into, "demo"), name="demo 1.0")


def conda_archive(suffix: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        path = folder / f"elder-1.0-py_0{suffix}"
        path.write_bytes(content)
        return read_archives([StoredFile(path.name, path, DIGEST, len(content))])

    return read


def image_archive(path: Path) -> None:
    with ImageArchive(path) as archive:
        for look in (archive.index, archive.docker_entry):
            with suppress(ImagesyncError):
                look()
        archive.docker_image()
        archive.docker_image_id()


def cache_entry(folder: Path, content: bytes) -> None:
    path = cache_path(folder / "caches", "x")
    write_cache(path, {"a": 1}, key=1)
    path.write_bytes(content)
    read_cache(path, key=1)
    read_cache(path, key=1, max_age=5)


def derived_entry(folder: Path, content: bytes) -> None:
    store = Store(folder / "store")
    path = cache_path(store.root / DERIVED, "key")
    write_cache(path, {}, key=DERIVED_FORMAT)
    path.write_bytes(content)
    store.recall("key")


ENTRY = '{"key": 1, "time": 1790000000, "content": {"digest": "%s", "filename": "x"}}' % DIGEST  # noqa: UP031
Reader = Callable[[Path, bytes], object]
KINDS: dict[str, tuple[Reader, tuple[bytes, ...]]] = {
    "wheel, checked": (
        in_file(LIBRARY, lambda path: check_wheel(path, filename=LIBRARY, target=TARGET)),
        (WHEEL,),
    ),
    "wheel, looked at for secrets": (in_file(LIBRARY, secret_members), (WHEEL,)),
    "wheel, odd": (in_file(LIBRARY, is_odd), (WHEEL,)),
    "sdist": (unpack, (SDIST, gzip.decompress(SDIST), zip_sdist())),
    "conda archive": (conda_archive(".conda"), (conda_package("conda"),)),
    "conda archive, tar.bz2": (conda_archive(".tar.bz2"), (conda_package("tar.bz2"),)),
    "pylock.toml": (lock_file("pylock.toml"), (PYLOCK.encode(),)),
    "requirements": (lock_file("requirements.txt"), (REQUIREMENTS.encode(),)),
    "explicit file": (lock_file("explicit.txt"), (EXPLICIT.encode(),)),
    "conda-lock.yml": (lock_file("conda-lock.yml"), (CONDA_LOCK.encode(),)),
    "condarc": (
        in_file(".condarc", lambda path: read_condarc(str(path))),
        (b"channels: [a, b]\nx: {y: z}\n",),
    ),
    "direct_url.json": (parsed(parse_direct_url), (b'{"url": "https://a/b", "archive_info": {}}',)),
    "manifest": (parsed(parse_manifest), (MANIFEST.encode(), INDEX.encode())),
    "image config": (parsed(parse_config), (CONFIG.encode(),)),
    "JSON": (parsed(load_json), (MANIFEST.encode(),)),
    "image archive": (in_file("image.tar", image_archive), (docker_archive(),)),
    "build trace": (lambda _, content: decode_trace(content.decode("latin-1")), (b"CgNhYmM=",)),
    "cache entry": (cache_entry, (ENTRY.encode(),)),
    "derived entry": (derived_entry, (ENTRY.encode(),)),
}


# hypothesis warns that a failing input is long to print.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_changed_content_is_read_or_named(tmp_path: Path, tried: Callable[[str], None], kind: str) -> None:
    read, seeds = KINDS[kind]
    documents = [other_values(seed.decode()) for seed in seeds if seed.startswith(b"{")]

    @settings(settings.get_profile("hostile"))
    @given(st.one_of(mutated(seeds), *documents))
    def try_one(content: bytes) -> None:
        tried(kind)
        with suppress(ImagesyncError):
            read(tmp_path, content)

    try_one()


FOUND = [
    ("pylock.toml", PYLOCK.replace(ZEROS, "abc").encode()),
    ("conda-lock.yml", CONDA_LOCK.replace(f"sha256: {ZEROS}", "sha256: abc").encode()),
    ("explicit file", EXPLICIT.replace(ZEROS, "abc").encode()),
    ("requirements", REQUIREMENTS.replace(ZEROS, "abc").encode()),
    ("pylock.toml", PYLOCK.replace('"1.0"\nr', '"1.0"\nx = ' + "[" * 20_000 + "\nr").encode()),
    ("pylock.toml", PYLOCK.replace("alder", "alder" * 20_000).encode()),
    ("pylock.toml", PYLOCK.replace('version = "1.0"\n[[', 'version = "' + "9" * 100_000 + '"\n[[').encode()),
    ("conda-lock.yml", CONDA_LOCK.replace("3.11.2", "9" * 100_000).encode()),
    ("conda-lock.yml", b"a: &a [x]\nb: &b [*a, *a]\n" + b"c: " + b"[" * 5000),
    ("manifest", b"[" * 200_000),
    ("JSON", b'{"a":' * 100_000),
    ("derived entry", b"[" * 200_000),
    ("cache entry", b"[" * 200_000),
    ("derived entry", b'{"key": 1, "time": 1, "content": []}'),
    ("manifest", b'{"schemaVersion": 2, "mediaType": []}'),
]


@pytest.mark.parametrize(("kind", "content"), FOUND, ids=[f"{number}" for number in range(len(FOUND))])
def test_fault_that_was_found_once_stays_mended(
    tmp_path: Path, tried: Callable[[str], None], kind: str, content: bytes
) -> None:
    tried("documents: found faults")
    with suppress(ImagesyncError):
        KINDS[kind][0](tmp_path, content)
