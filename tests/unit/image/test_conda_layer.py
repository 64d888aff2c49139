"""The conda layer before a build: what archives hold, what lacks bytecode, and what wheels would change."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesync.core.names import Level
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import PlainProgress, Progress, SilentProgress
from imagesync.errors import FetchError, HashMismatch, LockError, UsageError
from imagesync.image.conda.conda_installer import CondaInstaller, Setting, choose_installer
from imagesync.image.conda.layer import CondaLayer, owners_of_shared
from imagesync.image.conda.uncompiled_modules import modules_to_compile
from imagesync.image.conda.wheel_conflicts import refuse_file_conflicts
from imagesync.lock.conda.archive_files import ArchiveFiles, read_archive_files
from imagesync.lock.conda.channels import Channels
from imagesync.lock.conda.repodata import locked
from imagesync.lock.locked_packages import LockedConda
from imagesync.pipeline.artifact_sources import check_conda_installer
from imagesync.plan.plan import Plan, PlannedConda
from imagesync.scan.environment import Interpreter
from imagesync.settings.model import Settings
from imagesync.store.store import Store, StoredFile
from tests.channels.archive import File
from tests.channels.channel import make_channel
from tests.channels.doubles import generic
from tests.commands import clean_environ
from tests.indexes import make_wheel

MINOR = "3.11"
SITE_PACKAGES = "lib/python3.11/site-packages"
Package = tuple[LockedConda, StoredFile]


def find(channel: Path, store: Store, name: str, version: str = "") -> Package:
    """Return the newest build of a package of the test channel, with its archive in the store."""
    for subdir in ("linux-64", "noarch"):
        repodata = json.loads((channel / subdir / "repodata.json").read_text())
        for filename, record in {**repodata["packages"], **repodata["packages.conda"]}.items():
            if record["name"] == name and version in ("", record["version"]):
                place = {"fn": filename, "channel": channel.as_uri(), "subdir": subdir}
                url = (channel / subdir / filename).as_uri()
                archive = store.add_file(channel / subdir / filename, filename=filename)
                return locked({**record, **place, "url": url}), archive
    raise AssertionError(f"{name} isn't in the channel")


def wheel(store: Store, folder: Path, name: str, **content: object) -> StoredFile:
    filename, data = make_wheel(name, "1.0", **content)
    (folder / filename).write_bytes(data)
    return store.add_file(folder / filename, filename=filename)


def test_archive_contents_have_installed_paths(channel: Path, store: Store) -> None:
    packages = [
        find(channel, store, name) for name in ("greeter", "greeter-native", "quill", "compass", "anvil")
    ]
    greeter, native, quill, compass, anvil = read_archive_files(
        *zip(*packages, strict=True), minor=MINOR, store=store
    )
    assert {f"{SITE_PACKAGES}/greeter.py", "bin/greet"} <= greeter.files.keys()
    assert native.files["bin/greet-native"] == "", "the prefix is written into it"
    assert any(path.startswith(f"{SITE_PACKAGES}/quill") for path in quill.files), "the older format"
    assert (compass.has_activation, compass.has_post_link) == (True, False)
    assert (anvil.has_activation, anvil.has_post_link) == (False, True)


def test_broken_archive_is_named_in_the_error(store: Store, channel: Path) -> None:
    package, _ = find(channel, store, "greeter")
    broken = store.add(iter([b"PK\x05\x06" + bytes(18)]), filename="greeter-1.0.0-0.conda")
    with pytest.raises(LockError, match=r"greeter-1\.0\.0-0\.conda can't be read"):
        read_archive_files([package], [broken], minor=MINOR, store=store)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"files": {"greeter.py": b"def main(): ...\n"}}, f"{SITE_PACKAGES}/greeter.py"),
        (
            {"files": {"mine-1.0.dist-info/entry_points.txt": b"[console_scripts]\ngreet = mine:main\n"}},
            "bin/greet",
        ),
        ({"files": {"mine-1.0.data/scripts/greet": b"#!python\n"}}, "bin/greet"),
    ],
)
def test_wheel_that_changes_conda_files_is_refused(
    channel: Path, store: Store, tmp_path: Path, content: dict[str, object], path: str
) -> None:
    package, archive = find(channel, store, "greeter")
    contents = {"greeter": read_archive_files([package], [archive], minor=MINOR, store=store)[0]}
    mine = wheel(store, tmp_path, "mine", **content)
    with pytest.raises(
        LockError, match=f"{path}: the conda package greeter has it, and so has mine-1.0"
    ) as raised:
        refuse_file_conflicts(contents, [mine], minor=MINOR)
    assert raised.value.hint


def test_wheel_with_the_content_of_conda_files_is_accepted(
    channel: Path, store: Store, tmp_path: Path
) -> None:
    package, archive = find(channel, store, "greeter")
    contents = {"greeter": read_archive_files([package], [archive], minor=MINOR, store=store)[0]}
    (modules,) = modules_to_compile([package], [archive], minor=MINOR, store=store)
    with zipfile.ZipFile(modules.path) as content:
        same = content.read("site-packages/greeter.py")
    refuse_file_conflicts(contents, [wheel(store, tmp_path, "mine", files={"greeter.py": same})], minor=MINOR)


def test_modules_without_bytecode_are_collected_once(channel: Path, store: Store) -> None:
    packages = [find(channel, store, name) for name in ("greeter", "compass", "trellis")]
    # The channel's packages are for the Python that runs this.
    minor = f"3.{sys.version_info.minor}"
    found = modules_to_compile(*zip(*packages, strict=True), minor=minor, store=store)
    names = {name for modules in found for name in zipfile.ZipFile(modules.path).namelist()}
    assert "site-packages/greeter.py" in names
    assert all(name.endswith(".py") for name in names)
    assert len(found) == 2, "compass has no modules"
    again = modules_to_compile(*zip(*packages, strict=True), minor=minor, store=store)
    assert [modules.digest for modules in again] == [modules.digest for modules in found]


def test_explicit_file_names_each_archive_with_its_digest(channel: Path, store: Store) -> None:
    package, archive = find(channel, store, "quill")
    layer = CondaLayer(packages=(package,), archives=(archive,), installer=CondaInstaller("rattler"))
    first, line = layer.explicit().splitlines()
    assert first == "@EXPLICIT"
    assert line == f"file:///mnt/conda/{package.subdir}/{archive.filename}#{archive.digest}"
    (record,) = layer.records
    assert record["url"] == package.artifact.url
    assert record["requested_spec"] == ""


def test_shared_file_is_of_the_installed_package_else_of_the_last_one() -> None:
    module, cached = "tests/__init__.py", "tests/__pycache__/__init__.cpython-311.pyc"
    contents = {
        "first": ArchiveFiles({f"{SITE_PACKAGES}/{module}": "1", "bin/tool": "1", "share/first": "1"}),
        "second": ArchiveFiles({f"{SITE_PACKAGES}/{module}": "2", f"{SITE_PACKAGES}/{cached}": "2"}),
        "third": ArchiveFiles({f"{SITE_PACKAGES}/{cached}": "3", "bin/tool": "1"}),
    }
    last = {f"{SITE_PACKAGES}/{module}": "second", "bin/tool": "third"}
    assert owners_of_shared(contents, {}) == last, "bytecode goes with its module"
    installed = {f"{SITE_PACKAGES}/{module}": "first", "bin/tool": "", "share/first": "first"}
    found = owners_of_shared(contents, installed)
    assert found == {**last, f"{SITE_PACKAGES}/{module}": "first"}
    assert owners_of_shared(contents, {f"{SITE_PACKAGES}/{module}": "gone"}) == last


@pytest.mark.parametrize("tag", ["cpython-311.opt-1", "cpython-310", "pypy310"])
def test_other_bytecode_of_a_shared_module_is_of_the_modules_package(tag: str) -> None:
    # The installer replaces the bytecode of the environment's Python alone together with its module.
    module = f"{SITE_PACKAGES}/tests/core.py"
    cached = f"{SITE_PACKAGES}/tests/__pycache__/core.{tag}.pyc"
    contents = {name: ArchiveFiles({module: name, cached: name}) for name in ("first", "second")}
    contents["third"] = ArchiveFiles({cached: "third"})
    assert owners_of_shared(contents, {}) == {module: "second", cached: "second"}
    installed = {module: "first"}
    assert owners_of_shared(contents, installed) == {module: "first", cached: "first"}
    del contents["first"].files[cached]
    assert owners_of_shared(contents, installed) == {module: "first", cached: "third"}


def test_wheel_is_compared_with_the_shared_file_that_is_installed(store: Store, tmp_path: Path) -> None:
    path = f"{SITE_PACKAGES}/tests/__init__.py"
    contents = {
        name: ArchiveFiles({path: hashlib.sha256(name.encode()).hexdigest()}) for name in ("first", "second")
    }
    mine = wheel(store, tmp_path, "mine", files={"tests/__init__.py": b"first"})
    refuse_file_conflicts(contents, [mine], minor=MINOR, owners={path: "first"})
    with pytest.raises(LockError, match="the conda package second has it"):
        refuse_file_conflicts(contents, [mine], minor=MINOR, owners={path: "second"})


def no_wheel(requirement: str) -> StoredFile:
    raise AssertionError(f"{requirement} is installed here")


def micromamba(folder: Path, said: str = "2.8.1") -> Path:
    """Return a program that answers to ``--version``; it does nothing else."""
    source, program = folder / "micromamba.c", folder / "micromamba"
    source.write_text(f'#include <stdio.h>\nint main(void) {{ puts("{said}"); return 0; }}\n')
    subprocess.run(["gcc", "-o", program, source], check=True)
    return program


def choose(
    setting: Setting,
    store: Store,
    *,
    named: Path | None = None,
    channels: Channels | None = None,
    wheel: Callable[[str], StoredFile] = no_wheel,
    progress: Progress | None = None,
) -> CondaInstaller:
    return choose_installer(
        setting,
        platform=LINUX_AMD64,
        micromamba=named,
        channels=channels,
        store=store,
        wheel=wheel,
        progress=progress or SilentProgress(),
    )


def test_rattler_is_preferred_to_a_named_micromamba(store: Store, tmp_path: Path) -> None:
    chosen = choose("auto", store, named=micromamba(tmp_path))
    assert (chosen.kind, chosen.micromamba) == ("rattler", None)
    assert {"__init__.py", "rattler.abi3.so"} <= {name for name, _ in chosen.rattler}


def test_setting_chooses_the_named_micromamba(store: Store, tmp_path: Path) -> None:
    named = micromamba(tmp_path)
    assert choose("micromamba", store, named=named) == CondaInstaller("micromamba", named)
    assert choose("micromamba", store) == CondaInstaller("micromamba"), "the base image may have one"


def test_micromamba_stands_in_for_an_index_without_rattler(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(requirement: str) -> StoredFile:
        raise FetchError(f"{requirement} isn't there")

    monkeypatch.setattr("imagesync.image.conda.conda_installer.this_machine_runs_on", lambda _: False)
    named = micromamba(tmp_path)
    shown = io.StringIO()
    chosen = choose("auto", store, named=named, wheel=refuse, progress=PlainProgress(shown))
    assert chosen == CondaInstaller("micromamba", named)
    assert re.search(r"micromamba installs .*: py-rattler==\S+ isn't there", shown.getvalue())
    with pytest.raises(FetchError, match="py-rattler"):
        choose("rattler", store, named=named, wheel=refuse)
    with pytest.raises(FetchError, match="py-rattler"):
        choose("auto", store, wheel=refuse)


def test_wheel_of_rattler_with_another_digest_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(requirement: str) -> StoredFile:
        raise HashMismatch(f"{requirement} has another digest")

    monkeypatch.setattr("imagesync.image.conda.conda_installer.this_machine_runs_on", lambda _: False)
    with pytest.raises(HashMismatch, match="py-rattler"):
        choose("auto", store, named=micromamba(tmp_path), wheel=refuse)


@pytest.fixture(params=[b"#!/bin/sh\n", b"\xcf\xfa\xed\xfe" + bytes(40), None])
def foreign_micromamba(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the path of a program for another platform, or of none."""
    path = tmp_path / "micromamba"
    if request.param is not None:
        path.write_bytes(request.param)
    return path


