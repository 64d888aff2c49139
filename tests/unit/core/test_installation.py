"""The commands that add to imagesync's own installation, for each way that it can be installed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from imagesync.core.installation import Installation, own_installation, source_of

PYTHON = "/env/bin/python"
HERE = "/src/imagesync"


@pytest.mark.parametrize(
    ("installation", "command"),
    [
        (
            Installation("uv tool", PYTHON, f"file://{HERE}"),
            f"uv tool install 'imagesync[all] @ file://{HERE}'",
        ),
        (Installation("uv tool", PYTHON, HERE, editable=True), f"uv tool install --editable '{HERE}[all]'"),
        (Installation("pipx", PYTHON), "pipx install --force 'imagesync[all]'"),
        (Installation("pip", PYTHON), f"{PYTHON} -m pip install 'imagesync[conda-lock]'"),
        (
            Installation("uv", PYTHON, HERE, editable=True),
            f"uv pip install --python {PYTHON} --editable '{HERE}[conda-lock]'",
        ),
    ],
)
def test_extra_is_added_by_what_installed_imagesync(installation: Installation, command: str) -> None:
    assert installation.add_extra("conda-lock") == command


def test_tool_keeps_its_extras_when_it_gets_dask() -> None:
    assert Installation("uv tool", PYTHON).add_extra("dask") == "uv tool install 'imagesync[all,dask]'"
    assert Installation("pip", PYTHON).add_extra("dask") == f"{PYTHON} -m pip install 'imagesync[dask]'"


@pytest.mark.parametrize(
    ("installer", "added", "anew"),
    [
        ("uv tool", "uv tool install 'imagesync[all]' --with 'docker[ssh]'", "uv tool upgrade imagesync"),
        ("pipx", "pipx inject imagesync 'docker[ssh]'", "pipx runpip imagesync install --force-reinstall uv"),
        ("pip", f"{PYTHON} -m pip install 'docker[ssh]'", f"{PYTHON} -m pip install --force-reinstall"),
        ("uv", f"uv pip install --python {PYTHON} 'docker[ssh]'", f"uv pip install --python {PYTHON} --rein"),
    ],
)
def test_package_beside_imagesync_is_added_likewise(installer: str, added: str, anew: str) -> None:
    installation = Installation(installer, PYTHON)  # type: ignore[arg-type]
    assert installation.add("docker[ssh]") == added
    assert installation.reinstall("uv").startswith(anew)


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (
            '{"url": "https://me:pw@git.example/i", "vcs_info": {"vcs": "git", "requested_revision": "1"}}',
            ("git+https://git.example/i@1", False),
        ),
        (
            '{"url": "https://files.example/imagesync-0.1.tar.gz", "archive_info": {}}',
            ("https://files.example/imagesync-0.1.tar.gz", False),
        ),
        ('{"url": "file:///src/with%20space", "dir_info": {"editable": true}}', ("/src/with space", True)),
    ],
)
def test_source_of_imagesync_has_no_credentials(direct_url: str, source: tuple[str, bool]) -> None:
    assert source_of(direct_url) == source


@pytest.mark.parametrize(
    ("marker", "installer"), [("uv-receipt.toml", "uv tool"), ("pipx_metadata.json", "pipx")]
)
def test_tool_is_known_by_what_its_installer_left(
    marker: str, installer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / marker).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert own_installation().installer == installer


def test_these_tests_run_from_a_checkout() -> None:
    command = own_installation().add_extra("all")
    assert shlex.split(command)[-2:] == ["--editable", f"{Path(__file__).parents[3]}[all]"]
