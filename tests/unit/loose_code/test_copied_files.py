"""Files of the user's that an image gets as they are: which go in, under which path, and their digest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagesync.errors import UsageError
from imagesync.image_layout import CopiedFile, ImageOptions
from imagesync.loose_code.copied_files import copied_files

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"


def write(path: Path, content: bytes = b"1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folder_goes_in_with_ignored_files_and_without_secrets_and_history(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / ".gitignore", b"*\n")
    write(folder / ".git" / "config")
    write(folder / ".env", b"TOKEN=1\n")
    write(folder / "keys" / "me.pem", KEY)
    write(folder / "tables" / "a.csv").chmod(0o755)
    (folder / "b.csv").symlink_to("tables/a.csv")
    (folder / "gone.csv").symlink_to("nowhere")
    (entry,), (finding,) = copied_files({folder: "/srv/data/"}, cache=tmp_path / "cache")
    assert entry.target == "/srv/data"
    assert entry.files == (
        CopiedFile("/srv/data/.gitignore", str(folder / ".gitignore"), 2),
        CopiedFile("/srv/data/b.csv", str(folder / "b.csv"), 2, executable=True),
        CopiedFile("/srv/data/tables/a.csv", str(folder / "tables" / "a.csv"), 2, executable=True),
    )
    assert finding.code == "file-secret-left-out"
    assert ".env, keys/me.pem" in finding.message


def test_file_goes_under_its_own_name_into_a_folder_that_ends_with_a_slash(tmp_path: Path) -> None:
    source = write(tmp_path / "odbc.ini")
    for target in ("/etc/odbc.ini", "/etc/"):
        (entry,), _ = copied_files({source: target}, cache=tmp_path)
        assert [file.path for file in entry.files] == [entry.target] == ["/etc/odbc.ini"]


def test_digest_covers_names_modes_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    source = write(tmp_path / "here" / "a.csv")

    def digest(target: str = "/srv/a.csv", folder: Path = source) -> str:
        files, _ = copied_files({folder: target}, cache=tmp_path / "cache")
        return ImageOptions(files=files).digest

    first = digest()
    os.utime(source, (1, 1))
    assert digest() == first == digest(folder=write(tmp_path / "there" / "a.csv"))
    others = [digest("/srv/b.csv")]
    source.chmod(0o755)
    others.append(digest())
    source.write_bytes(b"2\n")
    others.append(digest())
    assert len({first, *others}) == 4
    assert ImageOptions().digest == ""


def test_secret_or_missing_file_or_home_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path, problem in (
        (write(tmp_path / "me.pem", KEY), "looks like a secret"),
        (tmp_path / "gone", "doesn't exist"),
        (tmp_path, "as a whole"),
    ):
        with pytest.raises(UsageError, match=problem):
            copied_files({path: "/srv/x"}, cache=tmp_path / "cache")
