"""Which interpreter is scanned, what it says, and what happens when there is none."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import packaging.markers
import packaging.tags
import pytest

from imagesync.errors import ScanError, UsageError
from imagesync.scan.interpreter import MARKER
from imagesync.scan.scan import scan
from imagesync.standalone.host.probe import MARKER as PRINTED_MARKER
from tests.commands import clean_environ
from tests.environments import LocalEnvironment
from tests.host_platform import NEEDS_OWN_SYSTEM

MakeEnvironment = Callable[..., LocalEnvironment]
FindPython = Callable[[str], Path]


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: the interpreter says its own platform")
def test_running_interpreter_is_scanned_by_default() -> None:
    result = scan(environ=clean_environ())
    python = result.python
    assert python.executable == sys.executable
    assert python.prefix == sys.prefix
    assert python.version == platform.python_version()
    assert python.platform == sysconfig.get_platform()
    assert python.abi == next(packaging.tags.cpython_tags()).abi
    assert python.markers == {
        key: value for key, value in packaging.markers.default_environment().items() if key != "extra"
    }
    assert python.libc == " ".join(platform.libc_ver())
    assert "imagesync" in [package.name for package in result.packages]


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"])
def test_supported_pythons_answer_the_probe(
    version: str, find_python: FindPython, environment: MakeEnvironment
) -> None:
    made = environment(python=find_python(version))
    folder = made.site_packages / "demo-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: demo\nVersion: 1.0\n")
    result = scan(python=made.python, environ=clean_environ())
    assert result.python.minor == version
    assert result.python.abi == "cp" + version.replace(".", "")
    assert [(package.name, package.version) for package in result.packages] == [("demo", "1.0")]
    assert result.python.markers["python_version"] == version
    by_files = scan(prefix=made.prefix, environ=clean_environ())
    assert by_files.packages == result.packages
    assert by_files.python.version == result.python.version
    assert by_files.python.platform == result.python.platform
    assert by_files.python.abi == result.python.abi


@NEEDS_OWN_SYSTEM
def test_interpreter_is_named_by_folder_or_command(environment: MakeEnvironment) -> None:
    made = environment()
    assert scan(python=made.prefix, environ=clean_environ()).python.prefix == str(made.prefix)
    variables = {**clean_environ(), "PATH": str(made.prefix / "bin")}
    assert scan(python=Path("python3"), environ=variables).python.prefix == str(made.prefix)


def refused(python: Path) -> str:
    with pytest.raises(ScanError) as caught:
        scan(python=python, environ=clean_environ())
    assert caught.value.hint
    return caught.value.message


@NEEDS_OWN_SYSTEM
def test_program_that_is_no_interpreter_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone") == f"{tmp_path / 'gone'} doesn't exist"
    assert "nor on PATH" in refused(Path("no-such-python"))
    assert "isn't a Python interpreter" in refused(Path(shutil.which("true") or ""))
    (tmp_path / "text").write_text("x")
    assert "can't be run" in refused(tmp_path / "text")
    (tmp_path / "text").chmod(0o755)
    assert refused(tmp_path / "text")


def test_environment_whose_base_python_is_gone_is_refused(environment: MakeEnvironment) -> None:
    made = environment()
    made.python.unlink()
    made.python.symlink_to("/nowhere/bin/python3.11")
    assert "the Python that it was made from is gone" in refused(made.python)
    assert scan(prefix=made.prefix, environ=clean_environ()).python.executable == ""


def test_interpreter_that_crashes_is_refused_with_its_output(environment: MakeEnvironment) -> None:
    made = environment()
    (made.site_packages / "crash.pth").write_text("import os; os.write(2, b'went wrong'); os._exit(7)\n")
    message = refused(made.python)
    assert "failed to start with exit code 7" in message
    assert "went wrong" in message


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_python_before_3_8_is_refused(version: str) -> None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no CPython {version} on this machine")
    assert f"is Python {version}" in refused(found[0])


def test_python_and_prefix_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        scan(python=Path(sys.executable), prefix=tmp_path)


def test_user_site_packages_are_scanned_unless_disabled(tmp_path: Path) -> None:
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    variables = {**clean_environ(), "HOME": str(tmp_path)}
    command = [base, "-c", "import site; print(site.getusersitepackages())"]
    site = Path(
        subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout.strip()
    )
    folder = site / "mine-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    assert "mine" in [package.name for package in scan(python=base, environ=variables).packages]
    without = scan(python=base, environ={**variables, "PYTHONNOUSERSITE": "1"})
    assert "mine" not in [package.name for package in without.packages]


def test_probe_prints_the_expected_marker() -> None:
    assert MARKER == PRINTED_MARKER


def test_scan_gives_stable_json(environment: MakeEnvironment) -> None:
    made = environment()
    first = scan(python=made.python, environ=clean_environ()).to_dict()
    assert first == scan(python=made.python, environ=clean_environ()).to_dict()
    assert list(first) == [
        *("python", "indexes", "path", "channels", "conda", "replaced", "pinned", "packages", "findings")
    ]
