"""Who owns what where conda and pip have both been at work: prefixes made by hand, read as files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from imagesync.scan.environment import Environment, Finding, Package, Severity
from imagesync.scan.scan import scan
from tests.commands import clean_environ

BUILT = "file:///home/conda/feedstock_root/build_artifacts/demo_1704067200/work"


class Prefix:
    """A prefix of files that conda and pip leave."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "lib" / "python3.11" / "site-packages"
        self.site.mkdir(parents=True)
        self.records = root / "conda-meta"
        self.records.mkdir()

    def distribution(self, name: str, version: str, installer: str, direct_url: object = None) -> Path:
        """Install a distribution's metadata."""
        folder = self.site / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "RECORD").write_text(f"{folder.name}/METADATA,,\n")
        if installer:
            (folder / "INSTALLER").write_text(installer)
        if direct_url is not None:
            (folder / "direct_url.json").write_text(json.dumps(direct_url))
        return folder

    def record(
        self, name: str, version: str, *folders: Path | str, files: Sequence[str] = (), requested: str = ""
    ) -> Path:
        """Write a record that lists the metadata *folders*, and *files*."""
        metadata = [self.site / folder for folder in folders]
        listed = [str((folder / "METADATA").relative_to(self.root)) for folder in metadata]
        extras = [folder / name for folder in metadata for name in ("INSTALLER", "direct_url.json")]
        listed += [str(extra.relative_to(self.root)) for extra in extras if extra.exists()]
        paths = [
            {"_path": path, "sha256": hashlib.sha256((self.root / path).read_bytes()).hexdigest()}
            for path in listed
            if (self.root / path).exists()
        ]
        document = {
            "name": name,
            "version": version,
            "build": "0",
            "files": [*listed, *files],
            "paths_data": {"paths": paths, "paths_version": 1},
            "requested_spec": requested or "None",
            "url": f"https://conda.anaconda.org/conda-forge/noarch/{name}-{version}-0.conda",
            "subdir": "noarch",
        }
        path = self.records / f"{name}-{version}-0.json"
        path.write_text(json.dumps(document, indent=2, sort_keys=True))
        return path

    def scan(self) -> Environment:
        """Scan it as files."""
        return scan(prefix=self.root, environ={**clean_environ(), "HOME": str(self.root / "home")})


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    return Prefix(tmp_path / "env")


def package(result: Environment, name: str) -> Package:
    (found,) = (package for package in result.packages if package.name == name)
    return found


def owner(result: Environment, name: str) -> tuple[str, str, str, str]:
    found = package(result, name)
    return found.manager, found.conda, found.version, found.source.kind


def codes(result: Environment) -> list[str]:
    return [finding.code for finding in result.findings if finding.code != "python-version-unknown"]


def finding(result: Environment, code: str) -> Finding:
    (found,) = (finding for finding in result.findings if finding.code == code)
    return found


def conda(result: Environment) -> list[str]:
    return [record.name for record in result.conda]


def test_conda_package_with_another_name_owns_its_distribution(prefix: Prefix) -> None:
    folder = prefix.distribution("msgpack", "1.1.2", "conda", {"url": BUILT, "dir_info": {}})
    prefix.record("msgpack-python", "1.1.2", folder, requested="msgpack-python >=1")
    pip = prefix.distribution("own", "1.0", "pip")
    (pip / "REQUESTED").write_text("")
    result = prefix.scan()
    assert owner(result, "msgpack") == ("conda", "msgpack-python", "1.1.2", "index")
    assert owner(result, "own") == ("pip", "", "1.0", "index")
    assert (package(result, "msgpack").requested, package(result, "own").requested) == (True, True)
    assert result.conda[0].requested_spec == "msgpack-python >=1"
    assert result.channels == ("https://conda.anaconda.org/conda-forge",)
    assert codes(result) == []


def test_package_that_pip_installed_over_conda_is_pips(prefix: Prefix) -> None:
    prefix.record("numpy", "1.26.4", "numpy-1.26.4.dist-info")
    prefix.distribution("numpy", "2.0.0", "pip")
    result = prefix.scan()
    assert owner(result, "numpy") == ("pip", "", "2.0.0", "index")
    assert (conda(result), [record.version for record in result.replaced]) == ([], ["1.26.4"])
    said = finding(result, "pip-over-conda")
    assert (said.severity, said.package) == (Severity.WARNING, "numpy")
    assert "numpy 2.0.0 was installed by pip over conda's numpy 1.26.4" in said.message


