"""What the store goes through: a full disk, corrupt files."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import make_environment
from tests.indexes import LocalIndex

WHEEL = "alder-1.0.0-py3-none-any.whl"


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        # Random bytes, because a wheel of zeros would be small.
        index.add_wheel(
            "alder", "1.0.0", files={"alder/__init__.py": b"", "alder/rings": os.urandom(4_000_000)}
        )
        yield index


@pytest.fixture
def build_cli(
    image_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path, cache_dir: Path
) -> CommandLine:
    local = make_environment(
        tmp_path / "env",
        packages=["alder"],
        python=base_python,
        arguments=["--index-url", index.url, "--no-cache"],
    )
    return image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url, IMAGESYNC_CACHE_DIR=cache_dir
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "imagesync-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk(
    build_cli: CommandLine, small_disk: Path, engine: docker.DockerClient, repository: str
) -> None:
    cli = build_cli.with_environ(IMAGESYNC_CACHE_DIR=small_disk / "store")
    finished = cli.run("build")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    assert str(small_disk) in finished.stderr
    assert "full" in finished.stderr or "No space left" in finished.stderr
    assert sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file()) < 100_000
    assert engine.images.list(repository) == []
    # With room again, the same command goes on as if nothing had been.
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    assert cli("build").reference.startswith(repository)


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_corrupt_artifact_is_fetched_again(
    build_cli: CommandLine, index: LocalIndex, cache_dir: Path, damage: str
) -> None:
    reference = build_cli("build").reference
    (stored,) = [path for path in files(cache_dir) if sha256(path) == index.digest(WHEEL)]
    content = bytearray(stored.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    stored.chmod(0o644)
    stored.write_bytes(content if damage == "flipped" else content[:1000] if damage == "cut" else b"")

    index.forget_requests()
    again = build_cli("build", "--no-cache")
    assert again.reference == reference
    assert index.downloads(WHEEL) == 1
    assert WHEEL in again.stderr
    assert [path for path in files(cache_dir) if sha256(path) == index.digest(WHEEL)] == [stored]
    check = "from importlib.resources import files; print(len(files('alder').joinpath('rings').read_bytes()))"
    assert build_cli("run", "--", "python", "-c", check).stdout == "4000000\n"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
