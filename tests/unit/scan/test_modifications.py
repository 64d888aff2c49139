"""Installed files that aren't what their installers wrote, of pip, uv and conda."""

from __future__ import annotations

import base64
import hashlib
import json
import ntpath
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.loose_code.detect import find_loose_code
from imagesync.scan.environment import Environment
from imagesync.scan.modifications import compare
from imagesync.scan.modifications.compare import find_modifications
from imagesync.scan.modifications.modification import Modifications
from imagesync.scan.modifications.recorded import locate
from imagesync.scan.modifications.unrecorded import unowned_findings
from imagesync.scan.scan import scan
from tests.commands import clean_environ
from tests.conftest import MakeCondaEnvironment
from tests.environments import LocalEnvironment, make_environment
from tests.indexes.wheels import make_wheel

FILES = {
    "demo/__init__.py": b"kind = 'box'\n",
    "demo/data/table.csv": b"1,2\n",
    "demo_top.py": b"import demo\n",
    "demo-1.0.data/scripts/demo-tool": b"#!python\nprint('tool')\n",
    "demo-1.0.data/data/share/demo/note.txt": b"note\n",
    "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n",
}
"""Files of the wheel that the tests change."""


@pytest.fixture(scope="module", params=["pip", "uv"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return install(tmp_path_factory.mktemp(request.param), installer=request.param)


@pytest.fixture(scope="module")
def by_uv(tmp_path_factory: pytest.TempPathFactory) -> LocalEnvironment:
    return install(tmp_path_factory.mktemp("uv"), installer="uv")


def install(folder: Path, *, installer: str) -> LocalEnvironment:
    filename, content = make_wheel("demo", "1.0", files=FILES)
    (folder / filename).write_bytes(content)
    packages = [str(folder / filename)]
    return make_environment(folder / "env", packages=packages, python=sys.executable, installer=installer)


@pytest.fixture
def environment(by_uv: LocalEnvironment, tmp_path: Path) -> LocalEnvironment:
    """Return a copy of the environment, moved: its scripts name another interpreter."""
    shutil.copytree(by_uv.prefix, tmp_path / "env", symlinks=True)
    return LocalEnvironment(tmp_path / "env")


def scanned(environment: LocalEnvironment) -> Environment:
    return scan(prefix=environment.prefix, environ=clean_environ())


def found(environment: LocalEnvironment, **options: Path) -> Modifications:
    return find_modifications(scanned(environment), **options)


def changes(modifications: Modifications) -> dict[str, tuple[list[str], list[str], list[str]]]:
    return {
        each.name: (sorted(each.edited), sorted(each.added), sorted(each.missing))
        for each in modifications.packages
    }


def test_untouched_environment_has_no_modification(installed: LocalEnvironment) -> None:
    assert found(installed) == Modifications()


def test_moved_environment_has_no_modification(environment: LocalEnvironment) -> None:
    assert found(environment) == Modifications()


def test_edit_of_the_same_size_is_a_modification(environment: LocalEnvironment) -> None:
    (environment.site_packages / "demo/__init__.py").write_bytes(b"kind = 'bag'\n")
    modifications = found(environment)
    assert changes(modifications) == {"demo": (["demo/__init__.py"], [], [])}
    before = modifications.packages[0].digest
    (environment.site_packages / "demo/__init__.py").write_bytes(b"kind = 'jar'\n")
    assert found(environment).packages[0].digest != before
    (environment.site_packages / "demo/__init__.py").write_bytes(FILES["demo/__init__.py"])
    assert found(environment) == Modifications()


def test_deleted_file_is_a_modification(environment: LocalEnvironment) -> None:
    (environment.site_packages / "demo/data/table.csv").unlink()
    assert changes(found(environment)) == {"demo": ([], [], ["demo/data/table.csv"])}


def test_file_in_the_folder_of_a_package_is_an_addition_to_it(environment: LocalEnvironment) -> None:
    (environment.site_packages / "demo/data/own.csv").write_text("3\n")
    (environment.site_packages / "demo/deep").mkdir()
    (environment.site_packages / "demo/deep/extra.py").write_text("")
    assert changes(found(environment)) == {"demo": ([], ["demo/data/own.csv", "demo/deep/extra.py"], [])}


def test_file_in_the_metadata_of_a_package_is_an_addition_to_it(environment: LocalEnvironment) -> None:
    info = environment.site_packages / "demo-1.0.dist-info"
    (info / "licenses").mkdir(exist_ok=True)
    (info / "licenses/own.txt").write_text("")
    (info / "own.json").write_text("")
    (info / "INSTALLER").write_text("another\n")
    (info / "METADATA~").write_text("")
    assert changes(found(environment)) == {
        "demo": ([], ["demo-1.0.dist-info/licenses/own.txt", "demo-1.0.dist-info/own.json"], [])
    }
    # Metadata of nobody are the scan's business.
    stale = environment.site_packages / "stale-1.0.dist-info"
    stale.mkdir()
    (stale / "own.txt").write_text("")
    assert [each.path for each in found(environment).unowned] == []


def test_edited_metadata_is_a_modification(environment: LocalEnvironment) -> None:
    metadata = environment.site_packages / "demo-1.0.dist-info/METADATA"
    metadata.write_text(metadata.read_text() + "\nmore\n")
    assert changes(found(environment)) == {"demo": (["demo-1.0.dist-info/METADATA"], [], [])}


@pytest.mark.parametrize("name", ["INSTALLER", "REQUESTED", "direct_url.json"])
def test_files_that_installers_write_for_themselves_may_differ(
    environment: LocalEnvironment, name: str
) -> None:
    (environment.site_packages / "demo-1.0.dist-info" / name).write_text("x")
    (environment.site_packages / "demo/__pycache__").mkdir(exist_ok=True)
    (environment.site_packages / "demo/__pycache__/own.cpython-311.pyc").write_text("x")
    assert found(environment) == Modifications()
    (environment.site_packages / "demo-1.0.dist-info" / name).unlink()
    assert found(environment) == Modifications()


@pytest.mark.parametrize("tool", ["demo", "demo-tool"])
def test_edited_script_is_a_modification(installed: LocalEnvironment, tool: str) -> None:
    script = installed.prefix / "bin" / tool
    before = script.read_bytes()
    script.write_bytes(before + b"print('more')\n")
    try:
        (modification,) = found(installed).packages
    finally:
        script.write_bytes(before)
    assert list(modification.edited) == [f"../../../bin/{tool}"]
    assert modification.only_generated == (tool == "demo")
    assert modification.summary == f"bin/{tool} was edited"


def test_edited_data_file_outside_of_site_packages_is_a_modification(environment: LocalEnvironment) -> None:
    (environment.prefix / "share/demo/note.txt").write_text("other\n")
    assert changes(found(environment)) == {"demo": (["../../../share/demo/note.txt"], [], [])}


UNOWNED: dict[str, tuple[str, str]] = {
    "lib/python3.*/site-packages/own.pth": ("import sys\n", "pth"),
    "lib/python3.*/site-packages/folders.pth": ("demo\n", "pth"),
    "lib/python3.*/site-packages/sitecustomize.py": ("x = 1\n", "startup"),
    "lib/python3.*/site-packages/usercustomize.py": ("x = 1\n", "startup"),
    "lib/python3.*/site-packages/tables/a.csv": ("1\n", "file"),
    "share/own/a.csv": ("1\n", "file"),
    "etc/own.cfg": ("1\n", "file"),
    "bin/own-tool": ("#!/bin/sh\n", "file"),
}


@pytest.mark.parametrize("pattern", UNOWNED)
def test_file_of_no_package_is_named(environment: LocalEnvironment, pattern: str) -> None:
    content, kind = UNOWNED[pattern]
    version = environment.site_packages.parent.name
    path = environment.prefix / pattern.replace("python3.*", version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    modifications = found(environment)
    assert [(each.path, each.kind) for each in modifications.unowned] == [(str(path), kind)]
    (finding,) = unowned_findings(modifications.unowned, scanned(environment))
    assert finding.code == ("files-unowned" if kind == "file" else "startup-code")
    assert str(path) in finding.message
    assert finding.hint


MODULES_OF_NO_PACKAGE = {
    "shared/own.py": True,  # other packages have files in folders below
    "tests/own.py": True,  # two packages have files in the folder
    "own/part.py": True,  # a namespace package (PEP 420)
    "own/deep/part.py": True,
    "own-tool.py": True,  # no import can name it
    "demo_top/part.py": True,  # hides a module that a package has
    "whole/__init__.py": False,
    "whole.cpython-311-x86_64-linux-gnu.so": False,
}
"""Files beside installed packages, and whether no other check names them."""


@pytest.mark.parametrize("name", MODULES_OF_NO_PACKAGE)
def test_module_of_no_package_is_named_once(environment: LocalEnvironment, tmp_path: Path, name: str) -> None:
    site = environment.site_packages
    for package, files in {"one": ["shared/one/a.py", "tests/a.py"], "two": ["tests/b.py"]}.items():
        add_distribution(site, package, files)
    assert found(environment) == Modifications()
    (site / name).parent.mkdir(parents=True, exist_ok=True)
    (site / name).write_text("x = 1\n")
    result = scanned(environment)
    modifications = find_modifications(result)
    loose = find_loose_code(result, modules=modifications.modules, environ={}, cwd=tmp_path)
    path, top = str(site / name), str(site / name.partition("/")[0])
    if MODULES_OF_NO_PACKAGE[name]:
        assert ([each.path for each in modifications.unowned], loose) == ([path], ())
    else:
        assert (modifications.unowned, [each.modules for each in loose]) == ((), [(top,)])


def add_distribution(site: Path, name: str, files: Iterable[str]) -> None:
    """Install a distribution with empty *files*."""
    for path in files:
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(b"")
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    rows = [*files, f"{folder.name}/METADATA", f"{folder.name}/RECORD"]
    (folder / "RECORD").write_text("".join(f"{path},,\n" for path in rows))


@pytest.mark.parametrize("name", ["_virtualenv.pth", "_virtualenv.py", "demo-nspkg.pth", "own.py"])
def test_files_of_tools_and_modules_on_the_path_are_not_named(
    environment: LocalEnvironment, name: str
) -> None:
    (environment.site_packages / name).write_text("import _virtualenv" if name == "_virtualenv.pth" else "")
    assert found(environment).unowned == ()


PTH_OF_TOOLS = {
    "_virtualenv.pth": "import _virtualenv",
    "distutils-precedence.pth": "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, "
    "'local') == 'local'; enabled and __import__('_distutils_hack').add_shim(); ",
    "easy-install.pth": "import sys; sys.__plen = len(sys.path)\n./own-1.0-py3.11.egg\n/elsewhere/src\n"
    "import sys; new=sys.path[sys.__plen:]; del sys.path[sys.__plen:]; p=getattr(sys,'__egginsert',0); "
    "sys.path[p:p]=new; sys.__egginsert = p+len(new)\n",
    "own-nspkg.pth": "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join("
    "sys._getframe(1).f_locals['sitedir'], *('own',));m = sys.modules.setdefault('own', "
    "types.ModuleType('own'));mp = (m or []) and m.__dict__.setdefault('__path__',[]);"
    "(p not in mp) and mp.append(p)\n",
    "own-py3.11-nspkg.pth": "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join("
    "sys._getframe(1).f_locals['sitedir'], *('own', 'sub'));importlib = has_mfs and "
    "__import__('importlib.util');has_mfs and __import__('importlib.machinery');m = has_mfs and "
    "sys.modules.setdefault('own.sub', importlib.util.module_from_spec("
    "importlib.machinery.PathFinder.find_spec('own.sub', [os.path.dirname(p)])));m = m or "
    "sys.modules.setdefault('own.sub', types.ModuleType('own.sub'));mp = (m or []) and "
    "m.__dict__.setdefault('__path__',[]);(p not in mp) and mp.append(p);"
    "m and setattr(sys.modules['own'], 'sub', m)\n",
    "old-nspkg.pth": "import sys,new,os; p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('old',)); "
    "ie = os.path.exists(os.path.join(p,'__init__.py')); m = not ie and "
    "sys.modules.setdefault('old',new.module('old')); mp = (m or []) and "
    "m.__dict__.setdefault('__path__',[]); (p not in mp) and mp.append(p)\n",
}


@pytest.mark.parametrize("name", PTH_OF_TOOLS)
def test_pth_of_a_tool_is_named_once_a_line_of_code_is_added(
    environment: LocalEnvironment, name: str
) -> None:
    path = environment.site_packages / name
    path.write_text(PTH_OF_TOOLS[name])
    assert found(environment) == Modifications()
    path.write_text(PTH_OF_TOOLS[name].rstrip() + "\nimport own\n")
    assert [each.kind for each in found(environment).unowned] == ["pth"]
    path.write_text("import own\n")
    assert [each.kind for each in found(environment).unowned] == ["pth"]


def test_namespace_pth_with_an_edited_middle_is_named(environment: LocalEnvironment) -> None:
    path = environment.site_packages / "own-nspkg.pth"
    path.write_text(PTH_OF_TOOLS["own-nspkg.pth"].replace(";p = ", ";import own;p = "))
    assert [each.kind for each in found(environment).unowned] == ["pth"]


def test_file_that_two_packages_have_is_right_as_either_has_it(environment: LocalEnvironment) -> None:
    site = environment.site_packages
    other = site / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "RECORD").write_text(
        "demo_top.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\nother-1.0.dist-info/RECORD,,\n"
        "other-1.0.dist-info/METADATA,,\n"
    )
    assert found(environment) == Modifications()
    (site / "demo_top.py").write_bytes(b"")
    assert found(environment) == Modifications()
    (site / "demo_top.py").write_bytes(b"x")
    assert sorted(changes(found(environment))) == ["demo", "other"]


def settle(environment: LocalEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files of *environment* old enough for a result to be remembered."""
    past = time.time() - 60
    for path in environment.prefix.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (past, past))
    # The change times can't be set: without a clock that is ahead, none of them counts as settled.
    monkeypatch.setattr(time, "time_ns", lambda: int((time.time() + 60) * 1e9))


def test_result_is_remembered_and_found_out_again_after_a_change(
    environment: LocalEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment.site_packages / "demo_top.py").write_bytes(b"edited")
    settle(environment, monkeypatch)
    cache = tmp_path / "cache"
    first = found(environment, cache=cache)
    assert changes(first) == {"demo": (["demo_top.py"], [], [])}
    with monkeypatch.context() as patch:
        patch.setattr(compare, "read_claims", _refuse)
        assert found(environment, cache=cache) == first
    (environment.site_packages / "demo/data/table.csv").write_text("1,3\n")
    assert changes(found(environment, cache=cache)) == {
        "demo": (["demo/data/table.csv", "demo_top.py"], [], [])
    }


@pytest.mark.parametrize("place", ["lib", "man", "linked"])
def test_change_outside_of_the_walked_folders_is_found_after_a_remembered_result(
    environment: LocalEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    site = environment.site_packages
    if place == "linked":
        (site / "demo").rename(tmp_path / "demo")
        (site / "demo").symlink_to(tmp_path / "demo")
        path, recorded = tmp_path / "demo/data/table.csv", "demo/data/table.csv"
    else:
        path, recorded = environment.prefix / place / "demo.bin", f"../../../{place}/demo.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        record = site / "demo-1.0.dist-info/RECORD"
        record.write_text(
            record.read_text() + f"{recorded},sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"
        )
    settle(environment, monkeypatch)
    cache = tmp_path / "cache"
    assert found(environment, cache=cache) == Modifications()
    path.write_bytes(b"edited")
    assert changes(found(environment, cache=cache)) == {"demo": ([recorded], [], [])}
    path.unlink()
    assert changes(found(environment, cache=cache)) == {"demo": ([], [], [recorded])}


def test_package_whose_folder_is_a_link_is_compared_through_it(
    environment: LocalEnvironment, tmp_path: Path
) -> None:
    folder = environment.site_packages / "demo"
    folder.rename(tmp_path / "demo")
    folder.symlink_to(tmp_path / "demo")
    assert found(environment) == Modifications()
    (tmp_path / "demo/__init__.py").write_bytes(b"kind = 'bag'\n")
    (tmp_path / "demo/data/table.csv").unlink()
    assert changes(found(environment)) == {"demo": (["demo/__init__.py"], [], ["demo/data/table.csv"])}


def test_file_added_behind_a_linked_folder_is_found_after_a_remembered_result(
    environment: LocalEnvironment, tmp_path: Path
) -> None:
    folder = environment.site_packages / "demo"
    folder.rename(tmp_path / "demo")
    folder.symlink_to(tmp_path / "demo")
    an_hour_ago = time.time() - 3600
    cache = tmp_path / "cache"
    for path in (*(tmp_path / "demo").rglob("*"), tmp_path / "demo"):
        os.utime(path, (an_hour_ago, an_hour_ago))
    assert found(environment, cache=cache) == Modifications()
    (tmp_path / "demo/own.py").write_text("")
    assert changes(found(environment, cache=cache)) == {"demo": ([], ["demo/own.py"], [])}
    (tmp_path / "demo/own.py").unlink()
    (tmp_path / "demo/data/own.csv").write_text("")
    assert changes(found(environment, cache=cache)) == {"demo": ([], ["demo/data/own.csv"], [])}


def _refuse(*arguments: object) -> None:
    raise AssertionError(f"read again: {arguments}")


def test_record_that_names_files_outside_is_not_followed(
    environment: LocalEnvironment, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    record = environment.site_packages / "demo-1.0.dist-info/RECORD"
    record.write_text(record.read_text() + f"{secret},sha256={'A' * 43},0\n")
    assert found(environment) == Modifications()


def test_editable_package_is_not_compared(environment: LocalEnvironment) -> None:
    (environment.site_packages / "demo_top.py").write_bytes(b"edited")
    result = scanned(environment)
    packages = [replace(p, source=replace(p.source, editable=True)) for p in result.packages]
    assert find_modifications(replace(result, packages=tuple(packages))).packages == ()


CONDA_CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda site: (site / "toolz/recipes.py").write_bytes(b"edited"),
    "added": lambda site: (site / "toolz/own.py").write_text(""),
    "missing": lambda site: (site / "toolz/recipes.py").unlink(),
}


def test_changes_of_conda_packages_are_found(conda_environment: MakeCondaEnvironment) -> None:
    environment = conda_environment("python", "toolz")
    assert found(environment) == Modifications()
    site = environment.site_packages
    before = (site / "toolz/recipes.py").read_bytes()
    for kind, change in CONDA_CHANGES.items():
        change(site)
        modifications = found(environment)
        (modification,) = modifications.packages
        assert (modification.manager, modification.name) == ("conda", "toolz")
        assert getattr(modification, kind)
        assert getattr(modifications.provided["toolz"], kind)
        (site / "toolz/recipes.py").write_bytes(before)
        (site / "toolz/own.py").unlink(missing_ok=True)
    own = environment.prefix / "etc/conda/activate.d/own.sh"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("")
    assert [each.path for each in found(environment).unowned] == [str(own)]


@pytest.mark.parametrize("installer", ["conda", "rattler"])
def test_link_of_a_conda_package_that_leads_elsewhere_is_a_change(
    conda_environment: MakeCondaEnvironment, installer: str
) -> None:
    environment = conda_environment("python", "toolz")
    record = environment.record("toolz")
    document = json.loads(record.read_text())
    paths = document["paths_data"]["paths"]
    (linked,) = (e for e in paths if e["_path"].endswith("toolz/recipes.py"))
    link = environment.site_packages / "toolz/link.py"
    in_prefix = hashlib.sha256(b"recipes.py").hexdigest() if installer == "rattler" else linked["sha256"]
    paths.append(
        {
            "_path": linked["_path"].replace("recipes", "link"),
            "path_type": "softlink",
            "sha256": linked["sha256"],
            "sha256_in_prefix": in_prefix,
        }
    )
    record.write_text(json.dumps(document))
    link.symlink_to("recipes.py")
    assert found(environment).packages == ()
    for target in ("utils.py", "../own.py"):
        (environment.site_packages / "own.py").write_text("")
        link.unlink()
        link.symlink_to(target)
        (modification,) = found(environment).packages
        assert list(modification.edited) == [paths[-1]["_path"]]
    # A copy without links.
    link.unlink()
    link.write_bytes((environment.site_packages / "toolz/recipes.py").read_bytes())
    assert found(environment).packages == ()
    link.write_bytes(b"edited")
    assert len(found(environment).packages) == 1


def test_text_with_another_prefix_is_no_change_of_a_conda_package(
    conda_environment: MakeCondaEnvironment, tmp_path: Path
) -> None:
    environment = conda_environment("python", "toolz")
    record = environment.record("toolz")
    document = json.loads(record.read_text())
    (entry,) = (e for e in document["paths_data"]["paths"] if e["_path"].endswith("toolz/recipes.py"))
    placeholder = "/opt/placeholder" * 4
    entry |= {
        "prefix_placeholder": placeholder,
        "file_mode": "text",
        "sha256": hashlib.sha256(f"home = '{placeholder}'\n".encode()).hexdigest(),
        "sha256_in_prefix": hashlib.sha256(b"home = '/somewhere/else'\n").hexdigest(),
    }
    record.write_text(json.dumps(document, indent=2))
    path = environment.site_packages / "toolz/recipes.py"
    path.write_text(f"home = '{environment.prefix}'\n")
    assert found(environment).packages == ()
    path.write_text(f"home = '{environment.prefix}/'\n")
    assert found(environment).packages != ()


def test_binary_with_another_prefix_is_no_change_of_a_conda_package(
    conda_environment: MakeCondaEnvironment,
) -> None:
    environment = conda_environment("python", "toolz")
    record = environment.record("toolz")
    document = json.loads(record.read_text())
    (entry,) = (e for e in document["paths_data"]["paths"] if e["_path"].endswith("toolz/recipes.py"))
    placeholder = b"/opt/placeholder" * 20
    packed = b"\1" + placeholder + b"/lib:" + placeholder + b"/bin\0\2"
    entry |= {
        "prefix_placeholder": placeholder.decode(),
        "file_mode": "binary",
        "sha256": hashlib.sha256(packed).hexdigest(),
        "sha256_in_prefix": hashlib.sha256(b"in another prefix").hexdigest(),
    }
    record.write_text(json.dumps(document, indent=2))
    path = environment.site_packages / "toolz/recipes.py"
    prefix = os.fsencode(environment.prefix)
    padding = b"\0" * (2 * (len(placeholder) - len(prefix)))
    path.write_bytes(b"\1" + prefix + b"/lib:" + prefix + b"/bin\0" + padding + b"\2")
    assert found(environment).packages == ()
    path.write_bytes(b"\1" + prefix + b"/lib:" + prefix + b"/bin\0" + padding + b"\3")
    assert found(environment).packages != ()


@pytest.mark.parametrize(
    ("start", "edited"),
    [
        ("#!/usr/bin/env python3", True),
        ("#!python3", True),
        ("#!/elsewhere/bin/python3", False),
        ("#!/bin/sh\n'''exec' \"/else where/bin/python\" \"$0\" \"$@\"\n' '''", False),
        ("#!/bin/sh\necho python", True),
    ],
)
def test_script_of_another_environment_is_one_with_its_interpreter(
    environment: LocalEnvironment, start: str, edited: bool
) -> None:
    (environment.prefix / "bin/demo-tool").write_text(f"{start}\nprint('more')\n")
    assert bool(found(environment).packages) == edited


@pytest.mark.parametrize("row", ["{site}/,,", "demo/a.bin,," + "9" * 5000])
def test_odd_row_of_a_record_is_no_error(environment: LocalEnvironment, row: str) -> None:
    site = environment.site_packages
    (site / "demo/a.bin").write_bytes(b"")
    record = site / "demo-1.0.dist-info/RECORD"
    record.write_text(record.read_text() + row.format(site=site) + "\ndemo/a.bin,,\n")
    assert found(environment) == Modifications()


def test_list_of_installed_files_that_cannot_be_read_is_no_error(environment: LocalEnvironment) -> None:
    listing = environment.site_packages / "demo-1.0.dist-info/installed-files.txt"
    listing.write_text("../demo/__init__.py\n\n../demo/\0\n")
    assert found(environment) == Modifications()
    listing.unlink()
    listing.mkdir()
    assert found(environment) == Modifications()


def test_recorded_file_has_the_path_that_a_walk_on_windows_gives() -> None:
    site = "C:\\env\\Lib\\site-packages"
    assert locate(site, "demo/__init__.py", syntax=ntpath) == site + "\\demo\\__init__.py"
    assert locate(site, "../../Scripts/demo.exe", syntax=ntpath) == "C:\\env\\Scripts\\demo.exe"
    assert locate(site, "D:/own/a.py", syntax=ntpath) == "D:\\own\\a.py"


@pytest.mark.parametrize("algorithm", ["sha384", "sha512", "md5", ""])
def test_file_without_sha256_is_compared_by_what_is_recorded(
    environment: LocalEnvironment, algorithm: str
) -> None:
    path = environment.site_packages / "demo/own.bin"
    path.write_bytes(b"before")
    digest = ""
    if algorithm:
        value = hashlib.new(algorithm, b"before").digest()
        digest = f"{algorithm}={base64.urlsafe_b64encode(value).decode().rstrip('=')}"
    record = environment.site_packages / "demo-1.0.dist-info/RECORD"
    record.write_text(record.read_text() + f"demo/own.bin,{digest},6\n")
    assert found(environment) == Modifications()
    path.write_bytes(b"edited")
    assert bool(found(environment).packages) == (algorithm in ("sha384", "sha512"))
    path.write_bytes(b"of another size")
    assert changes(found(environment)) == {"demo": (["demo/own.bin"], [], [])}