@pytest.mark.parametrize("leftover", ["conda", ""])
def test_package_that_pip_installed_over_conda_is_pips_despite_old_metadata(
    prefix: Prefix, leftover: str
) -> None:
    old = prefix.distribution("numpy", "1.26.4", leftover)
    prefix.record("numpy", "1.26.4", old)
    (old / "RECORD").write_text("numpy/__init__.py,sha256=x,5\n")  # which isn't there any more
    prefix.distribution("numpy", "2.0.0", "pip")
    new = prefix.site / "numpy-2.0.0.dist-info"
    (prefix.site / "numpy.py").write_text("x")
    (new / "RECORD").write_text("numpy.py,,1\n")
    result = prefix.scan()
    assert owner(result, "numpy") == ("pip", "", "2.0.0", "index")
    assert "pip-over-conda" in codes(result)


def test_same_version_from_conda_and_pip_is_condas(prefix: Prefix) -> None:
    folder = prefix.distribution("six", "1.17.0", "conda")
    prefix.record("six", "1.17.0", folder)
    (folder / "INSTALLER").write_text("pip")
    result = prefix.scan()
    assert owner(result, "six") == ("conda", "six", "1.17.0", "index")
    said = finding(result, "conda-and-pip")
    assert (said.severity, said.package) == (Severity.INFO, "six")


def test_same_version_in_another_metadata_folder_is_condas(prefix: Prefix) -> None:
    prefix.record("pyyaml", "6.0.3", "PyYAML-6.0.3.dist-info")
    prefix.distribution("pyyaml", "6.0.3", "pip")
    result = prefix.scan()
    assert owner(result, "pyyaml") == ("conda", "pyyaml", "6.0.3", "index")
    assert codes(result) == ["conda-and-pip"]


def test_conda_package_whose_installer_is_pip_is_condas(prefix: Prefix) -> None:
    folder = prefix.distribution("demo", "1.0", "pip", {"url": BUILT, "dir_info": {}})
    prefix.record("demo", "1.0", folder)
    result = prefix.scan()
    assert owner(result, "demo") == ("conda", "demo", "1.0", "index")
    assert codes(result) == []


@pytest.mark.parametrize("listed", [True, False])
def test_local_folder_installed_over_the_same_version_is_pips(prefix: Prefix, listed: bool) -> None:
    folder = prefix.distribution("demo", "1.0", "conda", {"url": BUILT, "dir_info": {}} if listed else None)
    prefix.record("demo", "1.0", folder)
    (folder / "INSTALLER").write_text("pip")
    mine = {"url": prefix.root.as_uri(), "dir_info": {"editable": True}}
    (folder / "direct_url.json").write_text(json.dumps(mine))
    result = prefix.scan()
    assert owner(result, "demo") == ("pip", "", "1.0", "directory")
    assert package(result, "demo").source.editable
    assert (conda(result), codes(result)) == ([], ["pip-over-conda"])


def test_conda_package_with_one_replaced_distribution_goes_to_pip(prefix: Prefix) -> None:
    core = prefix.distribution("orchard_core", "2.1", "conda", {"url": BUILT, "dir_info": {}})
    prefix.record("orchard", "2.1", core, "orchard_tools-2.1.dist-info")
    prefix.distribution("orchard_tools", "3.0", "uv")
    result = prefix.scan()
    assert owner(result, "orchard-tools") == ("pip", "", "3.0", "index")
    assert owner(result, "orchard-core") == ("pip", "", "2.1", "index")
    assert (conda(result), codes(result)) == ([], ["pip-over-conda", "pip-over-conda"])
    assert [record.distributions for record in result.replaced] == [("orchard-core", "orchard-tools")]


def test_record_whose_files_are_gone_is_left_out(prefix: Prefix) -> None:
    prefix.distribution("own", "1.0", "pip")
    prefix.record("six", "1.17.0", "six-1.17.0.dist-info", files=["lib/python3.11/site-packages/six.py"])
    prefix.record("libgone", "1.0", files=["lib/libgone.so", "lib/libgone.so.1"])
    prefix.record("libthere", "1.0", files=["lib/libthere.so"])
    (prefix.root / "lib" / "libthere.so").write_text("")
    prefix.record("meta", "1.0")
    result = prefix.scan()
    assert conda(result) == ["libthere", "meta"]
    gone = [(found.code, found.package) for found in result.findings if found.code == "conda-files-gone"]
    assert gone == [("conda-files-gone", "libgone"), ("conda-files-gone", "six")]


def test_metadata_in_vendored_folders_claims_no_distribution(prefix: Prefix) -> None:
    folder = prefix.distribution("setuptools", "80.0", "conda")
    prefix.record("setuptools", "80.0", folder, "setuptools/_vendor/zipp-1.0.dist-info")
    prefix.distribution("zipp", "1.0", "pip")
    result = prefix.scan()
    assert owner(result, "zipp") == ("pip", "", "1.0", "index")
    assert conda(result) == ["setuptools"]


