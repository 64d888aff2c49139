from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.errors import WheelError
from imagesync.wheels.sources.build_copy import copy_for_build
from imagesync.wheels.sources.source_tree import build_digest, source_files, tree_digest
from tests.commands import git

LONG_AGO = 1_600_000_000


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "project with spaces é"
    write(folder, **{"pyproject.toml": "[project]\n", "pkg__init.py": "a = 1\n", "pkg__data.txt": "data\n"})
    return folder


@pytest.fixture(params=["git", "untracked", "no git"])
def any_tree(tree: Path, request: pytest.FixtureRequest) -> Path:
    if request.param != "no git":
        git(tree, "init", "-q")
    if request.param == "git":
        git(tree, "add", ".")
        git(tree, "commit", "-qm", "first")
    return tree


def test_tree_digest_ignores_times(any_tree: Path) -> None:
    before = tree_digest(any_tree)
    os.utime(any_tree / "pkg/init.py", (LONG_AGO, LONG_AGO))
    assert tree_digest(any_tree) == before
    assert before.startswith("sha256:")
    assert len(before) == 71


def rename(tree: Path) -> None:
    (tree / "pkg/data.txt").rename(tree / "pkg/data2.txt")


def move(tree: Path) -> None:
    (tree / "pkg/data.txt").rename(tree / "data.txt")


def edit(tree: Path) -> None:
    (tree / "pkg/data.txt").write_text("DATA\n")


def make_executable(tree: Path) -> None:
    (tree / "pkg/data.txt").chmod(0o755)


def remove(tree: Path) -> None:
    (tree / "pkg/data.txt").unlink()


def add(tree: Path) -> None:
    (tree / "pkg/new.py").touch()


def replace_by_link(tree: Path) -> None:
    (tree / "pkg/data.txt").unlink()
    (tree / "pkg/data.txt").symlink_to("init.py")


@pytest.mark.parametrize("change", [rename, move, edit, make_executable, remove, add, replace_by_link])
def test_tree_digest_covers_names_modes_and_bytes(
    any_tree: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    before = tree_digest(any_tree, cache=tmp_path / "cache")
    change(any_tree)
    after = tree_digest(any_tree, cache=tmp_path / "cache")
    assert after != before
    assert after == tree_digest(any_tree)


def test_tree_digest_covers_targets_of_links(any_tree: Path) -> None:
    link = any_tree / "link"
    link.symlink_to("pkg/init.py")
    before = tree_digest(any_tree)
    link.unlink()
    link.symlink_to("pkg/data.txt")
    assert tree_digest(any_tree) != before


def test_tree_digest_ignores_caches_and_outputs(any_tree: Path) -> None:
    before = tree_digest(any_tree)
    write(
        any_tree,
        **{
            "pkg____pycache____init.cpython-311.pyc": "",
            "pkg__old.pyc": "",
            "build__lib__pkg__init.py": "",
            "dist__pkg.whl": "",
            "pkg.egg-info__PKG-INFO": "",
            ".venv__pyvenv.cfg": "",
            ".mypy_cache__x": "",
        },
    )
    assert tree_digest(any_tree) == before


def test_tree_digest_covers_a_module_called_build(any_tree: Path) -> None:
    before = tree_digest(any_tree)
    write(any_tree, pkg__build__mod="")
    assert tree_digest(any_tree) != before


def test_tree_digest_ignores_virtual_environments_without_git(tree: Path) -> None:
    before = tree_digest(tree)
    write(tree, **{"myenv__pyvenv.cfg": "", "myenv__lib__x.py": ""})
    assert tree_digest(tree) == before


def test_tree_digest_ignores_files_that_git_ignores(tree: Path) -> None:
    git(tree, "init", "-q")
    write(tree, **{".gitignore": "*.log\n/secret\n"})
    before = tree_digest(tree)
    write(tree, **{"a.log": "", "secret__key": ""})
    assert tree_digest(tree) == before
    write(tree, pkg__secret__x="")
    assert tree_digest(tree) != before


def test_tree_digest_ignores_commits(tree: Path) -> None:
    git(tree, "init", "-q")
    before = tree_digest(tree)
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "first")
    git(tree, "tag", "v1")
    assert tree_digest(tree) == before


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ('requires = ["setuptools_scm>=8"]\n', True),
        ('requires = ["hatch-vcs"]\n', True),
        ("[tool.versioneer]\n", True),
        ('Source = "https://github.com/me/project.git"\n', False),
        ('dependencies = ["one @ git+https://example.com/one"]\n', False),
        ("run = ['git', 'describe']\n", True),
        ("", False),
    ],
)
def test_build_digest_covers_commits_and_tags_where_the_build_asks_git(
    tree: Path, text: str, asks: bool
) -> None:
    (tree / "pyproject.toml").write_text(text)
    git(tree, "init", "-q")
    digests = [build_digest(tree)]
    for command in (("add", "."), ("commit", "-qm", "same files"), ("tag", "v9")):
        git(tree, *command)
        digests.append(build_digest(tree))
    assert len(set(digests)) == (3 if asks else 1)


