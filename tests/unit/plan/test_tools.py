"""Build tools, imagesync and conda in the scanned environment: what of them an image gets."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagesync.core.progress import Severity, SilentProgress
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_inputs import environment_inputs
from imagesync.plan import undeclared_imports
from imagesync.plan.choose_levels import TOOL_REASON
from imagesync.plan.make_plan import make_plan
from imagesync.plan.plan import Plan
from imagesync.plan.tools import with_requests
from imagesync.plan.undeclared_imports import import_search, required_imports
from imagesync.scan.environment import CondaRecord, Environment, Source
from imagesync.scan.modifications.modification import Modification, Modifications
from imagesync.scan.scan import scan
from imagesync.settings.model import Settings
from tests.archives import damaged_zip
from tests.environments import LocalEnvironment
from tests.indexes import LocalIndex
from tests.plans import PYTHON, codes, distribution, left_out

MakeEnvironment = Callable[..., LocalEnvironment]
IMPORTS = b"""
import one
def later():
    import two
try:
    import three
except (ImportError, OSError):
    three = None
if TYPE_CHECKING:
    import four
class Five:
    from five.sub import thing
from six import seven
from . import eight
"""


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str, severity: Severity = Severity.INFO) -> None:
        if severity.is_shown(Severity.INFO):
            self.lines.append(severity.lead + text)


def plan_of(
    found: Environment, *, code: tuple[Path, ...] = (), cache: Path | None = None, **settings: object
) -> Plan:
    search = import_search(found, code=code, cache=cache)
    return make_plan(found, settings=Settings(**{"profile": "none", **settings}), imports=search)  # type: ignore[arg-type]


def names(plan: Plan) -> set[str]:
    return {package.name for package in plan.packages}


def test_only_imports_that_must_succeed_count() -> None:
    wanted = ["one", "two", "three", "four", "five", "six", "six.seven", "eight", "on"]
    assert sorted(required_imports(IMPORTS, wanted)) == ["five", "one", "six", "six.seven", "two"]


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as running:
        files = {"setuptools/__init__.py": b"", "pkg_resources/__init__.py": b""}
        running.add_wheel("setuptools", "65.0", files=files)
        running.add_wheel("wheel", "0.40", files={"wheel/__init__.py": b""})
        use = b"def version():\n    import pkg_resources\n    return pkg_resources\n"
        running.add_wheel("careless", "1.0", files={"careless/__init__.py": b"", "careless/about.py": use})
        tests = {
            "careful/tests/test_it.py": b"import pkg_resources",
            "careful/setuptools_ext.py": b"import setuptools",
        }
        guarded = b"try:\n    import setuptools\nexcept ImportError:\n    setuptools = None\n"
        running.add_wheel("careful", "1.0", files={"careful/__init__.py": guarded, **tests})
        yield running


def test_setuptools_is_kept_for_who_imports_pkg_resources(
    environment: MakeEnvironment, index: LocalIndex, tmp_path: Path
) -> None:
    made = environment("setuptools", "wheel", "careful", arguments=["--index-url", index.url])
    for metadata in made.site_packages.glob("*.dist-info"):
        # As pip writes it for what came with the environment.
        (metadata / "INSTALLER").unlink()
        (metadata / "INSTALLER").write_text("pip\n")
        (metadata / "REQUESTED").unlink(missing_ok=True)
    cache = tmp_path / "cache"
    plan = plan_of(scan(python=made.python, environ={}), cache=cache)
    assert {"setuptools", "wheel"} <= {package.name for package in plan.left_out}
    made.install("careless", environ={"UV_DEFAULT_INDEX": index.url})
    plan = plan_of(scan(python=made.python, environ={}), cache=cache)
    assert "setuptools" in names(plan)
    assert left_out(plan, "wheel").name == "wheel"
    assert next(p.reason for p in plan.packages if p.name == "setuptools").startswith("careless imports it.")
    # The answer is remembered, and the sources aren't read again.
    (made.site_packages / "careless" / "about.py").unlink()
    assert "setuptools" in names(plan_of(scan(python=made.python, environ={}), cache=cache))
    assert "setuptools" not in names(plan_of(scan(python=made.python, environ={})))
    # What the settings leave out stays out, and that is said.
    ignored = plan_of(scan(python=made.python, environ={}), cache=cache, ignore=("setuptools",))
    assert "required-but-left-out" in codes(ignored)


def test_sources_of_an_editable_package_are_searched_again_when_one_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, recorded = tmp_path / "mine" / "mine" / "__init__.py", tmp_path / "setuptools-1.dist-info"
    module.parent.mkdir(parents=True)
    recorded.mkdir()
    (recorded / "RECORD").write_text("setuptools/__init__.py,,\n")
    tool = distribution("setuptools==1", metadata_path=str(recorded), has_record=True)
    mine = distribution("mine==1", source=Source("directory", url=module.parents[1].as_uri(), editable=True))
    search = import_search(Environment(PYTHON, packages=(tool, mine)), cache=tmp_path / "cache")
    searched: list[str] = []

    def read(path: str) -> bytes:
        searched.append(path)
        return Path(path).read_bytes()

    monkeypatch.setattr(undeclared_imports, "read_bytes", read)
    an_hour_ago = time.time() - 3600
    for source, found in ((b"import setuptools\n", {"setuptools": ["mine"]}), (b"import setuptoolz\n", {})):
        module.write_bytes(source)
        os.utime(module, (an_hour_ago, an_hour_ago))
        assert search([tool]) == search([tool]) == found
    assert searched == [str(module)] * 2


def test_sources_of_a_package_are_searched_again_when_they_differ_from_its_record(tmp_path: Path) -> None:
    for name in ("setuptools", "mine"):
        (tmp_path / f"{name}-1.dist-info").mkdir()
        (tmp_path / f"{name}-1.dist-info" / "RECORD").write_text(f"{name}/__init__.py,,\n")
    tool, mine = (
        distribution(
            f"{name}==1",
            metadata_path=str(tmp_path / f"{name}-1.dist-info"),
            location=str(tmp_path),
            has_record=True,
        )
        for name in ("setuptools", "mine")
    )
    module = tmp_path / "mine" / "__init__.py"
    module.parent.mkdir()
    module.write_text("")

    def imported_by(modification: Modification | None) -> dict[str, list[str]]:
        found = Modifications(() if modification is None else (modification,))
        search = import_search(
            Environment(PYTHON, packages=(tool, mine)), modifications=lambda: found, cache=tmp_path / "cache"
        )
        return {str(name): list(importers) for name, importers in search([tool]).items()}

    assert imported_by(None) == {}
    module.write_text("import setuptools\n")
    assert imported_by(Modification("mine", "pip", edited={"mine/__init__.py": "1"})) == {
        "setuptools": ["mine"]
    }
    module.write_text("")
    (tmp_path / "mine" / "added.py").write_text("import setuptools\n")
    assert imported_by(Modification("mine", "pip", added={"mine/added.py": "2"})) == {"setuptools": ["mine"]}
    assert imported_by(None) == {}


@pytest.mark.parametrize(
    ("source", "provided"),
    [
        (b"import pkg_resources", "pkg_resources/__init__.py"),
        (b"import os, pkg_resources", "pkg_resources/__init__.py"),
        (b"import os; import pkg_resources", "pkg_resources/__init__.py"),
        (b"if True: import pkg_resources", "pkg_resources/__init__.py"),
        (b"import os, \\\n    pkg_resources", "pkg_resources/__init__.py"),
        (b"__import__('pkg_resources').declare_namespace(__name__)", "pkg_resources/__init__.py"),
        (
            b"import importlib as i\ni.import_module(\n 'pkg_resources.extern')",
            "pkg_resources/__init__.py",
        ),
        (b"import google.protobuf.message", "google/protobuf/__init__.py"),
        (b"from google import protobuf", "google/protobuf/__init__.py"),
        (b"from google import (\n    auth,\n    protobuf as pb,\n)", "google/protobuf/__init__.py"),
    ],
)
@pytest.mark.parametrize("kind", ["code", "egg", "zipped egg"])
def test_import_is_found_however_it_is_written(
    tmp_path: Path, source: bytes, provided: str, kind: str
) -> None:
    recorded, egg = tmp_path / "tool-1.dist-info", tmp_path / "mine-1-py3.11.egg"
    recorded.mkdir()
    (recorded / "RECORD").write_text(f"{provided},,\n")
    tool = distribution("tool==1", metadata_path=str(recorded), has_record=True)
    if kind == "zipped egg":
        with zipfile.ZipFile(egg, "w") as archive:
            archive.writestr("mine/__init__.py", source)
    else:
        (egg / "mine").mkdir(parents=True)
        (egg / "mine" / "__init__.py").write_bytes(source)
    mine = distribution("mine==1", location=str(egg), metadata_path=str(egg))
    if kind == "code":
        search = import_search(Environment(PYTHON, packages=(tool,)), code=[egg / "mine"], cache=None)
        assert search([tool]) == {"tool": [undeclared_imports.YOUR_CODE]}
    else:
        search = import_search(Environment(PYTHON, packages=(tool, mine)), cache=tmp_path / "cache")
        assert search([tool]) == {"tool": ["mine"]}


def test_loader_beside_an_extension_of_an_egg_imports_nothing(tmp_path: Path) -> None:
    recorded, egg = tmp_path / "setuptools-1.dist-info", tmp_path / "mine-1-py3.11-linux-x86_64.egg"
    for folder in (recorded, egg):
        folder.mkdir()
    (recorded / "RECORD").write_text("pkg_resources/__init__.py,,\n")
    loader = "def __bootstrap__():\n    import sys, pkg_resources, importlib.util\n__bootstrap__()\n"
    (egg / "_mine.py").write_text(loader)
    tool = distribution("setuptools==1", metadata_path=str(recorded), has_record=True)
    mine = distribution("mine==1", location=str(egg), metadata_path=str(egg / "EGG-INFO"))
    assert import_search(Environment(PYTHON, packages=(tool, mine)), cache=None)([tool]) == {}


def test_imports_of_what_setup_py_installed_are_found(tmp_path: Path) -> None:
    recorded, listed = tmp_path / "setuptools-1.dist-info", tmp_path / "mine-1-py3.11.egg-info"
    for folder in (recorded, listed, tmp_path / "mine"):
        folder.mkdir()
    (recorded / "RECORD").write_text("pkg_resources/__init__.py,,\n")
    (listed / "installed-files.txt").write_text("../mine/__init__.py\n../../../bin/mine.py\nPKG-INFO\n")
    (tmp_path / "mine" / "__init__.py").write_text("import pkg_resources\n")
    places = {"location": str(tmp_path), "has_record": True}
    tool = distribution("setuptools==1", metadata_path=str(recorded), **places)
    mine = distribution("mine==1", metadata_path=str(listed), **places)
    search = import_search(Environment(PYTHON, packages=(tool, mine)), cache=tmp_path / "cache")
    assert search([tool]) == search([tool]) == {"setuptools": ["mine"]}


def test_damaged_egg_imports_nothing(tmp_path: Path) -> None:
    recorded, egg = tmp_path / "tool-1.dist-info", tmp_path / "mine-1-py3.11.egg"
    recorded.mkdir()
    (recorded / "RECORD").write_text("tool/__init__.py,,\n")
    egg.write_bytes(damaged_zip({"mine.py": b"import tool\n" * 99}))
    tool = distribution("tool==1", metadata_path=str(recorded), has_record=True)
    mine = distribution("mine==1", location=str(egg), metadata_path=str(egg))
    assert import_search(Environment(PYTHON, packages=(tool, mine)), cache=None)([tool]) == {}


def test_setuptools_is_kept_for_loose_code(
    environment: MakeEnvironment, index: LocalIndex, tmp_path: Path
) -> None:
    made = environment("setuptools", arguments=["--index-url", index.url])
    (metadata,) = made.site_packages.glob("setuptools-*.dist-info")
    (metadata / "INSTALLER").unlink()
    (metadata / "INSTALLER").write_text("pip\n")
    (metadata / "REQUESTED").unlink(missing_ok=True)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "job.py").write_text("import setuptools.command\n")
    found = scan(python=made.python, environ={})
    assert "setuptools" not in names(plan_of(found))
    plan = plan_of(found, code=(tmp_path / "code",))
    assert next(p.reason for p in plan.packages if p.name == "setuptools").startswith("your code imports it.")


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_dependencies_of_imagesync_alone_stay_out(
    environment: MakeEnvironment, index: LocalIndex, installer: str
) -> None:
    """``pip install 'imagesync[dask]'``: dask is in the image, py-rattler isn't."""
    index.add_wheel(
        "imagesync", "9.0", requires=["py-rattler", "click", "jinja2", "rich", "dask; extra == 'dask'"]
    )
    index.add_wheel("dask", "2026.1.0", requires=["click>=8", "numpy"])
    index.add_wheel("jinja2", "3.0", requires=["markupsafe"])
    for name in ("py-rattler", "click", "markupsafe", "rich", "numpy"):
        index.add_wheel(name, "8.0.0")
    made = environment("pip")
    requirements = ["imagesync[dask]", "rich"] if installer == "pip" else ["imagesync[dask]"]
    if installer == "pip":
        alone = {"PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": ""}
        made.pip_install("--index-url", index.url, *requirements, environ=alone)
    else:
        made.install(*requirements, environ={"UV_DEFAULT_INDEX": index.url})
    plan = plan_of(scan(python=made.python, environ={}))
    kept = {"python", "dask", "click", "numpy"} | ({"rich"} if installer == "pip" else set())
    assert names(plan) == kept
    away = {package.name for package in plan.left_out}
    assert away >= {"imagesync", "py-rattler", "jinja2", "markupsafe"}
    assert "Only a tool requires it" in left_out(plan, "py-rattler").reason
    # Its own level, as without imagesync.
    assert next(p.level.value for p in plan.packages if p.name == "numpy") == "nearest"


