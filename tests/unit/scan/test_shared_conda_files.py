"""Files of several conda packages: which package's file is installed, by py-rattler and by micromamba."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import rattler

from imagesync.scan.conda.conda_meta import read_record_files
from imagesync.scan.conda.shared_files import shared_files
from imagesync.scan.environment import CondaRecord, Interpreter
from tests.channels.channel import make_channel
from tests.channels.environments import solve
from tests.integration.shared_conda_packages import shared_packages

STAND_IN = Path(__file__).parents[2] / "micromamba_stand_in.py"
NAMES = ("birch-files", "cedar-files")
DIFFERENT = {"lib/wood.bin", "share/wood/link", "share/wood/text"}


def found(prefix: Path) -> Mapping[str, tuple[str, ...]]:
    python = Interpreter("cpython", "3.11.7", "linux-x86_64", "", "", str(prefix), str(prefix))
    return shared_files(records(prefix), python)


def records(prefix: Path) -> list[CondaRecord]:
    files = read_record_files(sorted(map(str, (prefix / "conda-meta").glob("*.json"))), [])
    return [file.record for file in files]


@pytest.fixture(scope="module")
def channel_of_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packages = [package for package in shared_packages() if package.name in NAMES]
    return make_channel(tmp_path_factory.mktemp("shared") / "channel", packages)


@pytest.fixture(params=["rattler", "birch-files", "cedar-files"])
def made(request: pytest.FixtureRequest, channel_of_shared: Path, tmp_path: Path) -> Path:
    """Return an environment made by rattler, or by micromamba with that package last."""
    prefix = tmp_path / "env"
    if request.param == "rattler":
        records = solve([channel_of_shared], NAMES, platform="linux-64")
        asyncio.run(rattler.install(records, prefix, cache_dir=tmp_path / "cache", show_progress=False))
        return prefix
    archives = {path.name.partition("-1.0")[0]: path for path in channel_of_shared.rglob("*.conda")}
    last = archives.pop(request.param)
    explicit = tmp_path / "explicit.txt"
    explicit.write_text("\n".join(["@EXPLICIT", *(f"file://{path}" for path in (*archives.values(), last))]))
    command = [sys.executable, STAND_IN, "create", "--prefix", prefix, "--file", explicit]
    subprocess.run(command, check=True, capture_output=True)
    return prefix


def test_owner_is_the_package_whose_file_is_installed(made: Path) -> None:
    owner = (made / "share" / "wood" / "text").read_text().partition(" ")[0] + "-files"
    mode = "+x" if os.access(made / "share" / "wood" / "same", os.X_OK) else "-x"
    assert found(made) == {**dict.fromkeys(DIFFERENT, (owner, *NAMES)), "share/wood/same": (mode, *NAMES)}


def test_files_of_one_content_have_the_mode_that_is_installed(made: Path) -> None:
    same = made / "share" / "wood" / "same"
    for mode, expected in ((0o755, "+x"), (0o644, "-x")):
        same.chmod(mode)
        assert found(made)["share/wood/same"] == (expected, *NAMES)
    python = Interpreter("cpython", "3.11.7", "win-amd64", "", "", str(made), str(made))
    assert "share/wood/same" not in shared_files(records(made), python), "Windows has no such mode"


def test_owner_follows_the_file(made: Path) -> None:
    text = made / "share" / "wood" / "text"
    before = text.read_text()
    name = before.partition(" ")[0]
    other = {"birch": "cedar", "cedar": "birch"}[name]
    text.write_text(before.replace(name, other))
    assert found(made)["share/wood/text"] == (f"{other}-files", *NAMES)
    text.write_text("edited\n")
    assert found(made)["share/wood/text"] == ("", *NAMES)
    text.unlink()
    assert found(made)["share/wood/text"] == ("", *NAMES)


def test_owner_of_a_link_is_the_package_with_the_link(made: Path) -> None:
    link = made / "share" / "wood" / "link"
    link.unlink()
    link.symlink_to("text")
    assert found(made)["share/wood/link"] == ("birch-files", *NAMES)


def test_records_that_cannot_be_read_have_no_shared_files(made: Path) -> None:
    shutil.rmtree(made / "conda-meta")
    assert found(made) == {}


def write_records(prefix: Path, entries: Mapping[str, list[dict[str, str]]]) -> None:
    (prefix / "conda-meta").mkdir(exist_ok=True)
    for name, paths in entries.items():
        record = {"name": name, "version": "1.0.0", "build": "0", "paths_data": {"paths": paths}}
        (prefix / "conda-meta" / f"{name}-1.0.0-0.json").write_text(json.dumps(record))


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("sha256", ["", digest("the same")], ids=["no-digest", "equal-digests"])
def test_owner_of_a_link_is_the_package_with_the_file_that_it_leads_to(tmp_path: Path, sha256: str) -> None:
    # conda and micromamba record the digest of the file that a link leads to.
    link = {"_path": "lib/libx.so", "path_type": "softlink", "sha256": sha256, "sha256_in_prefix": sha256}
    versions = {"aa": "1", "bb": "2"}
    write_records(
        tmp_path,
        {
            name: [link, {"_path": f"lib/libx.so.{version}", "path_type": "hardlink", "sha256": version}]
            for name, version in versions.items()
        },
    )
    file = tmp_path / "lib" / "libx.so"
    file.parent.mkdir()
    for target, owner in {
        "libx.so.1": "aa",
        "libx.so.2": "bb",
        "../lib/libx.so.1": "aa",
        "libx.so.3": "",
    }.items():
        file.symlink_to(target)
        assert found(tmp_path) == {"lib/libx.so": (owner, "aa", "bb")}
        file.unlink()


def test_owner_of_a_link_is_the_package_with_its_digest_in_records_of_rattler(tmp_path: Path) -> None:
    # The files that they lead to are in neither package.
    targets = {"aa": "libx.so.1", "bb": "libx.so.2"}
    link = {"_path": "lib/libx.so", "path_type": "softlink", "sha256": digest("the same")}
    write_records(
        tmp_path, {name: [{**link, "sha256_in_prefix": digest(target)}] for name, target in targets.items()}
    )
    file = tmp_path / "lib" / "libx.so"
    file.parent.mkdir()
    for name, target in targets.items():
        file.symlink_to(target)
        assert found(tmp_path) == {"lib/libx.so": (name, "aa", "bb")}
        file.unlink()


def test_owner_of_a_binary_is_found_by_its_padded_prefix(tmp_path: Path) -> None:
    prefix, placeholder = os.fsencode(tmp_path), b"/build/placehold" * 20
    padding = b"\0" * (len(placeholder) - len(prefix))
    installed = prefix + b"/lib\0" + padding + b"\1"
    entry = {"_path": "lib/libx.so", "path_type": "hardlink", "file_mode": "binary"}
    entry["sha256_in_prefix"] = hashlib.sha256(installed).hexdigest()
    entry["prefix_placeholder"] = placeholder.decode()
    archived = {"aa": placeholder + b"/lib\0\1", "bb": placeholder + b"/lib\0\2"}
    write_records(
        tmp_path,
        {name: [{**entry, "sha256": hashlib.sha256(data).hexdigest()}] for name, data in archived.items()},
    )
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libx.so").write_bytes(installed)
    assert found(tmp_path) == {"lib/libx.so": ("aa", "aa", "bb")}


@pytest.mark.parametrize("placeholder", ["", "/build/placehold"])
def test_owner_is_found_in_an_image_where_all_records_have_the_digest_of_the_installed_file(
    tmp_path: Path, placeholder: str
) -> None:
    file = tmp_path / "share" / "text"
    file.parent.mkdir()
    for owner in ("aa", "bb"):
        file.write_text(f"of {owner}{tmp_path if placeholder else ''}\n")
        installed = {"_path": "share/text", "path_type": "hardlink", "prefix_placeholder": placeholder}
        installed["sha256_in_prefix"] = digest(file.read_text())
        write_records(
            tmp_path,
            {name: [{**installed, "sha256": digest(f"of {name}{placeholder}\n")}] for name in ("aa", "bb")},
        )
        assert found(tmp_path) == {"share/text": (owner, "aa", "bb")}


@pytest.mark.parametrize("in_image", [False, True])
def test_owner_of_a_command_is_the_package_whose_module_it_imports(tmp_path: Path, in_image: bool) -> None:
    commands = {"birch": "birch", "cedar": "cedar.cli"}
    command = tmp_path / "bin" / "fell"
    command.parent.mkdir()
    for owner, module in commands.items():
        command.write_text(f"#!/usr/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        entries = {}
        for name, own_module in commands.items():
            metadata = f"lib/python3.11/site-packages/{name}-1.0.0.dist-info/entry_points.txt"
            path = tmp_path / metadata
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"[console_scripts]\nfell = {own_module}:main\n")
            # conda and micromamba record no digest of what they generate, and an image the installed file's.
            sha256 = digest(command.read_text()) if in_image else ""
            entries[name] = [
                {"_path": "bin/fell", "path_type": "unix_python_entry_point", "sha256": sha256},
                {"_path": metadata, "path_type": "hardlink", "sha256": name},
            ]
        write_records(tmp_path, entries)
        assert found(tmp_path) == {"bin/fell": (owner, "birch", "cedar")}
    command.write_text("#!/bin/sh\n")
    assert found(tmp_path) == {"bin/fell": ("", "birch", "cedar")}