def test_record_that_agrees_with_the_files_wins_over_an_older_one(prefix: Prefix) -> None:
    prefix.record("numpy", "1.26.4", "numpy-1.26.4.dist-info")
    prefix.record("numpy", "2.0.0", prefix.distribution("numpy", "2.0.0", "conda"))
    prefix.record("numpy", "3.0.0", "numpy-3.0.0.dist-info")
    result = prefix.scan()
    assert [record.version for record in result.conda] == ["2.0.0"]
    said = finding(result, "several-conda-records")
    assert (said.severity, said.package) == (Severity.WARNING, "numpy")
    assert "numpy-2.0.0-0.json agrees best" in said.message


def test_distribution_in_two_conda_packages_gets_one_owner(prefix: Prefix) -> None:
    folder = prefix.distribution("importlib_metadata", "8.7.0", "conda")
    prefix.record("importlib-metadata", "8.7.0", folder)
    prefix.record("importlib_metadata", "8.7.0", folder)
    result = prefix.scan()
    assert owner(result, "importlib-metadata")[:2] == ("conda", "importlib-metadata")
    assert conda(result) == ["importlib-metadata", "importlib_metadata"]
    assert finding(result, "several-conda-records").severity is Severity.INFO


def test_conda_distribution_without_a_record_is_a_finding(prefix: Prefix) -> None:
    prefix.distribution("lost", "1.0", "conda", {"url": BUILT, "dir_info": {}})
    (prefix.records / "broken-1.0-0.json").write_text("{")
    result = prefix.scan()
    assert owner(result, "lost") == ("pip", "", "1.0", "index")
    assert codes(result) == ["conda-record-missing", "conda-record-unreadable"]


def test_conda_distributions_without_conda_meta_are_pips(prefix: Prefix) -> None:
    prefix.records.rmdir()
    prefix.distribution("lost", "1.0", "conda")
    result = prefix.scan()
    assert owner(result, "lost")[:2] == ("pip", "")
    assert (result.conda, result.channels, codes(result)) == ((), (), ["conda-record-missing"])


def test_requested_packages_are_read_from_the_history(prefix: Prefix) -> None:
    prefix.record("six", "1.17.0", prefix.distribution("six", "1.17.0", "conda"))
    prefix.record("zipp", "3.0", prefix.distribution("zipp", "3.0", "conda"))
    assert package(prefix.scan(), "six").requested is None
    (prefix.records / "history").write_text("# update specs: ['zipp>=2']\n")
    result = prefix.scan()
    assert (package(result, "six").requested, package(result, "zipp").requested) == (False, True)
    assert {record.name: record.requested_spec for record in result.conda} == {"six": "", "zipp": "zipp>=2"}


def test_nested_environment_is_read_alone(prefix: Prefix) -> None:
    prefix.record("six", "1.17.0", prefix.distribution("six", "1.17.0", "conda"))
    inner = Prefix(prefix.root / "envs" / "inner")
    inner.record("zipp", "3.0", inner.distribution("zipp", "3.0", "conda"))
    assert (conda(prefix.scan()), conda(inner.scan())) == (["six"], ["zipp"])
    assert [package.name for package in inner.scan().packages] == ["zipp"]


def test_virtual_environment_of_conda_python_sees_conda_packages(prefix: Prefix, tmp_path: Path) -> None:
    prefix.record("six", "1.17.0", prefix.distribution("six", "1.17.0", "conda"))
    prefix.record("zipp", "3.0", prefix.distribution("zipp", "3.0", "conda"))
    (prefix.root / "bin").mkdir()
    venv = tmp_path / "venv"
    site = venv / "lib" / "python3.11" / "site-packages"
    (site / "zipp-4.0.dist-info").mkdir(parents=True)
    (site / "zipp-4.0.dist-info" / "METADATA").write_text("Name: zipp\nVersion: 4.0\n")
    configuration = f"home = {prefix.root}/bin\nversion = 3.11.7\ninclude-system-site-packages = %s\n"
    (venv / "pyvenv.cfg").write_text(configuration % "true")
    result = scan(prefix=venv, environ=clean_environ())
    assert owner(result, "six")[:2] == ("conda", "six")
    assert owner(result, "zipp") == ("pip", "", "4.0", "index")
    assert (conda(result), [record.name for record in result.replaced]) == (["six"], ["zipp"])
    (venv / "pyvenv.cfg").write_text(configuration % "false")
    alone = scan(prefix=venv, environ=clean_environ())
    assert (alone.conda, alone.channels) == ((), ())
    assert [package.name for package in alone.packages] == ["zipp"]