def test_package_of_uv_that_nobody_requires_counts_as_requested(
    environment: MakeEnvironment, index: LocalIndex
) -> None:
    index.add_wheel("needs", "1.0", requires=["needed", "other; extra == 'x'"])
    for name in ("needed", "other"):
        index.add_wheel(name, "1.0")
    made = environment("needs", "other", arguments=["--index-url", index.url])
    found = scan(python=made.python, environ={})
    requested = {package.name: package.requested for package in with_requests(found, {}).packages}
    assert requested == {"needs": True, "needed": False, "other": True}


def conda_record(name: str, *depends: str, requested: str = "") -> CondaRecord:
    return CondaRecord(
        name=name,
        version="1.0",
        build="0",
        build_number=0,
        channel="https://conda.example.com/main",
        subdir="linux-64",
        filename=f"{name}-1.0-0.conda",
        url=f"https://conda.example.com/main/linux-64/{name}-1.0-0.conda",
        depends=depends,
        requested_spec=requested,
    )


def test_dependencies_of_conda_alone_stay_out_of_the_image_of_a_base_environment() -> None:
    records = (
        conda_record("python", "openssl", requested="python"),
        conda_record("openssl"),
        conda_record("conda", "python", "requests", "conda-package-handling", "menuinst", requested="conda"),
        conda_record("conda-libmamba-solver", "libmambapy", requested="conda-libmamba-solver"),
        conda_record("libmambapy", "libmamba"),
        conda_record("libmamba", "reproc", "openssl"),
        conda_record("reproc"),
        conda_record("menuinst"),
        conda_record("conda-package-handling", "zstandard"),
        conda_record("zstandard"),
        conda_record("requests", "idna"),
        conda_record("idna"),
        conda_record("pandas", "python", "zstandard", requested="pandas"),
        conda_record("rich", requested="rich"),
    )
    plan = plan_of(Environment(PYTHON, (), conda=records))
    assert {package.name for package in plan.conda} == {"python", "openssl", "pandas", "zstandard", "rich"}
    assert left_out(plan, "requests").reason == TOOL_REASON
    kept = plan_of(Environment(PYTHON, (), conda=records), levels={"conda": "compatible"})
    assert {"conda", "requests", "idna"} <= {package.name for package in kept.conda}


def test_build_names_what_it_leaves_out_though_it_was_asked_for(
    environment: MakeEnvironment, index: LocalIndex, tmp_path: Path
) -> None:
    index.add_wheel("appnope", "0.1")
    index.add_wheel("needs", "1.0", requires=["needed"])
    index.add_wheel("needed", "1.0")
    made = environment("appnope", "needs", arguments=["--index-url", index.url])
    progress = Lines()
    settings = Settings(profile="none", ignore=("needed",), cache_dir=tmp_path / "cache")
    environment_inputs(scan(python=made.python, environ={}), Context(settings, {}, progress))
    assert progress.lines == [
        "warning: needed is left out of the image, and needs won't find it there.",
        "left out: appnope 0.1, though you asked for it: It exists for macOS only.",
    ]
