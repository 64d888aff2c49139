"""Scans of real environments, some of them damaged by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from imagesync.scan.environment import Environment, Finding, Package
from imagesync.scan.scan import scan
from tests.archives import damaged_zip
from tests.commands import clean_environ
from tests.environments import LocalEnvironment
from tests.indexes.wheels import make_wheel

MakeEnvironment = Callable[..., LocalEnvironment]

# A build backend without requirements: editable by a .pth file named like the project.
BACKEND = """
import base64, hashlib, pathlib, zipfile

def _wheel(folder, files):
    stem = "demo-1.0.dist-info"
    files = {**files, f"{stem}/METADATA": "Metadata-Version: 2.1\\nName: Demo\\nVersion: 1.0\\n",
             f"{stem}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    files[f"{stem}/RECORD"] = "".join(f"{name},,\\n" for name in [*files, f"{stem}/RECORD"])
    with zipfile.ZipFile(pathlib.Path(folder) / "demo-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return "demo-1.0-py3-none-any.whl"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {"demo.py": pathlib.Path("src/demo.py").read_text()})

def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {"__editable__.demo-1.0.pth": str(pathlib.Path("src").absolute()) + "\\n"})
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "demo"
version = "1.0"
"""


def make_project(folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "demo.py").write_text("VALUE = 1\n")
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, version, tag in [
        ("alpha", "1.0", "py3-none-any"),
        ("alpha", "2.0", "py3-none-any"),
        ("beta_pack", "0.5", "py3-none-linux_x86_64"),
    ]:
        requires = ["alpha>=1"] if name == "beta_pack" else []
        filename, data = make_wheel(name, version, tag=tag, requires=requires, requires_python=">=3.8")
        (folder / filename).write_bytes(data)
    return folder


@pytest.fixture
def local(environment: MakeEnvironment, wheels: Path) -> Callable[..., LocalEnvironment]:
    """Make an environment whose packages come by name from the local wheels."""

    def make(
        *packages: str, installer: str = "uv", name: str = "", editable: Sequence[Path] = ()
    ) -> LocalEnvironment:
        arguments = ["--no-index", "--find-links", str(wheels), "--no-build-isolation"]
        if installer == "uv":
            arguments.append("--offline")
            return environment(*packages, name=name, editable=editable, arguments=arguments)
        # pip from outside: an environment with a pip of its own takes seconds to make.
        made = environment(name=name)
        words = [*packages, *(word for folder in editable for word in ("--editable", folder))]
        made.pip_install(*arguments, *words)
        return made

    return make


def scanned(environment: LocalEnvironment | Path, **variables: str) -> Environment:
    python = environment.python if isinstance(environment, LocalEnvironment) else environment
    return scan(python=python, environ={**clean_environ(), **variables})


def package(environment: Environment, name: str) -> Package:
    (found,) = [item for item in environment.packages if item.name == name]
    return found


def names(environment: Environment) -> list[str]:
    return [item.name for item in environment.packages]


def finding(environment: Environment, code: str) -> Finding:
    (found,) = [item for item in environment.findings if item.code == code]
    return found


def metadata_folder(environment: LocalEnvironment, name: str) -> Path:
    (folder,) = environment.site_packages.glob(f"{name}-*.dist-info")
    return folder


def test_packages_from_an_index_have_their_metadata(local: MakeEnvironment) -> None:
    made = local("beta-pack", installer="pip")
    result = scanned(made)
    beta = package(result, "beta-pack")
    assert (beta.version, beta.manager, beta.source.kind, beta.installer) == ("0.5", "pip", "index", "pip")
    assert beta.requested is True
    assert package(result, "alpha").requested is False
    assert beta.purelib is False
    assert package(result, "alpha").purelib is True
    assert beta.tags == ("py3-none-linux_x86_64",)
    assert beta.requires == ("alpha>=1",)
    assert beta.requires_python == ">=3.8"
    assert beta.has_record
    assert Path(beta.location) == made.site_packages
    assert not result.findings
    assert names(result) == sorted(names(result))


def test_requested_is_unknown_for_packages_that_uv_installed(local: MakeEnvironment) -> None:
    result = scanned(local("beta-pack"))
    assert package(result, "alpha").requested is None
    assert package(result, "alpha").installer == "uv"


def test_scan_writes_nothing(local: MakeEnvironment) -> None:
    made = local("alpha")
    before = sorted(made.prefix.rglob("*"))
    scanned(made, PYTHONDONTWRITEBYTECODE="")
    assert sorted(made.prefix.rglob("*")) == before


def test_scan_ignores_the_variables_of_the_calling_process(local: MakeEnvironment, tmp_path: Path) -> None:
    made, other = local("alpha==1.0"), local("alpha==2.0", "beta-pack")
    plain = scanned(made)
    surrounded = scanned(
        made, PYTHONPATH=str(other.site_packages), PYTHONHOME=str(tmp_path), PYTHONSTARTUP="x"
    )
    assert surrounded == plain


def test_local_archive_is_the_source(environment: MakeEnvironment, wheels: Path) -> None:
    made = environment(str(wheels / "alpha-1.0-py3-none-any.whl"), arguments=["--offline"], installer="uv")
    source = package(scanned(made), "alpha").source
    assert source.kind == "archive"
    assert source.url == (wheels / "alpha-1.0-py3-none-any.whl").as_uri()


def test_editable_wheel_of_pip_has_its_source_folder(local: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "with späce & ünicode")
    made = local(installer="pip", editable=[project])
    result = scanned(made)
    demo = package(result, "demo")
    assert demo.source.to_dict() == {"kind": "directory", "url": project.as_uri(), "editable": True}
    assert demo.requested is True
    assert not result.findings


def test_editable_without_direct_url_is_found_by_its_pth(local: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    made = local(editable=[project])
    (metadata_folder(made, "demo") / "direct_url.json").unlink()
    assert package(scanned(made), "demo").source.url == project.as_uri()
    # Older tools name the .pth as they like; the RECORD says whose it is.
    made.site_packages.joinpath("__editable__.demo-1.0.pth").rename(made.site_packages / "other.pth")
    record = metadata_folder(made, "demo") / "RECORD"
    record.write_text(record.read_text().replace("__editable__.demo-1.0.pth", "other.pth"))
    source = package(scanned(made), "demo").source
    assert (source.kind, source.editable, source.url) == ("directory", True, project.as_uri())


def test_editable_without_direct_url_is_found_by_its_import_hook(
    local: MakeEnvironment, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project")
    made = local(editable=[project])
    (metadata_folder(made, "demo") / "direct_url.json").unlink()
    (made.site_packages / "__editable__.demo-1.0.pth").write_text("import __editable___demo_1_0_finder\n")
    (made.site_packages / "__editable___demo_1_0_finder.py").write_text(
        f"MAPPING: dict = {{'demo': {str(project / 'src' / 'demo')!r}}}\n"
    )
    assert package(scanned(made), "demo").source.url == project.as_uri()


def test_editable_is_found_by_symbolic_link(local: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    made = local(editable=[project])
    (metadata_folder(made, "demo") / "direct_url.json").unlink()
    (made.site_packages / "__editable__.demo-1.0.pth").unlink()
    (made.site_packages / "demo.py").symlink_to(project / "src" / "demo.py")
    record = metadata_folder(made, "demo") / "RECORD"
    record.write_text(record.read_text().replace("__editable__.demo-1.0.pth", "demo.py"))
    assert package(scanned(made), "demo").source.url == project.as_uri()


def test_editable_without_its_source_tree_is_an_error(local: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    made = local(editable=[project])
    shutil.rmtree(project)
    result = scanned(made)
    assert package(result, "demo").source.editable
    found = finding(result, "editable-source-missing")
    assert found.package == "demo"
    assert str(project) in found.message
    # The environment has no pip.
    assert f"uninstall it: uv pip uninstall --python {result.python.executable} demo" in str(found.hint)


def develop(made: LocalEnvironment, project: Path) -> None:
    """Leave what ``setup.py develop`` leaves: an egg-info, an egg-link, a line in easy-install.pth."""
    information = project / "src" / "legacy.egg-info"
    information.mkdir(parents=True)
    (information / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: Legacy\nVersion: 3.1\n")
    (information / "requires.txt").write_text("alpha>=1\n\n[fast]\nbeta-pack\n")
    (project / "setup.py").write_text("")
    (made.site_packages / "legacy.egg-link").write_text(f"{project / 'src'}\n../")
    (made.site_packages / "easy-install.pth").write_text(f"{project / 'src'}\n")


@pytest.mark.parametrize("damage", ["", "easy-install.pth", "legacy.egg-link"])
def test_editable_of_setup_py_develop_is_found(local: MakeEnvironment, tmp_path: Path, damage: str) -> None:
    made, project = local(), tmp_path / "project"
    develop(made, project)
    if damage:
        (made.site_packages / damage).unlink()
    result = scanned(made)
    legacy = package(result, "legacy")
    assert legacy.source.to_dict() == {"kind": "directory", "url": project.as_uri(), "editable": True}
    assert legacy.requires == ("alpha>=1", 'beta-pack; extra == "fast"')
    assert not result.findings


def test_egg_link_to_a_missing_folder_is_an_error(local: MakeEnvironment, tmp_path: Path) -> None:
    made, project = local("alpha"), tmp_path / "project"
    develop(made, project)
    shutil.rmtree(project)
    result = scanned(made)
    assert names(result) == ["alpha"]
    assert {item.code for item in result.findings} == {"editable-source-missing", "pth-folder-missing"}


def test_egg_info_in_an_editable_source_is_no_second_package(local: MakeEnvironment, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    made = local(editable=[project])
    information = project / "src" / "demo.egg-info"
    information.mkdir()
    (information / "PKG-INFO").write_text("Name: demo\nVersion: 0.9\n")
    result = scanned(made)
    assert package(result, "demo").version == "1.0"
    assert not result.findings


def test_pth_folder_without_a_package_is_a_finding(local: MakeEnvironment, tmp_path: Path) -> None:
    made = local("alpha")
    (tmp_path / "mine").mkdir()
    (made.site_packages / "mine.pth").write_text(f"# mine\n\n{tmp_path / 'mine'}\nimport sys\n")
    found = finding(scanned(made), "pth-folder-unowned")
    assert found.path == str(made.site_packages / "mine.pth")


def test_pth_lines_that_print_or_fail_do_not_stop_a_scan(local: MakeEnvironment) -> None:
    made = local("alpha")
    (made.site_packages / "a.pth").write_text('import sys; print("--- noise {\\n")\n')
    (made.site_packages / "b.pth").write_text("import no_such_module\n")
    assert names(scanned(made)) == ["alpha"]


def test_interrupted_uninstall_is_a_finding(local: MakeEnvironment) -> None:
    made = local("alpha", "beta-pack")
    folder = metadata_folder(made, "alpha")
    folder.rename(folder.with_name("~lpha-2.0.dist-info"))
    result = scanned(made)
    assert names(result) == ["beta-pack"]
    assert finding(result, "interrupted-uninstall").path == str(made.site_packages / "~lpha-2.0.dist-info")


def test_metadata_that_agrees_with_the_files_wins(local: MakeEnvironment) -> None:
    made, other = local("alpha==1.0"), local("alpha==2.0")
    # The stale folder is younger, has the higher version, and comes last: only the files speak against it.
    shutil.copytree(metadata_folder(other, "alpha"), made.site_packages / "alpha-2.0.dist-info")
    os.utime(made.site_packages / "alpha-2.0.dist-info")
    result = scanned(made)
    assert package(result, "alpha").version == "1.0"
    found = finding(result, "several-metadata")
    assert "alpha-1.0.dist-info agrees best" in found.message
    command = f"uv pip install --python {result.python.executable} --force-reinstall --no-deps alpha==1.0"
    assert found.hint == f"Mend it: {command}"


def test_newer_metadata_wins_where_it_agrees_with_the_files(local: MakeEnvironment) -> None:
    made, other = local("alpha==2.0"), local("alpha==1.0")
    shutil.copytree(metadata_folder(other, "alpha"), made.site_packages / "alpha-1.0.dist-info")
    assert package(scanned(made), "alpha").version == "2.0"


@pytest.mark.parametrize(
    ("folder", "files", "code"),
    [
        ("alpha-2.0.dist-info", {}, "metadata-missing"),
        ("gamma.dist-info", {"METADATA": b"Name: gamma\n"}, "metadata-incomplete"),
        ("-1.0.dist-info", {"METADATA": b"Version: 1.0\n"}, "metadata-incomplete"),
        (".dist-info", {"METADATA": b""}, "metadata-incomplete"),
        ("x-1.dist-info", {"METADATA": b"Name: ../evil\nVersion: 1\n"}, "invalid-name"),
        ("y.egg-info", {}, "metadata-missing"),
        ("METADATA-1.dist-info", {"METADATA/x": b""}, "unreadable"),
    ],
)
def test_metadata_without_a_name_is_left_out(
    local: MakeEnvironment, folder: str, files: dict[str, bytes], code: str
) -> None:
    made = local("alpha==1.0")
    for name, data in files.items():
        file = made.site_packages / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (made.site_packages / folder).mkdir(exist_ok=True)
    result = scanned(made)
    assert names(result) == ["alpha"]
    assert str(made.site_packages / folder) in (finding(result, code).path or "")


def test_metadata_without_a_version_takes_it_from_the_folder_name(local: MakeEnvironment) -> None:
    made = local("alpha==1.0")
    (metadata_folder(made, "alpha") / "METADATA").write_bytes(b"Name: alpha\n")
    result = scanned(made)
    assert package(result, "alpha").version == "1.0"
    assert not package(result, "alpha").has_identity
    assert finding(result, "metadata-incomplete").package == "alpha"


def test_invalid_version_is_a_finding(local: MakeEnvironment) -> None:
    made = local("alpha==1.0")
    (metadata_folder(made, "alpha") / "METADATA").write_bytes(b"Name: alpha\nVersion: 2004d-final\n")
    result = scanned(made)
    assert package(result, "alpha").version == "2004d-final"
    assert finding(result, "invalid-version").package == "alpha"


def test_metadata_that_is_not_utf8_is_a_finding(local: MakeEnvironment) -> None:
    made = local("alpha==1.0")
    file = metadata_folder(made, "alpha") / "METADATA"
    file.write_bytes(b"Author: Ren\xe9\n" + file.read_bytes())
    result = scanned(made)
    assert package(result, "alpha").version == "1.0"
    assert finding(result, "metadata-not-utf8").path == str(file)


def test_invalid_direct_url_is_a_finding(local: MakeEnvironment) -> None:
    made = local("alpha==1.0")
    file = metadata_folder(made, "alpha") / "direct_url.json"
    file.write_text("{")
    result = scanned(made)
    assert package(result, "alpha").source.kind == "index"
    assert finding(result, "invalid-direct-url").path == str(file)


def test_direct_url_is_read_without_credentials(local: MakeEnvironment) -> None:
    made = local("alpha==1.0")
    url = {"url": "https://me:hunter2@example.com/a.zip", "archive_info": {}}
    (metadata_folder(made, "alpha") / "direct_url.json").write_text(json.dumps(url))
    assert "hunter2" not in repr(scanned(made))


def test_packages_without_record_are_one_finding_a_folder(local: MakeEnvironment) -> None:
    made = local("alpha", "beta-pack")
    for name in ("alpha", "beta_pack"):
        (metadata_folder(made, name) / "RECORD").unlink()
    result = scanned(made)
    assert not package(result, "alpha").has_record
    assert finding(result, "no-record").path == str(made.site_packages)


def test_egg_info_files_and_eggs_are_packages(local: MakeEnvironment) -> None:
    made = local("alpha")
    (made.site_packages / "Old_Name-1.2-py3.9.egg-info").write_text("Name: Old_Name\nVersion: 1.2\n")
    egg = made.site_packages / "Hatched-4.0-py3.9.egg" / "EGG-INFO"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text("Name: Hatched\nVersion: 4.0\n")
    (made.site_packages / "easy-install.pth").write_text("./Hatched-4.0-py3.9.egg\n")
    result = scanned(made)
    assert package(result, "old-name").version == "1.2"
    assert package(result, "hatched").location == str(egg.parent)
    assert not result.findings


def test_zipped_egg_is_a_package(local: MakeEnvironment) -> None:
    made = local("alpha")
    with zipfile.ZipFile(made.site_packages / "zipped-1.0.egg", "w") as archive:
        archive.writestr("EGG-INFO/PKG-INFO", "Name: zipped\nVersion: 1.0\n")
        archive.writestr("EGG-INFO/requires.txt", "alpha\n")
    (made.site_packages / "broken-1.0.egg").write_bytes(b"no zip")
    (made.site_packages / "easy-install.pth").write_text("./zipped-1.0.egg\n./broken-1.0.egg\n")
    result = scanned(made)
    assert package(result, "zipped").requires == ("alpha",)
    assert finding(result, "unreadable").path == str(made.site_packages / "broken-1.0.egg")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_egg_is_a_finding(local: MakeEnvironment, method: int) -> None:
    made = local("alpha")
    egg = made.site_packages / "broken-1.0.egg"
    egg.write_bytes(damaged_zip({"EGG-INFO/PKG-INFO": b"Name: broken\nVersion: 1.0\n" * 9}, method=method))
    (made.site_packages / "easy-install.pth").write_text("./broken-1.0.egg\n")
    assert finding(scanned(made), "unreadable").path == str(egg)


def test_system_site_packages_are_seen_unless_shadowed(tmp_path: Path, local: MakeEnvironment) -> None:
    made = local("alpha==1.0", name="base")
    inner = tmp_path / "inner"
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", inner], check=True
    )
    system = scanned(Path(scanned(made).python.base_prefix) / "bin" / "python3")
    result = scanned(inner / "bin" / "python")
    assert names(result) == names(system)
    if not system.packages:
        pytest.skip("the system's Python has no packages on this machine")
    taken = system.packages[0]
    (site,) = inner.glob("lib/python*/site-packages")
    folder = site / f"{taken.name.replace('-', '_')}-99.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {taken.name}\nVersion: 99\n")
    result = scanned(inner / "bin" / "python")
    assert package(result, taken.name).version == "99"
    assert finding(result, "shadowed").path == taken.metadata_path


def test_unreadable_metadata_is_a_finding(local: MakeEnvironment) -> None:
    made = local("alpha", "beta-pack")
    file = metadata_folder(made, "alpha") / "METADATA"
    file.unlink()
    file.symlink_to("METADATA")  # a loop fails for root, too
    result = scanned(made)
    assert names(result) == ["beta-pack"]
    assert finding(result, "unreadable").path == str(file)
