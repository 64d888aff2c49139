"""Files of the user's that an image gets as they are: which go in, under which path, and their digest."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from imagesync.engine.build_context import stream_files
from imagesync.errors import RenderError, UsageError, WheelError
from imagesync.image import dockerfile_options
from imagesync.image.layers.code_parts import files_request
from imagesync.image.layers.compression import compression_of
from imagesync.image.layers.folder_tree import FolderTree
from imagesync.image.layers.parts import PartStore
from imagesync.image_layout import CopiedFile, ImageOptions
from imagesync.loose_code.copied_files import copied_files
from imagesync.store.store import Store

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"


def write(path: Path, content: bytes = b"1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
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
    (entry,), (no_file, secret) = copied_files({folder: "/srv/data/"}, cache=tmp_path / "cache")
    assert entry.target == "/srv/data"
    ignore, data = sha256(b"*\n").hexdigest(), sha256(b"1\n").hexdigest()
    assert entry.files == (
        CopiedFile("/srv/data/.gitignore", str(folder / ".gitignore"), 2, sha256=ignore),
        CopiedFile("/srv/data/b.csv", str(folder / "b.csv"), 2, executable=True, sha256=data),
        CopiedFile(
            "/srv/data/tables/a.csv", str(folder / "tables" / "a.csv"), 2, executable=True, sha256=data
        ),
    )
    assert (no_file.code, secret.code) == ("file-left-out", "file-secret-left-out")
    assert "lead nowhere: gone.csv." in no_file.message
    assert ".env, keys/me.pem" in secret.message


def test_file_goes_under_its_own_name_into_a_folder_that_ends_with_a_slash(tmp_path: Path) -> None:
    source = write(tmp_path / "odbc.ini")
    for target in ("/etc/odbc.ini", "/etc/", "//etc/./odbc.ini"):
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
    assert digest(folder=write(tmp_path / "there" / "other.csv")) == first
    others = [digest("/srv/b.csv")]
    source.chmod(0o755)
    others.append(digest())
    source.write_bytes(b"2\n")
    others.append(digest())
    assert len({first, *others}) == 4
    assert ImageOptions().digest == ""


def test_folder_that_reaches_into_the_environment_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data" / "env" / "lib" / "x")
    with pytest.raises(UsageError, match="/opt/env/lib/x"):
        copied_files({tmp_path / "data": "/opt"}, cache=tmp_path / "cache")
    write(tmp_path / "env")
    with pytest.raises(UsageError, match="/opt/env"):
        copied_files({tmp_path / "env": "/opt/"}, cache=tmp_path / "cache")


def test_secret_or_missing_file_or_home_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path, problem in (
        (write(tmp_path / "me.pem", KEY), "looks like a secret"),
        (write(tmp_path / ".npmrc"), "looks like a secret"),
        (write(tmp_path / ".aws" / "cli" / "cache.db"), "looks like a secret"),
        (tmp_path / ".aws", "looks like a secret"),
        (link(tmp_path / "linked.db", tmp_path / ".aws" / "cli" / "cache.db"), "looks like a secret"),
        (link(tmp_path / "linked", tmp_path / ".aws"), "looks like a secret"),
        (write(tmp_path / "mine" / "pyvenv.cfg").parent, "is an environment"),
        (tmp_path / "gone", "doesn't exist"),
        (tmp_path, "as a whole"),
    ):
        with pytest.raises(UsageError, match=problem):
            copied_files({path: "/srv/x"}, cache=tmp_path / "cache")


def test_linked_folders_are_followed_but_not_to_secrets_in_circles_or_into_environments(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    write(tmp_path / "shared" / "a.csv")
    link(folder / "shared", tmp_path / "shared")
    link(tmp_path / "shared" / "back", folder)
    link(folder / "up", tmp_path)
    write(folder / "mine" / "pyvenv.cfg")
    write(tmp_path / ".aws" / "credentials")
    link(folder / "aws", tmp_path / ".aws")
    link(folder / "plain.txt", tmp_path / ".aws" / "credentials")
    (entry,), findings = copied_files({folder: "/srv/data"}, cache=tmp_path / "cache")
    assert [file.path for file in entry.files] == ["/srv/data/shared/a.csv"]
    messages = [finding.message for finding in findings]
    assert [message.rpartition(": ")[2] for message in messages] == [
        "mine.",
        "up, shared/back.",
        "aws, plain.txt.",
    ]


def test_folder_of_which_nothing_goes_in_is_left_out_with_a_finding(tmp_path: Path) -> None:
    write(tmp_path / "secret" / ".env")
    (tmp_path / "empty").mkdir()
    for name, number in (("secret", 2), ("empty", 1)):
        files, findings = copied_files({tmp_path / name: "/srv/x"}, cache=tmp_path / "cache")
        assert files == ()
        assert len(findings) == number
        assert findings[-1].code == "file-left-out"


def test_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)  # root may read everything
    with pytest.raises(WheelError, match="Permission denied"):
        copied_files({tmp_path: "/srv/x"}, cache=tmp_path / "cache")


@pytest.mark.parametrize("later", [b"2\n", b"longer\n", b""])
def test_file_that_changes_before_it_is_in_the_image_is_an_error(tmp_path: Path, later: bytes) -> None:
    source = write(tmp_path / "data" / "a.csv")
    files, _ = copied_files({source.parent: "/srv/data"}, cache=tmp_path / "cache")
    parts = PartStore(Store(tmp_path / "store"), compression_of("gzip"))
    context = tuple(dockerfile_options.copied_files(ImageOptions(files=files)))
    source.write_bytes(later)
    with pytest.raises(RenderError, match=r"a\.csv changed while"):
        list(stream_files(context))
    with pytest.raises(RenderError, match=r"a\.csv changed while"):
        parts.get(files_request(files, FolderTree()))
    source.write_bytes(b"1\n")
    assert set(parts.get(files_request(files, FolderTree())).folders) == {"srv", "srv/data"}
    assert b"1\n" in b"".join(stream_files(context))