def test_tree_digest_only_covers_files_below_the_folder(tree: Path) -> None:
    git(tree, "init", "-q")
    write(tree, **{"inner [x]__mod.py": "", "inner [x]__build__mod.py": ""})
    inner = tree / "inner [x]"
    assert source_files(inner) == ["mod.py"]
    before = tree_digest(inner)
    edit(tree)
    assert tree_digest(inner) == before


def test_tree_digest_covers_a_folder_that_its_repository_ignores(tree: Path) -> None:
    git(tree, "init", "-q")
    write(tree, **{".gitignore": "vendor/\n", "vendor__mod.py": ""})
    assert source_files(tree / "vendor") == ["mod.py"]


def test_tree_digest_covers_submodules(tree: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library, **{"lib.py": ""})
    git(library, "init", "-q")
    git(library, "add", ".")
    git(library, "commit", "-qm", "first")
    git(tree, "init", "-q")
    git(tree, "submodule", "--quiet", "add", library.as_uri(), "sub")
    assert "sub/lib.py" in source_files(tree)
    before = tree_digest(tree)
    (tree / "sub/lib.py").write_text("a = 2\n")
    assert tree_digest(tree) != before


def test_tree_digest_works_in_a_git_hook(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tree, "init", "-q")
    write(tree, **{".gitignore": "*.log\n", "a.log": ""})
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert "a.log" not in source_files(tree)


def test_repository_of_another_owner_is_read(tree: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    git(tree, "init", "-q")
    write(tree, **{".gitignore": "*.log\n", "a.log": ""})
    for path in (tree, tree / ".git"):
        os.chown(path, 12345, 12345)
    assert "a.log" not in source_files(tree)


def test_tree_digest_without_git_covers_all_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tree, "init", "-q")
    monkeypatch.setenv("PATH", os.fspath(tree))
    assert sorted(source_files(tree)) == ["pkg/data.txt", "pkg/init.py", "pyproject.toml"]


def test_missing_source_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="nowhere is gone") as raised:
        tree_digest(tmp_path / "nowhere")
    assert raised.value.hint


def settle(tree: Path) -> None:
    """Make *tree* look old; only the kernel sets change times, so copy what is racy another day."""
    for path in tree.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


