"""Locking again what hasn't changed: the same answer, and nobody is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex

LOCK = ("lock", "--profile", "none", "--ignore", "not-here", "--format", "json")


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0")
        index.add_wheel("birch", "2.1.0")
        index.add_wheel("birch", "2.2.0")
        yield index


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    arguments = ["--index-url", index.url]
    packages = ["alder", "birch==2.1.0"]
    return make_environment(tmp_path / "env", packages=packages, python=base_python, arguments=arguments)


@pytest.fixture
def own_cli(
    image_cli: CommandLine, index: LocalIndex, local: LocalEnvironment, cache_dir: Path
) -> CommandLine:
    return image_cli.with_environ(
        PIP_INDEX_URL=index.url, IMAGESYNC_CACHE_DIR=cache_dir, VIRTUAL_ENV=local.prefix
    )


def notes(cache_dir: Path) -> list[Path]:
    return sorted((cache_dir / "answers").glob("lock-*"))


def forget_answers(index: LocalIndex, cache_dir: Path) -> None:
    """Forget what the index said of each version, so that a lock that is made anew asks it."""
    for path in {*(cache_dir / "answers").iterdir()} - {*notes(cache_dir)}:
        path.unlink()
    index.forget_requests()


def test_the_same_again_asks_no_index(own_cli: CommandLine, index: LocalIndex, cache_dir: Path) -> None:
    first = own_cli(*LOCK)
    assert [package["name"] for package in first.json()["packages"]] == ["alder", "birch"]
    forget_answers(index, cache_dir)
    second = own_cli(*LOCK)
    assert second.stdout == first.stdout
    assert index.requests == []
    for said in (first.stderr, second.stderr):
        assert "not-here" in said


def other_version(
    cli: CommandLine, local: LocalEnvironment, index: LocalIndex, cache_dir: Path
) -> CommandLine:
    local.install("--index-url", index.url, "birch==2.2.0")
    return cli


def other_setting(
    cli: CommandLine, local: LocalEnvironment, index: LocalIndex, cache_dir: Path
) -> CommandLine:
    return cli.with_environ(IMAGESYNC_STRICT="true")


def other_index(cli: CommandLine, local: LocalEnvironment, index: LocalIndex, cache_dir: Path) -> CommandLine:
    return cli.with_environ(PIP_EXTRA_INDEX_URL=f"{index.url}?again")


def pip_configured(
    cli: CommandLine, local: LocalEnvironment, index: LocalIndex, cache_dir: Path
) -> CommandLine:
    (local.prefix / "pip.conf").write_text("[global]\ntimeout = 7\n")
    return cli


def broken_note(cli: CommandLine, local: LocalEnvironment, index: LocalIndex, cache_dir: Path) -> CommandLine:
    (note,) = notes(cache_dir)
    note.write_text(note.read_text()[:-9])
    return cli


def old_note(cli: CommandLine, local: LocalEnvironment, index: LocalIndex, cache_dir: Path) -> CommandLine:
    (note,) = notes(cache_dir)
    note.write_text(note.read_text().replace('"time": ', '"time": -'))
    return cli


@pytest.mark.parametrize(
    "change", [other_version, other_setting, other_index, pip_configured, broken_note, old_note]
)
def test_what_has_changed_is_locked_anew(
    change: Callable[[CommandLine, LocalEnvironment, LocalIndex, Path], CommandLine],
    own_cli: CommandLine,
    local: LocalEnvironment,
    index: LocalIndex,
    cache_dir: Path,
) -> None:
    own_cli(*LOCK)
    changed = change(own_cli, local, index, cache_dir)
    forget_answers(index, cache_dir)
    versions = {package["name"]: package["version"] for package in changed(*LOCK).json()["packages"]}
    assert any("birch" in request.path for request in index.requests)
    assert versions["birch"] == ("2.2.0" if change is other_version else "2.1.0")


def test_another_base_is_another_lock(
    own_cli: CommandLine, root_image: str, cache_dir: Path, index: LocalIndex
) -> None:
    own_cli(*LOCK)
    forget_answers(index, cache_dir)
    own_cli(*LOCK, "--apt", "hostname")
    assert index.requests != []
    assert len(notes(cache_dir)) == 2


def test_code_of_this_machine_is_looked_at_each_time(
    own_cli: CommandLine, local: LocalEnvironment, tmp_path: Path, cache_dir: Path
) -> None:
    project = tmp_path / "mine"
    (project / "mine").mkdir(parents=True)
    (project / "mine" / "__init__.py").write_text("")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "none"\n[project]\nname = "mine"\nversion = "1"\n'
    )
    (local.site_packages / "mine-1.dist-info").mkdir()
    (local.site_packages / "mine-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mine\nVersion: 1\n"
    )
    (local.site_packages / "mine-1.dist-info" / "direct_url.json").write_text(
        f'{{"url": "{project.as_uri()}", "dir_info": {{"editable": true}}}}'
    )
    first = own_cli(*LOCK).json()["vendored"]
    (project / "mine" / "__init__.py").write_text("changed = True\n")
    second = own_cli(*LOCK).json()["vendored"]
    assert [package["name"] for package in first] == ["mine"]
    assert first != second
    assert notes(cache_dir) == []
