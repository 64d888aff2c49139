"""The conda layer as a build makes it: the same bytes every time, whoever installs; and what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.core.progress import PlainProgress, SilentProgress
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from imagesync.errors import BuildError, VerifyError
from imagesync.image.base import ensure_base
from imagesync.image.layers.conda_parts import conda_parts, generated_entries
from imagesync.image.layers.entries import Entry
from imagesync.image.templates import render_template
from imagesync.image.verify import verify
from imagesync.settings.model import Settings
from imagesync.store.store import Store
from tests.channels.archive import File
from tests.channels.channel import index_channel, make_channel
from tests.channels.doubles import generic
from tests.channels.environments import solve
from tests.integration.conda_layers import CondaLayers, as_lock
from tests.integration.old_conda_packages import write_old_packages
from tests.integration.shared_conda_packages import MODULES, SHARED, shared_packages
from tests.micromamba import make_stand_in, real_micromamba

pytestmark = pytest.mark.engine
PACKAGES = ["python", "greeter-native", "quill", "anvil", "libbeacon", "orchard-suite", "compass"]
PACKAGES += ["oak", "elder", "elder-pure", "secretive"]
TREE = """
import hashlib, json, os, stat
tree = {}
for folder, folders, files in os.walk("/opt"):
    for name in (*folders, *files):
        path = os.path.join(folder, name)
        state = os.lstat(path)
        entry = [stat.filemode(state.st_mode), state.st_uid, state.st_nlink if name in files else 0]
        if os.path.islink(path):
            entry.append(os.readlink(path))
        elif os.path.isfile(path):
            entry.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
        tree[path] = entry
print(json.dumps(tree))
"""


@pytest.fixture(scope="module")
def micromamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_micromamba() or make_stand_in(tmp_path_factory.mktemp("micromamba"))


@pytest.fixture(scope="module")
def layers(
    ours: Engine, root_image: str, channel: Path, tmp_path_factory: pytest.TempPathFactory
) -> CondaLayers:
    base = ensure_base(ours, settings=Settings(base=root_image), progress=SilentProgress())
    store = Store(tmp_path_factory.mktemp("store"))
    extra = make_channel(tmp_path_factory.mktemp("channels") / "extra", shared_packages())
    write_old_packages(extra)
    index_channel(extra)
    lock, archives = as_lock(solve([extra, channel], PACKAGES, platform="linux-64"), base, store)
    return CondaLayers(ours, base, store, lock, archives)


def parts_tree(layers: CondaLayers) -> dict[str, list[object]]:
    """Return mode and content of all that layers written by imagesync have below /opt."""
    packages = layers.packages(all_bytecode=True)
    minor = layers.lock.target.minor
    parts = conda_parts(packages, minor=minor, store=layers.store)
    found: dict[str, list[object]] = {}
    for part in parts:
        for entry in part.request.entries():
            assert f"/{entry.path}" not in found
            found[f"/{entry.path}"] = described(entry)
    activation = render_template("image/activate.sh.j2", {"prefix": "/opt/env"}, folder=None)
    shell = "/usr/bin/bash"
    for entry in generated_entries(packages, parts, activation=activation, shell=shell):
        found[f"/{entry.path}"] = described(entry)
    folders = {str(folder) for path in found for folder in Path(path).parents}
    return {**found, **{folder: ["drwxr-xr-x", []] for folder in folders - {"/", "/opt"}}}


def described(entry: Entry) -> list[object]:
    kind = {"file": "-", "directory": "d", "symlink": "l"}[entry.kind]
    content = [entry.target] if entry.kind == "symlink" else []
    if entry.kind == "file":
        content = [hashlib.sha256(b"".join(entry.read())).hexdigest()]
    return [kind + stat.filemode(entry.mode)[1:], content]


def tree(layers: CondaLayers) -> dict[str, list[object]]:
    """Return all that a new image has below /opt: modes, owners, links and content."""
    image = layers.build()
    try:
        result = layers.engine.run(RunRequest(image, ("python", "-c", TREE), user="0:0", timeout=120))
        found: dict[str, list[object]] = json.loads(result.stdout)
    finally:
        layers.engine.discard(image)
    return found


@pytest.fixture(scope="module")
def by_rattler(layers: CondaLayers) -> dict[str, list[object]]:
    return tree(layers)


def test_two_builds_give_the_same_bytes(layers: CondaLayers, by_rattler: dict[str, list[object]]) -> None:
    # Wherever the archives come from: here with the context, there from images of the engine.
    again = tree(replace(layers, mounts=False))
    assert len(again) > 1000
    assert {path for path in again if again[path] != by_rattler.get(path)} == set()
    assert again.keys() == by_rattler.keys()


def test_nothing_can_be_changed_but_by_root(by_rattler: dict[str, list[object]]) -> None:
    assert {entry[1] for entry in by_rattler.values()} == {0}
    open_to_others = [path for path, (mode, *_) in by_rattler.items() if mode[0] != "l" and "w" in mode[5::3]]
    assert open_to_others == []
    assert not [path for path in by_rattler if path.startswith("/opt/.")]


def test_micromamba_gives_the_same_bytes(
    layers: CondaLayers, by_rattler: dict[str, list[object]], micromamba: Path
) -> None:
    other = tree(replace(layers, micromamba=micromamba))
    assert other.keys() == by_rattler.keys()
    assert {path for path in other if other[path] != by_rattler[path]} == set()


def test_parts_written_without_an_engine_have_the_same_bytes(
    layers: CondaLayers, by_rattler: dict[str, list[object]]
) -> None:
    found = parts_tree(layers)
    expected: dict[str, list[object]] = {
        path: [mode, content[-1:]] for path, (mode, _, _, *content) in by_rattler.items()
    }
    assert {path for path in found if found[path] != expected.get(path)} == set()
    by_script = {"/opt/env/share/anvil", "/opt/env/share/anvil/linked"}
    assert expected.keys() - found.keys() == by_script, "nobody runs the post-link script of anvil"
    assert found.keys() <= expected.keys()


CONTENT = """
import json, os, subprocess, sys, tests
from tests import same
records = {}
for name in os.listdir(sys.prefix + "/conda-meta"):
    if name.endswith(".json"):
        record = json.load(open(sys.prefix + "/conda-meta/" + name))
        records[record["name"]] = {entry["_path"]: entry for entry in record["paths_data"]["paths"]}