@pytest.mark.parametrize(
    "content", [b"", b"\0\xff", b'{"format": 1}\n', b"[]\n[]\n", b'{"format": 1}\n{"a": 1}\n']
)
def test_damaged_cache_is_ignored(tree: Path, tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "cache"
    expected = tree_digest(tree, cache=cache)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert tree_digest(tree, cache=cache) == expected


def test_cache_that_cannot_be_written_is_no_error(tree: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert tree_digest(tree, cache=blocked / "cache") == tree_digest(tree)


def test_edit_that_keeps_size_and_time_changes_the_digest(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settle(tree)
    before = tree_digest(tree, cache=cache)
    (tree / "pkg/data.txt").write_text("DATA\n")
    settle(tree)
    assert tree_digest(tree, cache=cache) != before


class TestBuildCopy:
    def test_copy_is_the_tree(self, any_tree: Path, tmp_path: Path) -> None:
        (any_tree / "link").symlink_to("pkg/init.py")
        make_executable(any_tree)
        copy = copy_for_build(any_tree, tmp_path / "copy").folder
        assert sorted(source_files(copy)) == sorted(source_files(any_tree))
        assert tree_digest(copy) == tree_digest(any_tree)

    def test_writing_into_the_copy_leaves_the_tree_alone(self, any_tree: Path, tmp_path: Path) -> None:
        before = tree_digest(any_tree)
        (any_tree / "pkg/init.py").chmod(0o444)
        copy = copy_for_build(any_tree, tmp_path / "copy").folder
        edit(copy)
        (copy / "pkg/init.py").write_text("changed")
        assert tree_digest(any_tree) == before

    def test_git_sees_the_history_and_a_clean_tree(self, tree: Path, tmp_path: Path) -> None:
        write(tree, **{"inner__pyproject.toml": "", "outer__x": ""})
        git(tree, "init", "-q")
        git(tree, "remote", "add", "origin", "https://me:secret@example.com/x.git")
        git(tree, "add", ".")
        git(tree, "commit", "-qm", "first")
        git(tree, "tag", "v1.5")
        copy = copy_for_build(tree / "inner", tmp_path / "copy").folder
        assert git(copy, "describe", "--dirty", "--tags") == "v1.5"
        write(tree, **{"inner__pyproject.toml": "changed"})
        dirty = copy_for_build(tree / "inner", tmp_path / "dirty").folder
        assert git(dirty, "describe", "--dirty", "--tags") == "v1.5-dirty"
        assert "secret" not in (tmp_path / "copy/.git/config").read_text()

    def test_files_beside_and_above_can_be_named(self, tree: Path, tmp_path: Path) -> None:
        git(tree, "init", "-q")
        write(tree, **{"README.md": "read me", "a__inner__mod.py": "", "a__other__x": "x"})
        copy = copy_for_build(tree / "a/inner", tmp_path / "copy").folder
        assert (copy / "../../README.md").resolve().read_text() == "read me"
        assert (tmp_path / "copy/a/other/x").read_text() == "x"

    def test_ignored_files_can_be_built_in(self, tree: Path, tmp_path: Path) -> None:
        git(tree, "init", "-q")
        write(
            tree,
            **{".gitignore": "*_pb2.py\nbuild\n", "pkg__x_pb2.py": "generated", "build__lib__stale.py": ""},
        )
        copy = copy_for_build(tree, tmp_path / "copy").folder
        assert (copy / "pkg/x_pb2.py").read_text() == "generated"
        assert not (copy / "build").exists()

    def test_copy_has_the_files_of_links_where_there_are_no_links(
        self, any_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (any_tree / "link").symlink_to("pkg/init.py")
        (any_tree / "outside").symlink_to(tmp_path / "far.txt")
        (tmp_path / "far.txt").write_text("far")

        def refuse(*_: object, **__: object) -> None:
            raise OSError(1314, "A required privilege is not held by the client")  # as on Windows

        monkeypatch.setattr(Path, "symlink_to", refuse)
        copy = copy_for_build(any_tree, tmp_path / "copy").folder
        assert (copy / "link").read_bytes() == (any_tree / "pkg/init.py").read_bytes()
        assert (copy / "outside").read_text() == "far"
        assert not (copy / "link").is_symlink()

    def test_build_writes_into_its_copy_alone(self, tree: Path, tmp_path: Path) -> None:
        names = ("_version.py", "data/a.bin", "data/deep/b.bin", "pkg/_native.so")
        (tree / "inner").mkdir()
        write(
            tree, **{".gitignore": "_version.py\ndata/\n*.so\n", "inner__mod.py": "", "inner__.gitignore": ""}
        )
        for name in (*names, *(f"inner/{name}" for name in names)):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(b"mine" * (1 << 19))
        (tree / "data/link").symlink_to("deep")
        git(tree, "init", "-q")
        before = state_of(tree)
        staged = copy_for_build(tree / "inner", tmp_path / "copy")
        for folder in (staged.folder, staged.folder.parent):
            for name in names:
                assert (folder / name).read_bytes() == (tree / name).read_bytes()
                (folder / name).write_bytes(b"the build's")
                (folder / name).with_name("new").write_bytes(b"the build's")
            (folder / "data/deep/b.bin").unlink()
        (staged.folder.parent / "data/link/new").write_bytes(b"the build's")
        assert state_of(tree) == before
        assert staged.untracked.changed() == []

    def test_large_ignored_folder_is_linked_file_by_file(self, tree: Path, tmp_path: Path) -> None:
        (tree / ".gitignore").write_text("data/\nsmall/\n")
        git(tree, "init", "-q")
        for count in range(1100):
            write(tree, **{f"data__{count}": "mine"})
        write(tree, small__x="mine")
        before = state_of(tree)
        staged = copy_for_build(tree, tmp_path / "copy")
        assert (staged.folder / "data/1").is_symlink()
        (staged.folder / "data/new").write_text("the build's")
        (staged.folder / "data/1").unlink()
        (staged.folder / "small/x").write_text("the build's")
        (tmp_path / "other").write_text("the build's")
        (tmp_path / "other").replace(staged.folder / "data/2")
        assert state_of(tree) == before
        assert staged.untracked.changed() == []
        (staged.folder / "data/3").write_text("the build wrote over it")
        assert staged.untracked.changed() == [str(tree / "data/3")]


def rename_in_index(tree: Path, name: str) -> None:
    """Give a file in the index of *tree* the path *name*, which git itself refuses to add."""
    placeholder = "x" * len(name)
    write(tree, **{placeholder: "placeholder"})
    git(tree, "add", ".")
    (tree / placeholder).unlink()
    index = (tree / ".git/index").read_bytes()[:-20].replace(placeholder.encode(), name.encode())
    (tree / ".git/index").write_bytes(index + hashlib.sha1(index).digest())


@pytest.mark.parametrize(
    "name", ["../outside", "pkg/../../outside", "pkg/..", "{absolute}", ".git/hooks/own", "pkg/.GIT/config"]
)
def test_hostile_index_adds_nothing_to_a_copy(tree: Path, tmp_path: Path, name: str) -> None:
    git(tree, "init", "-q")
    name = name.format(absolute=tmp_path / "absolute")
    rename_in_index(tree, name)
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    if not (tree / name).exists():
        (tree / name).write_text("hostile")
    into = tmp_path / "deep/er/copy"
    assert name in git(tree, "ls-files", "-z").split("\0")
    assert sorted(copy_for_build(tree, into).files) == ["pkg/data.txt", "pkg/init.py", "pyproject.toml"]
    assert [path.name for path in (tmp_path / "deep").rglob("*") if path.name in ("outside", "own")] == []


@pytest.mark.parametrize("is_ignored", [False, True])
def test_copy_writes_nothing_through_a_link_that_replaced_a_folder(
    tree: Path, tmp_path: Path, is_ignored: bool
) -> None:
    git(tree, "init", "-q")
    git(tree, "add", ".")
    (tree / "pkg").rename(tmp_path / "moved")
    (tree / "pkg").symlink_to(tmp_path / "moved")
    (tree / ".gitignore").write_text("/pkg\n" if is_ignored else "")
    before = state_of(tmp_path / "moved")
    copy = copy_for_build(tree, tmp_path / "copy")
    assert set(copy.files) == {".gitignore", "pyproject.toml"} | (set() if is_ignored else {"pkg"})
    assert (copy.folder / "pkg").readlink() == tmp_path / "moved"
    assert state_of(tmp_path / "moved") == before


def state_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
