from __future__ import annotations

import io
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import WheelError
from imagesync.lock.lock import Target
from imagesync.wheels.sources.origin import unpack_sdist
from imagesync.wheels.wheel_checks import check_identity, check_wheel, fits
from tests.archives import damaged_zip
from tests.indexes.wheels import make_sdist, make_wheel

TARGET = Target(LINUX_AMD64, "3.11.2", (2, 36))
PURE = "demo-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp311-cp311-linux_x86_64", True),
        ("cp311-cp311-manylinux_2_36_x86_64", True),
        ("cp38-abi3-manylinux2014_x86_64", True),
        ("cp311-cp311-manylinux_2_37_x86_64", False),
        ("cp312-cp312-linux_x86_64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("cp311-cp311-macosx_14_0_arm64", False),
        ("cp311-cp311-linux_aarch64", False),
        ("nonsense", False),
    ],
)
def test_wheel_fits_by_its_tags(tag: str, expected: bool) -> None:
    assert fits(f"demo-1.0-{tag}.whl", TARGET) is expected


def write_wheel(folder: Path, *, filename: str = PURE, mode: int = 0o644, **members: bytes) -> Path:
    path = folder / filename
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "C:/x", "c:x", "..\\x"])
def test_wheel_with_a_path_outside_of_its_prefix_is_refused(tmp_path: Path, name: str) -> None:
    wheel = write_wheel(tmp_path, **{name: b""})
    with pytest.raises(WheelError, match="leads out"):
        check_wheel(wheel, filename=PURE, target=TARGET)


def test_wheel_with_a_link_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, mode=stat.S_IFLNK | 0o777, link=b"/etc/passwd")
    with pytest.raises(WheelError, match="symbolic link"):
        check_wheel(wheel, filename=PURE, target=TARGET)


def test_wheel_with_dots_in_names_is_accepted(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, **{"a..b/x..py": b"", ".hidden": b""})
    check_wheel(wheel, filename=PURE, target=TARGET)


def test_damaged_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / PURE).write_bytes(make_wheel("demo", "1.0")[1][:-30])
    with pytest.raises(WheelError, match=r"demo-1\.0-py3-none-any\.whl is damaged"):
        check_wheel(tmp_path / PURE, filename=PURE, target=TARGET)


def test_wheel_with_a_damaged_member_is_named(tmp_path: Path) -> None:
    filename = "demo-1.0-cp311-cp311-linux_x86_64.whl"
    (tmp_path / filename).write_bytes(damaged_zip({"demo/a.so": b"elf" * 99}, method=zipfile.ZIP_LZMA))
    with pytest.raises(WheelError, match=r"linux_x86_64\.whl is damaged"):
        check_wheel(tmp_path / filename, filename=filename, target=TARGET)


def test_library_for_a_newer_glibc_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text(
        "#include <stdlib.h>\nlong f(const char *s) { return strtol(s, 0, 10) + (long)malloc(1); }\n"
    )
    library = tmp_path / "x.so"
    # Of glibc 2.34 are the functions that moved from libpthread into libc.
    source.write_text(
        source.read_text() + "#include <pthread.h>\nint g(void) { return pthread_key_create(0, 0); }\n"
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    filename = "demo-1.0-cp311-cp311-linux_x86_64.whl"
    wheel = write_wheel(tmp_path, filename=filename, **{"demo/x.so": library.read_bytes()})
    check_wheel(wheel, filename=filename, target=TARGET)
    with pytest.raises(WheelError, match=r"demo/x.so needs glibc 2\.34, and the image has 2\.31") as raised:
        check_wheel(wheel, filename=filename, target=Target(LINUX_AMD64, "3.11.2", (2, 31)))
    assert raised.value.hint


def test_wheel_of_another_name_is_refused() -> None:
    assert str(check_identity(PURE, name="demo")) == "1.0"
    with pytest.raises(WheelError, match="another name"):
        check_identity(PURE, name="other")


class TestUnpackedSdists:
    def test_tar_is_unpacked(self, tmp_path: Path) -> None:
        filename, content = make_sdist("demo", "1.0")
        (tmp_path / filename).write_bytes(content)
        folder = unpack_sdist(tmp_path / filename, tmp_path / "out", name="demo")
        assert folder == tmp_path / "out/demo-1.0"
        assert (folder / "pyproject.toml").is_file()

    def test_zip_is_unpacked(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "demo.zip", "w") as archive:
            archive.writestr("demo-1.0/pyproject.toml", "")
        assert (
            unpack_sdist(tmp_path / "demo.zip", tmp_path / "out", name="demo") / "pyproject.toml"
        ).is_file()

    @pytest.mark.parametrize(
        "members",
        [
            [("/etc/x", tarfile.REGTYPE, "")],
            [("../x", tarfile.REGTYPE, "")],
            [("a/../../x", tarfile.REGTYPE, "")],
            [("a", tarfile.SYMTYPE, "/etc")],
            [("a", tarfile.SYMTYPE, "..")],
            [("d/a", tarfile.SYMTYPE, "../../x")],
            [("a", tarfile.SYMTYPE, "."), ("a/b", tarfile.SYMTYPE, "../x")],
            [("a/l", tarfile.SYMTYPE, "m/../../x"), ("a/m", tarfile.SYMTYPE, ".")],
            [
                ("l", tarfile.SYMTYPE, "a/b/../../x"),
                ("d/d", tarfile.DIRTYPE, ""),
                ("a", tarfile.SYMTYPE, "d/d/.."),
                ("d/b", tarfile.SYMTYPE, ".."),
            ],
            [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a")],
            [("a", tarfile.LNKTYPE, "/etc/passwd")],
            [("a", tarfile.CHRTYPE, "")],
            [("a", tarfile.FIFOTYPE, "")],
        ],
    )
    def test_what_leads_out_is_refused(self, tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
        archive = tmp_path / "in/demo.tar.gz"
        archive.parent.mkdir()
        with tarfile.open(archive, "w:gz") as tar:
            for name, kind, link in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, link
                tar.addfile(info, io.BytesIO())
        out = tmp_path / "deep/er/out"
        out.parent.mkdir(parents=True)
        with pytest.raises(WheelError, match="can't be unpacked"):
            unpack_sdist(archive, out, name="demo")
        assert sorted(path.name for path in tmp_path.rglob("*") if path.name == "x") == []

    def test_damaged_one_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "demo-1.0.tar.gz").write_bytes(b"nothing")
        with pytest.raises(WheelError, match=r"demo-1\.0\.tar\.gz"):
            unpack_sdist(tmp_path / "demo-1.0.tar.gz", tmp_path / "out", name="demo")
