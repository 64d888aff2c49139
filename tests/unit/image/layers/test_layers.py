from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from imagesync.errors import LayoutError, StoreError
from imagesync.image.layers.assemble import assemble
from imagesync.image.layers.compression import Compression, compression_of
from imagesync.image.layers.entries import (
    MTIME,
    directory_entry,
    file_entry,
    symlink_entry,
    tar_header,
    tar_stream,
    with_parents,
)
from imagesync.image.layers.layer import Layer, write_layers
from imagesync.image.layers.parts import PartRequest, PartStore
from imagesync.image_layout import ImageOptions
from imagesync.registry.oci_layout import ImageLayout
from imagesync.store.store import Store
from tests.oci_images import small_image

LONG = "opt/env/" + "d" * 90 + "/" + "f" * 90
ENTRIES = with_parents(
    [
        file_entry("opt/env/a", b"content"),
        file_entry("opt/env/run", b"x" * 512, mode=0o755),
        file_entry(LONG, b""),
        file_entry("opt/env/" + "n" * 101, b"long name"),
        file_entry("opt/env/überschrift", b"not ASCII"),
        symlink_entry("opt/env/lib64", "lib"),
        symlink_entry("opt/env/far", "t" * 120),
        directory_entry("home/imagesync", mode=0o1777, uid=1000, gid=1000),
    ]
)


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|") as archive:
        found = list(archive)
    # tar-split, by which Docker and Podman keep layers, refuses a path that is there twice.
    assert len({member.name for member in found}) == len(found)
    return {member.name: member for member in found}


def part(name: str, content: bytes) -> PartRequest:
    key = name, hashlib.sha256(content).hexdigest()
    return PartRequest(name, key, lambda: with_parents([file_entry(name, content)]))


def layer_of(*requests: PartRequest, store: Store, compression: Compression) -> Layer:
    parts = PartStore(store, compression)
    (layer,) = write_layers(
        [("test", [parts.get(request) for request in requests])],
        below={},
        store=store,
        compression=compression,
        workers=2,
    )
    return layer


def test_tar_has_every_entry_as_tarfile_reads_it() -> None:
    found = members(b"".join(tar_stream(ENTRIES)) + bytes(1024))
    assert list(found) == [entry.path for entry in ENTRIES]
    assert {member.mtime for member in found.values()} == {MTIME}
    assert found["opt/env/run"].mode == 0o755
    assert found["opt/env/far"].linkname == "t" * 120
    assert (found["home/imagesync"].uid, found["home/imagesync"].mode) == (1000, 0o1777)
    assert (found["opt"].uid, found["opt"].gid, found["opt"].uname) == (0, 0, "")


def test_pax_headers_stand_only_where_a_path_needs_one() -> None:
    with_pax = [entry.path for entry in ENTRIES if len(tar_header(entry)) > 512]
    assert with_pax == ["opt/env/far", "opt/env/" + "n" * 101, "opt/env/überschrift"]


def test_large_owner_ids_leave_the_header_whole() -> None:
    # As OpenShift gives them; ustar holds at most 2,097,151.
    entry = directory_entry("work", uid=1_000_680_000, gid=8**7)
    header = tar_header(entry)
    assert len(header) % 512 == 0
    found = members(header + bytes(1024))["work"]
    assert (found.uid, found.gid, found.isdir()) == (1_000_680_000, 8**7, True)
    assert len(tar_header(directory_entry("work", uid=8**7 - 1))) == 512


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_layer_is_its_parts_and_the_end_of_the_archive(tmp_path: Path, name: str) -> None:
    compression = compression_of("zstd" if name == "zstd" else "gzip")
    store = Store(tmp_path)
    layer = layer_of(
        part("opt/a", b"1" * 20_000_000), part("opt/b", b"2"), store=store, compression=compression
    )
    compressed = layer.path.read_bytes()
    if name == "gzip":
        plain = gzip.decompress(compressed)
    else:
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True)
        plain = reader.read()
    assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == layer.diff_id
    assert list(members(plain)) == ["opt", "opt/a", "opt/b"]
    assert plain.endswith(bytes(1024))