wood = sys.prefix + "/share/wood/"
print(json.dumps({
    "module": tests.name.strip(),
    "command": open(sys.prefix + "/bin/fell").read().partition("from ")[2].split()[0],
    "text": open(wood + "text").read(),
    "binary": open(sys.prefix + "/lib/wood.bin", "rb").read()[5:].split(b"\\0")[:2][1].decode(),
    "link": os.path.islink(wood + "link"),
    "executable": os.access(wood + "same", os.X_OK),
    "records": records,
}))
"""


@pytest.mark.parametrize("by_micromamba", [False, True])
@pytest.mark.parametrize("owner", ["", "birch"])
def test_image_has_the_shared_file_that_is_installed(
    layers: CondaLayers, micromamba: Path, by_micromamba: bool, owner: str
) -> None:
    # Without any that is known the packages replace each other's files, each those of its dependencies.
    # The last one, cedar's, of the files with one content isn't executable.
    shared = {
        path.removeprefix(MODULES.removesuffix("site-packages")): (
            "birch" if path.startswith((MODULES, "bin/")) else "birch-files",
        )
        for path in SHARED
    } | {"share/wood/same": ("+x",)}
    chosen = replace(
        layers,
        micromamba=micromamba if by_micromamba else None,
        shared_files=shared if owner else {},
    )
    image = chosen.build()
    try:
        verify(layers.engine, image, lock=layers.lock, critical_imports=("tests",), user="1000:1000")
        result = layers.engine.run(RunRequest(image, ("python", "-c", CONTENT), timeout=60))
        found = json.loads(result.stdout)
    finally:
        layers.engine.discard(image)
    records = found.pop("records")
    assert found == {
        "module": owner or "oak",
        "command": owner or "cedar",
        "text": f"{owner or 'cedar'} is in /opt/env\n",
        "binary": "/opt/env/lib",
        "link": bool(owner),
        "executable": bool(owner),
    }
    module = f"{MODULES}/tests/__init__.py"
    entries = {name: records[name][module] for name in ("birch", "cedar", "oak")}
    installed = entries[owner or "oak"]["sha256"]
    assert {entry["sha256_in_prefix"] for entry in entries.values()} == {installed}
    assert len({entry["sha256"] for entry in entries.values()}) == 3, "each has what its archive holds"
    assert not [path for files in records.values() for path in files if "__clobbers__" in path]


def test_everybody_can_read_everything(by_rattler: dict[str, list[object]]) -> None:
    modes = {path: str(mode) for path, (mode, *_) in by_rattler.items()}
    assert [path for path, mode in modes.items() if mode[7] != "r"] == []
    assert modes["/opt/env/bin/run-secret"] == "-rwxr-xr-x"
    assert modes["/opt/env/share/secretive/secrets.txt"] == "-rw-r--r--"


def test_check_compares_records(layers: CondaLayers) -> None:
    image = layers.build()
    try:
        variables = verify(
            layers.engine, image, lock=layers.lock, critical_imports=("greeter",), user="1000:1000"
        )
        assert variables["COMPASS_MODE"] == "north"
        fewer = replace(layers.lock, conda=tuple(p for p in layers.lock.conda if p.name != "quill"))
        with pytest.raises(
            VerifyError, match=r"the conda package quill 1\.0\.0 is there, and not in the lock"
        ):
            verify(layers.engine, image, lock=fewer, critical_imports=(), user="1000:1000")
        other = tuple(replace(p, build="other") if p.name == "quill" else p for p in layers.lock.conda)
        with pytest.raises(VerifyError, match=r"the conda package quill is .* instead of 1\.0\.0 other"):
            verify(
                layers.engine,
                image,
                lock=replace(layers.lock, conda=other),
                critical_imports=(),
                user="1000:1000",
            )
    finally:
        layers.engine.discard(image)


def test_archive_that_isnt_the_locked_one_is_refused(layers: CondaLayers) -> None:
    position = next(i for i, package in enumerate(layers.lock.conda) if package.name == "quill")
    archives = list(layers.archives)
    # The same file name, another content: as if somebody had changed a rendered folder.
    wrong = replace(archives[position], digest="sha256:" + "0" * 64)
    archives[position] = wrong
    with pytest.raises(BuildError, match=r"not the archive that the lock names: quill-1\.0\.0"):
        replace(layers, archives=tuple(archives)).build()


@pytest.mark.parametrize("by_micromamba", [False, True])
def test_script_that_fails_is_named(
    layers: CondaLayers, channel: Path, tmp_path: Path, micromamba: Path, by_micromamba: bool
) -> None:
    # Before Python by name, and after it in topological order.
    early = b"""#!/bin/sh