def test_micromamba_for_another_platform_is_refused_where_it_installs(
    store: Store, foreign_micromamba: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(requirement: str) -> StoredFile:
        raise FetchError(f"{requirement} isn't there")

    monkeypatch.setattr("imagesync.image.conda.conda_installer.this_machine_runs_on", lambda _: False)
    settings: tuple[Setting, ...] = ("auto", "micromamba")
    for setting in settings:
        with pytest.raises(UsageError, match=str(foreign_micromamba)) as raised:
            choose(setting, store, named=foreign_micromamba, wheel=refuse)
        assert raised.value.hint


@pytest.mark.parametrize("setting", ["auto", "rattler"])
def test_micromamba_for_another_platform_may_solve_where_rattler_installs(
    store: Store, foreign_micromamba: Path, setting: Setting
) -> None:
    assert choose(setting, store, named=foreign_micromamba).kind == "rattler"


@pytest.mark.parametrize("installer", ["auto", "rattler", "micromamba"])
def test_named_micromamba_is_checked_before_a_build_if_it_installs(
    foreign_micromamba: Path, installer: Setting
) -> None:
    settings = Settings(micromamba=foreign_micromamba, conda_installer=installer, solver="conda-lock")
    python = Interpreter("cpython", "3.11.7", "macosx_14_0_arm64", "", "", "/env", "/env")
    anvil = PlannedConda("anvil", "1.0", "h1_0", Level.CRITICAL, "==1.0", "")
    plan = Plan(
        python, (), conda=(anvil,), channels=(), profile="dask", critical_imports=(), interpreter="conda"
    )
    if installer == "micromamba":
        with pytest.raises(UsageError, match=str(foreign_micromamba)):
            check_conda_installer(plan, settings)
    else:
        check_conda_installer(plan, settings)


def test_program_that_is_no_micromamba_is_refused(store: Store, tmp_path: Path) -> None:
    for program in (Path("/bin/ls"), micromamba(tmp_path, "something 2.8.1")):
        with pytest.raises(UsageError, match=f"{program} isn't micromamba"):
            choose("micromamba", store, named=program)


def test_micromamba_of_a_channel_is_extracted_once(store: Store, tmp_path: Path) -> None:
    program = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00" + b"a stand-in: nothing here runs it"
    files = {"bin/micromamba": File(program, True)}
    packages = [generic("micromamba", v, subdir="linux-64", files=files) for v in ("2.0.5", "2.1.0")]
    folder = make_channel(tmp_path / "channel", packages)
    channels = Channels(
        (folder.as_uri(),),
        prefix=tmp_path,
        environ=clean_environ(),
        store=store,
        progress=SilentProgress(),
        platform=LINUX_AMD64,
    )
    for _ in range(2):
        chosen = choose("micromamba", store, channels=channels)
        assert chosen.kind == "micromamba"
        assert chosen.micromamba is not None
        assert chosen.micromamba.read_bytes() == program
        shutil.rmtree(folder, ignore_errors=True)  # the second time nothing is asked


def test_damaged_micromamba_of_a_channel_is_refused(store: Store, tmp_path: Path) -> None:
    package = generic("micromamba", "2.1.0", subdir="linux-64", files={"bin/micromamba": File(b"x", True)})
    folder = make_channel(tmp_path / "channel", [package])
    (archive,) = folder.glob("linux-64/micromamba-*.conda")
    archive.write_bytes(archive.read_bytes() + b"?")
    channels = Channels(
        (folder.as_uri(),),
        prefix=tmp_path,
        environ=clean_environ(),
        store=store,
        progress=SilentProgress(),
        platform=LINUX_AMD64,
    )
    with pytest.raises(HashMismatch, match="micromamba"):
        choose("micromamba", store, channels=channels)
