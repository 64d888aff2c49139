from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import BaseImageError
from imagesync.image.layers.base_contents import AccountFile, BaseContents, read_base
from imagesync.image.layers.base_python import environment_entries
from imagesync.image.layers.layer_stream import layer_members
from imagesync.image.layers.system import system_entries
from imagesync.image.layers.system_files import system_files
from imagesync.registry.config import ContainerConfig, ImageConfig
from imagesync.registry.manifest import LAYER_GZIP, LAYER_ZSTD
from imagesync.registry.oci_image import compose_image
from imagesync.registry.oci_layout import ImageLayout
from tests.oci_images import layer_tar, small_image

Files = dict[str, bytes | str | tuple[int, int, int]]
PYTHON = b"\x7fELF\x00not 3.12.1\x003.11.2\x00 more"
LIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
DEBIAN: Files = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "usr/bin/python3": "python3.11",
    "usr/bin/python3.11": PYTHON,
    "usr/bin/bash": b"",
    "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
    "usr/lib/python3.11/venv/__init__.py": b"context.prompt = '(%s) ' % prompt",
    "usr/lib/python3.11/venv/scripts/common/activate": b'VIRTUAL_ENV="__VENV_DIR__" __VENV_PROMPT__',
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
    "etc/ssl/certs/ca-certificates.crt": b"certificate",
}
# Those of pyenv, where there are any, have other versions of the module venv.
PYENV = sorted(Path("~/.pyenv/versions").expanduser().glob("3.1[0-9].*/bin/python3"))
PYTHONS = [sys._base_executable, *map(str, PYENV)]


def read(tmp_path: Path, *layers: Files, path: str = "/usr/local/bin:/bin") -> BaseContents:
    container = ContainerConfig(env=(f"PATH={path}",))
    image = small_image(ImageLayout(tmp_path / "base"), *layers, container=container)
    found = read_base(image, cache=tmp_path / "cache", progress=SilentProgress())
    shutil.rmtree(tmp_path / "base")
    # By its digest: the layers aren't there any more.
    assert read_base(image, cache=tmp_path / "cache", progress=SilentProgress()) == found
    return found


def test_facts_of_a_base_come_from_its_layers(tmp_path: Path) -> None:
    found = read(tmp_path, DEBIAN)
    assert found.glibc == (2, 36)
    assert (found.python_executable, found.python_target) == ("/bin/python3", "/usr/bin/python3.11")
    assert found.python_version == "3.11.2"
    assert sorted(found.venv) == ["__init__.py", "scripts/common/activate"]
    assert found.accounts["etc/passwd"].content == b"root:x:0:0:root:/root:/bin/sh\n"
    assert found.shell == "/usr/bin/bash"
    assert "opt/env" not in found.present


def test_later_layers_replace_and_remove_files(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        DEBIAN,
        {
            "usr/local/bin/python3": "python3.12",
            "usr/local/bin/python3.12": b"small",
            "usr/local/lib/libpython3.12.so.1.0": b"\x003.12.7\x00",
            "usr/bin/.wh.bash": b"",
            "etc/.wh..wh..opq": b"",
        },
    )
    assert (found.python_executable, found.python_version) == ("/usr/local/bin/python3", "3.12.7")
    assert not found.accounts
    assert found.shell == "/bin/sh"


def test_base_without_python_has_none(tmp_path: Path) -> None:
    found = read(tmp_path, {"etc/passwd": b""})
    assert (found.python_executable, found.python_version, found.glibc) == ("", "", None)


def test_truncated_layer_of_a_base_is_named(tmp_path: Path) -> None:
    layout = ImageLayout(tmp_path / "base")
    layer = layout.add_bytes(b"\x1f\x8b\x08\x00not gzip", LAYER_GZIP)
    image = compose_image(ImageConfig("linux/amd64", ("sha256:" + "a" * 64,)), [layer], layout)
    with pytest.raises(BaseImageError, match=f"The layer {layer.digest} of the base image can't be read"):
        read_base(image, cache=tmp_path / "cache", progress=SilentProgress())


