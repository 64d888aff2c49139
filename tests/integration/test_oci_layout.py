"""Image layouts and archives that imagesync writes, judged by skopeo and umoci, and theirs read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from imagesync.registry.archive import ImageArchive, write_docker_archive, write_oci_archive
from imagesync.registry.oci_image import OCIImage
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import small_image


def skopeo(*arguments: str | Path) -> str:
    command = ["skopeo", "--insecure-policy", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


@pytest.fixture
def image(layout: ImageLayout) -> OCIImage:
    return small_image(layout, {"bin/tool": b"tool\n" * 9000, "bin/link": "tool"}, {"etc/name": b"second"})


def test_layout_is_read_by_skopeo_and_unpacked_by_umoci(
    layout: ImageLayout, image: OCIImage, tmp_path: Path
) -> None:
    found = json.loads(skopeo("inspect", f"oci:{layout.root}:latest"))
    assert found["Digest"] == image.digest
    assert found["Layers"] == [layer.digest for layer in image.manifest.layers]
    bundle = tmp_path / "bundle"
    subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", f"{layout.root}:latest", bundle],
        check=True,
        capture_output=True,
    )
    assert (bundle / "rootfs/bin/tool").read_bytes() == b"tool\n" * 9000
    assert (bundle / "rootfs/etc/name").read_bytes() == b"second"


def test_archives_keep_the_digest_and_are_read_by_skopeo(image: OCIImage, tmp_path: Path) -> None:
    write_oci_archive(image, tmp_path / "oci.tar", name="1.0")
    write_docker_archive(image, tmp_path / "docker.tar", references=["team/env:1.0"])
    found = json.loads(skopeo("inspect", f"oci-archive:{tmp_path / 'oci.tar'}:1.0"))
    assert found["Digest"] == image.digest
    skopeo("copy", f"docker-archive:{tmp_path / 'docker.tar'}:team/env:1.0", f"oci:{tmp_path / 'copy'}:1")
    copied = ImageLayout(tmp_path / "copy")
    entry = copied.index().find("1")
    assert entry is not None
    assert copied.image(entry).config.diff_ids == image.config.diff_ids
    for path in (tmp_path / "oci.tar", tmp_path / "docker.tar"):
        with ImageArchive(path) as archive:
            only = archive.index().find()
            assert only is not None
            assert archive.image(only).digest == image.digest


def test_archive_has_the_full_name_by_which_containerd_knows_images(image: OCIImage, tmp_path: Path) -> None:
    write_docker_archive(image, tmp_path / "docker.tar", references=["team/env:1.0", "host:5000/env:2"])
    with ImageArchive(tmp_path / "docker.tar") as archive:
        names = [each.annotations["io.containerd.image.name"] for each in archive.index().manifests]
    assert names == ["docker.io/team/env:1.0", "host:5000/env:2"]


def test_archive_of_docker_alone_is_read(image: OCIImage, layout: ImageLayout, tmp_path: Path) -> None:
    path = tmp_path / "docker.tar"
    skopeo("copy", f"oci:{layout.root}:latest", f"docker-archive:{path}:team/env:1.0")
    with ImageArchive(path) as archive:
        assert not archive.is_layout
        for reference in ("", "team/env:1.0"):
            found = archive.docker_image(reference)
            assert found.config.diff_ids == image.config.diff_ids
            assert [layer.digest for layer in found.manifest.layers] == list(image.config.diff_ids)
            second = ImageLayout(tmp_path / "second")
            second.put(found, name="1.0")
    assert json.loads(skopeo("inspect", f"oci:{second.root}:1.0"))["Digest"] == found.digest