"$PREFIX/bin/python" -c "print('hello')" >>"$PREFIX/.messages.txt" || exit 1
bash -c false || true
echo early >/etc/early.conf
"""
    broken = b"#!/bin/sh\necho this needs a network >&2\nexit 3\n"
    packages = [
        generic(
            name,
            "1.0.0",
            subdir="linux-64",
            depends=("python",),
            files={f"bin/.{name}-post-link.sh": File(script, True)},
        )
        for name, script in (("early", early), ("broken", broken))
    ]
    extra = make_channel(tmp_path / "extra", packages)
    records = solve([extra, channel], ["python", "broken", "early"], platform="linux-64")
    lock, archives = as_lock(records, layers.base, layers.store)
    layers = replace(layers, lock=lock, archives=archives, micromamba=micromamba if by_micromamba else None)
    image = layers.build()
    try:
        progress = PlainProgress(said := io.StringIO())
        verify(layers.engine, image, lock=lock, critical_imports=(), user="1000:1000", progress=progress)
        left = layers.engine.run(RunRequest(image, ("ls", "-a", "/opt/env"), timeout=60)).stdout.decode()
    finally:
        layers.engine.discard(image)
    assert "the post-link script of the conda package broken failed in the build" in said.getvalue()
    assert "package early" not in said.getvalue()
    assert "a post-link script of broken, early (which one isn't recorded) wrote files" in said.getvalue()
    assert "which aren't in the image: /etc/early.conf. Make them" in said.getvalue()
    assert ".messages.txt" not in left
