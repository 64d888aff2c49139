"""The selection of packages for a sync, and overlays in interpreters of their own."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from imagesync.cluster.agreement.overlay import Overlay, select_packages
from imagesync.core.names import Level
from imagesync.inventory.compare_sides import compare
from imagesync.inventory.comparison import Side
from imagesync.inventory.inventory import LOOSE_CODE, Entry, Inventory
from imagesync.standalone.programs import Remote

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def side(*entries: Entry) -> Side:
    return Side("side", {"side": Inventory("linux-x86_64", entries)})


@pytest.mark.parametrize(
    ("here", "there", "word"),
    [
        (
            Entry("python", "3.12.1", "python", "", level=Level.CRITICAL, specifier="==3.12.*"),
            Entry("python", "3.11.2", "python", ""),
            "another Python",
        ),
        (
            Entry("numpy", "2.1", manager="conda", level=Level.EXACT, build="py311_0"),
            Entry("numpy", "2.0"),
            "binaries",
        ),
        (Entry("openssl", "3.5", "conda", "conda", level=Level.COMPATIBLE), None, "binaries"),
        (
            Entry("msgpack", "1.2", level=Level.CRITICAL),
            Entry("msgpack", "1.1"),
            "a scheduler can't be restarted",
        ),
        (
            Entry("dask", "2026.8.0+1.g1", content=ONE, local=True, level=Level.CRITICAL),
            Entry("dask", "2026.8.0+1.g1", content=OTHER, local=True, level=Level.CRITICAL),
            "a scheduler can't be restarted",
        ),
        (None, Entry("numpy", "2.1", level=Level.EXACT), "can't be removed"),
    ],
)
def test_package_that_cant_be_synced_has_a_reason_and_a_hint(
    here: Entry | None, there: Entry | None, word: str
) -> None:
    selection = select_packages(compare(side(*filter(None, [here])), side(*filter(None, [there]))))
    assert selection.names == frozenset()
    (unsynced,) = selection.unsynced
    assert word in unsynced.reason
    assert "imagesync build" in unsynced.hint


def test_packages_that_differ_or_are_missing_are_selected() -> None:
    here = (
        Entry("elder", "1.0", content=ONE, local=True, level=Level.COMPATIBLE),
        Entry("alder", "2.0.0", level=Level.COMPATIBLE, specifier="~=2.0.0"),
        Entry("birch", "1.0.0", level=Level.EXACT, specifier="==1.0.0"),
        Entry("rowan", "1.0.1", level=Level.COMPATIBLE, specifier="~=1.0.1"),
        Entry("pip", "26.0", level=Level.IGNORE, left_out=True),
        Entry(LOOSE_CODE, "", kind="code", content=ONE, local=True),
    )
    there = (
        Entry("elder", "1.0", content=OTHER, local=True),
        Entry("alder", "1.0.0"),
        Entry("rowan", "1.0.9"),
        Entry("oak", "1.0", level=Level.COMPATIBLE),
    )
    selection = select_packages(compare(side(*here), side(*there)))
    assert selection.names == {"elder", "alder", "birch", LOOSE_CODE}
    assert selection.unsynced == ()


def archive(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for name, text in files.items():
            # Without the time of writing, so that equal files make equal archives.
            zipped.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


class Process:
    """A Python process with its own home folder that runs code line by line."""

    def __init__(self, home: Path) -> None:
        code = """
        import json, pickle, sys
        names = {}
        for line in sys.stdin:
            kind, text = json.loads(line)
            if kind == "call":
                function, arguments, options = pickle.loads(bytes.fromhex(text))
                result = function(*arguments, **options)
            else:
                exec(text, names)
                result = names.pop("result", None)
            print(json.dumps(result), flush=True)
        """
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-c", dedent(code)],
            env={"HOME": str(home), "PYTHONPATH": str(home / "image")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def run(self, code: str) -> Any:
        return self._ask("run", code)

    def call(self, function: Remote, *arguments: object, **options: object) -> Any:
        return self._ask("call", pickle.dumps((function, arguments, options)).hex())

    def _ask(self, kind: str, text: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, text]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


OLD = "class Basket: pass\ndef pick(): return 'old'\n"
NEW = OLD.replace("old", "new")
REFRESH = Remote("imports", "refresh")
INSTALL = Remote("apply_sync", "install")
DISCARD = Remote("apply_sync", "discard_unused")


@pytest.fixture
def process(tmp_path: Path) -> Any:
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "elder.py").write_text(OLD)
    (tmp_path / "image" / "rowan.py").write_text("from elder import pick\n")
    with Process(tmp_path) as process:
        yield process


def overlay(**files: str) -> Overlay:
    return Overlay((archive(**files),), contents={"elder": ONE}, modules={"elder": ("elder",)})


def test_overlay_precedes_the_image_and_can_be_removed(process: Process) -> None:
    process.call(INSTALL, overlay(**{"elder.py": NEW}).content)
    assert process.run("import elder; result = elder.pick()") == "new"
    assert process.run("import sys; result = sys.path[0]").endswith(overlay(**{"elder.py": NEW}).digest)
    process.call(INSTALL, Overlay().content)
    assert process.call(REFRESH, ["elder"], []) == {}
    assert process.run("import elder; result = elder.pick()") == "old"
    assert process.run("import os; result = os.environ['PYTHONPATH']").endswith("/image")


def test_new_overlay_replaces_the_previous_one(process: Process) -> None:
    for word in ("one", "other"):
        process.call(INSTALL, overlay(**{"elder.py": NEW.replace("new", word)}).content)
        process.call(REFRESH, ["elder"], [])
        assert process.run("import elder; result = elder.pick()") == word
    assert process.run("import sys; result = sum('synced' in path for path in sys.path)") == 1


def folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob(".cache/imagesync/synced/*/*"))


def test_earlier_overlays_are_removed_unless_their_modules_are_in_use(
    process: Process, tmp_path: Path
) -> None:
    for number in range(10):
        process.call(INSTALL, overlay(**{"elder.py": NEW.replace("new", str(number))}).content)
        process.call(REFRESH, ["elder"], [])
        process.call(DISCARD)
        process.run("import elder, rowan")
    assert len(folders(tmp_path)) == 2, "the first one is still used by rowan"
    process.call(INSTALL, Overlay().content)
    process.call(REFRESH, ["elder"], [], forced=True)
    process.run("import sys; del rowan, elder, sys.modules['rowan']")
    process.call(DISCARD)
    assert folders(tmp_path) == []


def test_ten_syncs_leave_one_folder_behind(process: Process, tmp_path: Path) -> None:
    for number in range(10):
        process.call(INSTALL, overlay(**{"elder.py": NEW.replace("new", str(number))}).content)
        process.call(REFRESH, ["elder"], [])
        process.call(DISCARD)
        assert process.run("import elder; result = elder.pick(); elder = None") == str(number)
        assert len(folders(tmp_path)) == 1


def test_overlays_of_processes_that_have_ended_are_removed(tmp_path: Path) -> None:
    for word in ("one", "other"):
        with Process(tmp_path) as process:
            process.call(INSTALL, overlay(**{"elder.py": word}).content)
            assert len(folders(tmp_path)) == 1


def test_unreferenced_modules_are_imported_anew(process: Process) -> None:
    assert process.call(REFRESH, ["elder"], []) == {}
    process.run("import elder, importlib; elder = None")
    process.call(INSTALL, overlay(**{"elder.py": NEW}).content)
    assert process.call(REFRESH, ["elder"], []) == {}
    assert process.run("import sys; result = 'elder' in sys.modules") is False
    assert process.run("import elder; result = elder.pick()") == "new"


def test_module_that_another_module_uses_is_kept_unless_forced(process: Process) -> None:
    process.run("import rowan")
    process.call(INSTALL, overlay(**{"elder.py": NEW}).content)
    assert process.call(REFRESH, ["elder"], []) == {"elder": "used by rowan"}
    assert process.run("import elder; result = elder.pick()") == "old"
    forced = process.call(REFRESH, ["elder"], [], forced=True)
    assert forced == {"elder": "used by rowan"}
    assert process.run("import elder; result = elder.pick()") == "new"


def test_local_modules_that_use_each_other_are_forgotten_together(process: Process) -> None:
    process.run("import rowan; rowan = None")
    process.call(INSTALL, overlay(**{"elder.py": NEW}).content)
    assert process.call(REFRESH, ["elder"], ["elder", "rowan"]) == {}
    assert process.run("import rowan; result = rowan.pick()") == "new"


def test_module_is_kept_while_other_code_holds_its_objects(process: Process, tmp_path: Path) -> None:
    (tmp_path / "image" / "elder.py").write_text(
        "import enum\nclass Colour(enum.Enum):\n    RED = 1\n" + OLD + "OWN = [Basket()]\n"
    )
    process.call(INSTALL, overlay(**{"elder.py": NEW}).content)
    process.run(f"import sys; sys.path.insert(0, {str(tmp_path / 'image')!r}); import elder")
    process.run("sys.path.pop(0); kept = {'deep': [elder.Basket()]}; elder = None")
    held = {"elder": "objects of its classes are in memory: 1"}
    assert process.call(REFRESH, ["elder"], []) == held
    process.run("kept.clear()")
    assert process.call(REFRESH, ["elder"], []) == {}


def test_loose_code_in_an_overlay_comes_after_packages(process: Process) -> None:
    content = Overlay(
        code=archive(**{"elder.py": NEW, "hedge.py": "kind = 'box'\n"}), contents={}, modules={}
    )
    process.call(INSTALL, content.content)
    assert process.run("import elder, hedge; result = [elder.pick(), hedge.kind]") == ["old", "box"]