def damaged_layers() -> Iterator[tuple[str, bytes]]:
    import zstandard

    whole = layer_tar({"a": b"1" * 5000, "pax": b""})
    yield LAYER_GZIP, gzip.compress(whole)[:-20]
    yield LAYER_ZSTD, zstandard.compress(whole)[:6] + b"damage" * 9
    # A number of a PAX header that is none, with a right checksum.
    entry = tarfile.TarInfo("b")
    entry.pax_headers = {"GNU.sparse.map": "x,y"}
    yield LAYER_GZIP, gzip.compress(entry.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


def bombs() -> Iterator[bytes]:
    # A header whose name is said to have a gigabyte, and headers that extend one another without end.
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    yield gzip.compress(long_name.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, 1 << 33
    yield gzip.compress(pax.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    empty = tarfile.TarInfo("pax")
    empty.type = tarfile.XHDTYPE
    yield gzip.compress(empty.tobuf(tarfile.USTAR_FORMAT) * 5000 + bytes(1024))


@pytest.mark.parametrize("number", range(3))
def test_layer_that_wants_memory_is_refused(tmp_path: Path, number: int) -> None:
    layout = ImageLayout(tmp_path / "base")
    layer = layout.add_bytes(list(bombs())[number], LAYER_GZIP)
    image = compose_image(ImageConfig("linux/amd64", ("sha256:" + "a" * 64,)), [layer], layout)
    with pytest.raises(BaseImageError, match=f"The layer {layer.digest} of the base image can't be read"):
        read_base(image, cache=tmp_path / "cache", progress=SilentProgress())


def test_layer_of_zeros_and_many_files_takes_little_memory(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("usr/lib/python3.11/venv/scripts/common/activate", "usr/share/zeros"):
            entry = tarfile.TarInfo(name)
            entry.size = 24 << 20
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
        for number in range(4_000):
            archive.addfile(tarfile.TarInfo(f"usr/share/doc/{number}"))
    layout = ImageLayout(tmp_path / "base")
    layer = layout.add_bytes(gzip.compress(content.getvalue(), 1), LAYER_GZIP)
    del content
    image = compose_image(ImageConfig("linux/amd64", ("sha256:" + "a" * 64,)), [layer], layout)
    tracemalloc.start()
    try:
        read_base(image, cache=tmp_path / "cache", progress=SilentProgress())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20


def test_layer_that_unpacks_to_more_than_its_limit_is_an_error(tmp_path: Path) -> None:
    layout = ImageLayout(tmp_path)
    image = small_image(layout, {"a": bytes(100_000)})
    with pytest.raises(OverflowError, match="more than 50 kB uncompressed"):
        list(layer_members(image, image.manifest.layers[0], limit=50_000))


@pytest.mark.parametrize("number", range(3))
def test_damaged_layer_of_a_base_is_an_error_that_names_it(tmp_path: Path, number: int) -> None:
    media_type, content = list(damaged_layers())[number]
    layout = ImageLayout(tmp_path / "base")
    layer = layout.add_bytes(content, media_type)
    image = compose_image(ImageConfig("linux/amd64", ("sha256:" + "a" * 64,)), [layer], layout)
    with pytest.raises(BaseImageError, match=f"The layer {layer.digest} of the base image can't be read"):
        read_base(image, cache=tmp_path / "cache", progress=SilentProgress())


@pytest.mark.parametrize(
    "links",
    [
        {"etc/passwd": "../usr/lib/passwd", "usr/lib/passwd": b"root:x:0:0::/:/bin/sh\n"},
        {"etc": "usr/etc", "usr/etc/passwd": b"root:x:0:0::/:/bin/sh\n"},
    ],
)
def test_accounts_and_certificates_are_found_where_links_lead(tmp_path: Path, links: Files) -> None:
    certificates: Files = {
        "usr/etc/ssl/certs/ca-certificates.crt": "/pki/bundle.pem",
        "etc/ssl/certs": "/usr/etc/ssl/certs",
        "pki/bundle.pem": b"",
    }
    if "etc" in links:
        del certificates["etc/ssl/certs"]
    found = read(tmp_path, {**certificates, **links})
    assert found.accounts["etc/passwd"].content.startswith(b"root:x:0")
    assert "etc/ssl/certs/ca-certificates.crt" in found.present
    written = {entry.path for entry in system_entries(found) if entry.kind == "file"}
    assert {path for path in written if path.endswith("passwd")} == {[*links][1]}
    assert not any(path.endswith("ca-certificates.crt") for path in written)


@pytest.mark.parametrize(
    "files",
    [
        {"opt/env/bin/python": b""},
        {"opt/env": "/usr/local"},
        {"opt/env": (0o755, 0, 0)},
        {"opt": "var/opt", "var/opt/env/x": b""},
    ],
)
def test_environment_of_a_base_is_noticed_without_an_entry_of_its_own(tmp_path: Path, files: Files) -> None:
    assert "opt/env" in read(tmp_path, files).present


def test_whiteouts_are_for_lower_layers_wherever_they_stand(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"etc/passwd": b"old:x:0:0::/:/bin/sh\n", "etc/group": b"old:x:0:\n", "etc/ssl": (0o700, 0, 0)},
        {"etc/passwd": b"new:x:0:0::/:/bin/sh\n", "etc/.wh..wh..opq": b""},
    )
    assert found.accounts.keys() == {"etc/passwd"}
    assert found.accounts["etc/passwd"].content.startswith(b"new")
    assert sorted(found.tree.folders) == ["etc"]


@pytest.mark.parametrize("other", [b"", "elsewhere"])
def test_what_replaces_a_folder_removes_what_was_in_it(tmp_path: Path, other: bytes | str) -> None:
    found = read(tmp_path, {"usr/bin/bash": b"", "usr/lib/x": b""}, {"usr/bin": other})
    assert found.shell == "/bin/sh"
    assert sorted(found.tree.folders) == ["usr", "usr/lib"]


def test_accounts_of_more_than_a_megabyte_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="/etc/passwd of the base image"):
        read(tmp_path, {"etc/passwd": b"x" * 1_100_000})


@pytest.mark.parametrize("python", PYTHONS)
def test_environment_of_a_python_is_that_of_its_module_venv(tmp_path: Path, python: str) -> None:
    code = "import os, platform, sys, venv; print(sys._base_executable, os.path.realpath(sys.executable), "
    code += "platform.python_version(), os.path.dirname(venv.__file__), sep='\\n')"
    run = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True)
    executable, target, version, module = run.stdout.split("\n")[:4]
    prefix = tmp_path / "env"
    subprocess.run([executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    folder = Path(module)
    base = BaseContents(
        python_executable=executable,
        python_target=target,
        python_version=version,
        venv={
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in (
                folder / "__init__.py",
                *folder.glob("scripts/common/*"),
                *folder.glob("scripts/posix/*"),
            )
        },
    )
    found = {
        f"/{entry.path}": (entry.kind, entry.target, b"".join(entry.read()))
        for entry in environment_entries(base, prefix=str(prefix))
        if f"/{entry.path}/".startswith(f"{prefix}/")
    }
    made = {}
    for path in (prefix, *prefix.rglob("*")):
        if path.is_symlink():
            made[str(path)] = ("symlink", str(path.readlink()), b"")
        else:
            made[str(path)] = ("directory", "", b"") if path.is_dir() else ("file", "", path.read_bytes())
    assert found == made


def test_user_is_added_to_the_accounts_of_a_base() -> None:
    shadow = AccountFile(b"root:*:1:0:99999:7:::", 0o640, 0, 42)
    base = BaseContents(
        accounts={"etc/shadow": shadow}, present=frozenset({"etc/ssl/certs/ca-certificates.crt"})
    )
    entries = {entry.path: entry for entry in system_entries(base)}
    assert sorted(entries) == ["etc", "etc/group", "etc/passwd", "etc/shadow", "home", "home/imagesync"]
    assert b"".join(entries["etc/passwd"].read()).endswith(
        b"imagesync:x:1000:1000::/home/imagesync:/bin/sh\n"
    )
    assert (entries["etc/shadow"].mode, entries["etc/shadow"].gid) == (0o640, 42)
    assert b"".join(entries["etc/shadow"].read()).splitlines()[1].startswith(b"imagesync:!:")
    assert (entries["home/imagesync"].mode, entries["home/imagesync"].uid) == (0o1777, 1000)


def test_user_1000_of_a_base_stays_and_certificates_come_from_certifi() -> None:
    passwd = AccountFile(b"ubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n", 0o644, 0, 0)
    group = AccountFile(b"ubuntu:x:1000:\n", 0o644, 0, 0)
    base = BaseContents(accounts={"etc/passwd": passwd, "etc/group": group})
    entries = {entry.path: entry for entry in system_entries(base)}
    assert "etc/passwd" not in entries
    assert b"BEGIN CERTIFICATE" in b"".join(entries["etc/ssl/certs/ca-certificates.crt"].read())


def test_libraries_and_programs_of_a_base_are_those_that_its_linker_and_path_find(tmp_path: Path) -> None:
    files: Files = {
        **DEBIAN,
        "etc/ld.so.conf": b"# folders\ninclude ld.so.conf.d/*.conf\n/opt/lib\n",
        "etc/ld.so.conf.d/x86_64.conf": b"/usr/lib/x86_64-linux-gnu\n",
        "etc/ld.so.conf.d/unread": b"/hidden\n",
        "usr/lib/x86_64-linux-gnu/libgomp.so.1": "libgomp.so.1.0.0",
        "usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0": b"",
        "opt/lib/libown.so": b"",
        "hidden/libhidden.so": b"",
        "usr/lib/README": b"",
        "lib64": "usr/lib64",
        "usr/lib64/ld-linux-x86-64.so.2": b"",
    }
    found = system_files(read(tmp_path, files), {"PATH": "/bin:/nowhere", "LD_LIBRARY_PATH": ""})
    assert found == {
        "libraries": ["ld-linux-x86-64.so.2", "libc.so.6", "libgomp.so.1", "libgomp.so.1.0.0", "libown.so"],
        "programs": ["bash", "python3", "python3.11"],
    }
