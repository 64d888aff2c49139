"""Layers leave the folders and links of a base as they are."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import RenderError
from imagesync.image.layers.base_contents import read_base
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.environment import EnvironmentFiles, write_environment
from imagesync.image.layers.wheel_parts import WheelPart
from imagesync.image_layout import CopiedFile, CopiedFiles
from imagesync.registry.oci_layout import ImageLayout
from imagesync.store.store import Store
from tests.oci_images import small_image
from tests.unit.image.layers.test_base_contents import DEBIAN
from tests.unit.image.layers.wheels import stored_wheel, write_wheel


def members(
    tmp_path: Path,
    *paths: str,
    base: Mapping[str, bytes | str | tuple[int, int, int]] | None = None,
    workdir: str = "",
    wheel: Mapping[str, bytes] | None = None,
) -> list[dict[str, tarfile.TarInfo]]:
    """Return the entries of each layer of an environment, with files at *paths*, on a base."""
    image = small_image(ImageLayout(tmp_path / "base"), {**DEBIAN, **(base or {})})
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    store = Store(tmp_path / "cache")
    wheels = (
        [WheelPart(stored_wheel(store, write_wheel(tmp_path, "alder", wheel)), None, "pip", "3.11")]
        if wheel
        else []
    )
    layers = write_environment(
        EnvironmentFiles(
            read_base(image, cache=tmp_path / "cache", progress=SilentProgress()),
            "3.11",
            wheels,
            copied=[CopiedFiles(path, (CopiedFile(path, str(source), 7),), path) for path in paths],
            inventory="{}",
            profile="profile",
            workdir=(workdir, 1000, 1000) if workdir else None,
        ),
        budget=30,
        store=store,
        compression=compression_of("gzip"),
        progress=SilentProgress(),
    )
    found = []
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.path.read_bytes()))) as archive:
            entries = archive.getmembers()
        assert len({entry.name for entry in entries}) == len(entries)
        found.append({entry.name: entry for entry in entries})
    return found


def attributes(layers: list[dict[str, tarfile.TarInfo]], path: str) -> set[tuple[int, int, int]]:
    """Return mode and owner of a folder in all layers that have it."""
    found = [layer[path] for layer in layers if path in layer]
    assert all(entry.isdir() for entry in found)
    return {(entry.mode, entry.uid, entry.gid) for entry in found}


def test_file_in_the_home_leaves_the_home_open(tmp_path: Path) -> None:
    found = members(tmp_path, "/home/imagesync/.config/a")
    assert "home/imagesync/.config/a" in found[-2]
    assert attributes(found, "home/imagesync") == {(0o1777, 1000, 1000)}
    assert attributes(found, "home/imagesync/.config") == {(0o755, 0, 0)}


def test_folders_of_a_base_keep_mode_and_owner(tmp_path: Path) -> None:
    found = members(
        tmp_path,
        "/tmp/x",
        "/srv/y/z",
        base={"tmp": (0o1777, 0, 0), "srv/y": (0o2770, 7, 1_000_680_000)},
    )
    assert attributes(found, "tmp") == {(0o1777, 0, 0)}
    assert attributes(found, "srv/y") == {(0o2770, 7, 1_000_680_000)}


def test_files_go_where_links_of_a_base_lead(tmp_path: Path) -> None:
    found = members(
        tmp_path,
        "/bin/tool",
        "/etc/motd",
        base={
            "etc/ssl/certs": "/etc/pki/tls/certs",
            "etc/ssl/certs/ca-certificates.crt": b"",
            "etc/motd": "/run/motd",
        },
    )
    paths = {path for layer in found for path in layer}
    assert {"usr/bin/tool", "run/motd"} <= paths
    assert not {"bin", "bin/tool", "etc/motd"} & paths


def test_certificates_go_where_their_folder_is(tmp_path: Path) -> None:
    base = {**DEBIAN, "etc/ssl/certs": "../pki/tls/certs", "etc/pki/tls/certs": (0o700, 0, 0)}
    del base["etc/ssl/certs/ca-certificates.crt"]
    image = small_image(ImageLayout(tmp_path / "base"), base)
    from imagesync.image.layers.system import system_entries

    contents = read_base(image, cache=tmp_path / "cache", progress=SilentProgress())
    paths = {entry.path for entry in system_entries(contents)}
    assert "etc/pki/tls/certs/ca-certificates.crt" in paths
    assert "etc/ssl/certs" not in paths


def test_environment_goes_where_opt_leads(tmp_path: Path) -> None:
    found = members(tmp_path, base={"opt": "var/opt"}, wheel={"alder.py": b""})
    paths = {path for layer in found for path in layer}
    assert {"var/opt/env/bin/python", "var/opt/env/lib/python3.11/site-packages/alder.py"} <= paths
    assert not [path for path in paths if path == "opt" or path.startswith("opt/")]


def test_lib64_of_a_wheel_is_the_lib_of_the_environment(tmp_path: Path) -> None:
    found = members(tmp_path, wheel={"alder.py": b"", "alder-1.0.data/data/lib64/x": b"x"})
    assert any("opt/env/lib/x" in layer for layer in found)
    assert {layer["opt/env/lib64"].linkname for layer in found if "opt/env/lib64" in layer} == {"lib"}


def test_working_directory_of_a_base_is_known_however_deep(tmp_path: Path) -> None:
    found = members(tmp_path, workdir="/a/b/c/d/e", base={"a/b/c/d/e": (0o700, 5, 5)})
    assert not any("a" in layer for layer in found)
    made = members(tmp_path / "other", workdir="/a/b/c/d/e/f", base={"a/b/c/d/e": (0o700, 5, 5)})
    assert attributes(made, "a/b/c/d/e") == {(0o700, 5, 5)}
    assert attributes(made, "a/b/c/d/e/f") == {(0o755, 1000, 1000)}


def test_file_for_a_folder_of_the_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="has a folder at /usr/bin"):
        members(tmp_path, "/bin")


@pytest.mark.parametrize("path", ["/etc/hostname/x", "/etc/hostname/x/y", "/srv/there/x"])
def test_file_below_a_file_of_the_base_is_refused(tmp_path: Path, path: str) -> None:
    base = {"etc/hostname": b"here\n", "srv/there": "/etc/hostname"}
    with pytest.raises(RenderError, match="has a file at /etc/hostname, where a folder would go"):
        members(tmp_path, path, base=base)


def test_working_directory_that_is_a_file_of_the_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="has a file at /etc/hostname"):
        members(tmp_path, workdir="/etc/hostname", base={"etc/hostname": b"here\n"})


@pytest.mark.parametrize("path", ["bin/python", "bin/python3", "lib64", "pyvenv.cfg"])
def test_wheel_that_would_replace_the_interpreter_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(RenderError, match=rf"alder.*has /opt/env/{path}, which is a file of the environment"):
        members(tmp_path, wheel={"alder.py": b"", f"alder-1.0.data/data/{path}": b"x"})


def test_file_that_a_layer_takes_for_a_removal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"\.wh\.passwd"):
        members(tmp_path, "/etc/.wh.passwd")
