"""What programs share about distributions: names, paths of a wheel's members, and safe extraction."""

from __future__ import annotations

import importlib.metadata
import io
import stat
import zipfile
from pathlib import Path

import pytest

from imagesync.standalone.distributions import extract, identity, installed_path


def archive(*members: tuple[str, str, int]) -> io.BytesIO:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as target:
        for name, text, mode in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            target.writestr(member, text)
    content.seek(0)
    return content


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py"])
def test_member_outside_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with pytest.raises(ValueError, match="leads out"):
        extract(archive((name, "evil", 0o100644)), str(tmp_path / "inside"))
    assert not list(tmp_path.glob("**/evil.py"))


def test_member_behind_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    link = ("out", "..", stat.S_IFLNK | 0o777)
    with pytest.raises(ValueError, match="leads out"):
        extract(archive(link, ("out/evil.py", "evil", 0o100644)), str(tmp_path / "inside"))
    assert not list(tmp_path.glob("**/evil.py"))


def test_links_and_executables_are_extracted_as_such(tmp_path: Path) -> None:
    members = (
        ("run.sh", "run", 0o100755),
        ("a/b.py", "b", 0o100644),
        ("link", "a/b.py", stat.S_IFLNK | 0o777),
    )
    files = extract(archive(*members), str(tmp_path))
    assert [Path(path).relative_to(tmp_path.resolve()).as_posix() for path in files] == ["run.sh", "a/b.py"]
    assert (tmp_path / "run.sh").stat().st_mode & 0o111
    assert not (tmp_path / "a" / "b.py").stat().st_mode & 0o111
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "b"


@pytest.mark.parametrize(
    ("member", "path"),
    [
        ("a/b.py", "a/b.py"),
        ("a-1.0.data/purelib/a/b.py", "a/b.py"),
        ("a-1.0.data/platlib/a/b.so", "a/b.so"),
        ("a-1.0.data/scripts/b", ""),
        ("a-1.0.dist-info/METADATA", "a-1.0.dist-info/METADATA"),
    ],
)
def test_member_of_a_wheel_has_its_path_below_site_packages(member: str, path: str) -> None:
    assert installed_path(member) == path


@pytest.mark.parametrize(
    ("folder", "metadata", "expected"),
    [
        ("a-1.dist-info", b"Name: A\nVersion: 1\n\nVersion: 2\n", ("A", "1")),
        ("a-1.dist-info", b"Author: Ren\xe9\nname: A\nVersion: 1\n", ("A", "1")),
        ("a-1.dist-info", b"Version: 1\n", ("", "1")),
        ("a-1.dist-info", None, ("", "")),
    ],
)
def test_identity_of_a_distribution_is_read_from_odd_metadata_too(
    tmp_path: Path, folder: str, metadata: bytes | None, expected: tuple[str, str]
) -> None:
    (tmp_path / folder).mkdir()
    if metadata is not None:
        (tmp_path / folder / "METADATA").write_bytes(metadata)
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    assert identity(found) == expected