def test_layer_with_a_wrong_file_in_its_last_part_has_another_diff_id(tmp_path: Path) -> None:
    store, compression = Store(tmp_path), compression_of("zstd")
    right = layer_of(part("a", b"1"), part("b", b"2"), store=store, compression=compression)
    wrong = layer_of(part("a", b"1"), part("b", b"3"), store=store, compression=compression)
    assert right.diff_id != wrong.diff_id


def test_known_part_is_not_made_again(tmp_path: Path) -> None:
    parts = PartStore(Store(tmp_path), compression_of("gzip"))
    first = parts.get(PartRequest("a", ("key",), lambda: [file_entry("a", b"1")]))
    again = parts.get(PartRequest("a", ("key",), lambda: pytest.fail("made again")))
    assert again == first


def test_part_that_left_the_store_is_made_again(tmp_path: Path) -> None:
    parts = PartStore(Store(tmp_path), compression_of("gzip"))
    first = parts.get(part("a", b"1"))
    first.stored.path.unlink()
    assert parts.get(part("a", b"1")) == first
    assert first.stored.path.exists()


def test_gzip_bytes_are_those_of_arm64() -> None:
    # Written down from a run of deflate 0.9.0's wheel for arm64 under qemu.
    block = b"".join(b"line %d of the block\n" % (number * number) for number in range(5000))
    digest = hashlib.sha256(compression_of("gzip").compress(block)).hexdigest()
    assert digest == "a7d1184067328062fc7b6afc35da7ad1ce15fad8f39bacebb496326d425f5933"


def test_damaged_layer_is_removed_when_it_is_read_and_made_again(tmp_path: Path) -> None:
    store, compression = Store(tmp_path / "store"), compression_of("gzip")
    request = part("opt/env/a", b"content")
    layer = layer_of(request, store=store, compression=compression)
    assert layer.path is not None
    content = layer.path.read_bytes()
    layer.path.chmod(0o644)
    layer.path.write_bytes(b"x" * len(content))
    base = small_image(ImageLayout(tmp_path / "base"), {"a": b""})
    image = assemble(
        base,
        [layer],
        options=ImageOptions(),
        environment={},
        labels={},
        conda=False,
        activated=False,
        created=315_532_800,
    )
    with pytest.raises(LayoutError, match="is damaged") as caught:
        ImageLayout(tmp_path / "image").put(image, name="latest")
    assert "run the command again" in str(caught.value.hint)
    assert not layer.path.exists()
    again = layer_of(request, store=store, compression=compression)
    assert again == layer
    assert layer.path.read_bytes() == content


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_damaged_part_is_removed_when_it_is_read(tmp_path: Path, name: str) -> None:
    store, compression = Store(tmp_path), compression_of("zstd" if name == "zstd" else "gzip")
    kept = PartStore(store, compression).get(part("opt/env/a", b"content"))
    kept.stored.path.chmod(0o644)
    content = bytearray(kept.stored.path.read_bytes())
    content[-1] ^= 1
    kept.stored.path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged") as caught:
        write_layers(
            [("other", [kept, PartStore(store, compression).get(part("opt/env/b", b"b"))])],
            below={},
            store=store,
            compression=compression,
            workers=1,
        )
    assert "run the command again" in str(caught.value)
    assert not kept.stored.path.exists()


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_layers_are_the_same_by_any_number_of_workers(tmp_path: Path, name: str) -> None:
    compression, written = compression_of(name), set()
    for workers in (1, 2, 4):
        store = Store(tmp_path / str(workers))
        parts = PartStore(store, compression)
        layers = [
            (title, [parts.get(part(f"{title}{number}", bytes(range(256)) * 100)) for number in range(3)])
            for title in ("a", "b", "c", "d")
        ]
        made = write_layers(layers, below={}, store=store, compression=compression, workers=workers)
        written.add(tuple((layer.blob.digest, layer.diff_id) for layer in made))
    assert len(written) == 1
