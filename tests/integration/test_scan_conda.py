"""Scans of conda environments from a real channel: pure, mixed with pip, moved, and of other platforms."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesync.scan.environment import Environment, Package
from imagesync.scan.scan import scan
from tests.channels.environments import CondaEnvironment, make_conda_environment
from tests.channels.server import ChannelServer
from tests.commands import BIN, CommandLine, clean_environ
from tests.conftest import MakeCondaEnvironment
from tests.environments import make_environment
from tests.indexes.wheels import make_wheel

OWN = {"tool_pack.py": b"VALUE = 1\n"}


@pytest.fixture(scope="module")
def pure(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> CondaEnvironment:
    """Return an environment of conda alone, which tests read and don't change."""
    prefix = tmp_path_factory.mktemp("conda") / "pure"
    return make_conda_environment(
        channel, ["python", "dask", "pip", "anvil", "orchard-suite", "quill >=1"], prefix
    )


@pytest.fixture
def small(conda_environment: MakeCondaEnvironment) -> CondaEnvironment:
    """Return a small environment that a test may change."""
    return conda_environment("python", "pip", "toolz", "orchard-suite", "zipp")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Return a folder of wheels for pip."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, version in (
        ("toolz", "0.9.0"),
        ("toolz", "1.1.0"),
        ("orchard-tools", "9.0"),
        ("tool-pack", "1"),
    ):
        filename, data = make_wheel(name, version)
        (folder / filename).write_bytes(data)
    return folder


def pip(environment: CondaEnvironment, wheels: Path, *words: str | Path) -> None:
    environment.pip_install("--no-index", "--no-deps", "--find-links", wheels, *words)


def scanned(environment: CondaEnvironment, home: Path) -> Environment:
    return scan(python=environment.python, environ={**clean_environ(), "HOME": str(home)})


def package(result: Environment, name: str) -> Package:
    (found,) = (package for package in result.packages if package.name == name)
    return found


def codes(result: Environment) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.package) for finding in result.findings]


def test_conda_alone(pure: CondaEnvironment, channel: Path, tmp_path: Path) -> None:
    result = scanned(pure, tmp_path)
    records = {record.name: record for record in result.conda}
    assert {package.manager for package in result.packages} == {"conda"}
    assert {package.source.kind for package in result.packages} == {"index"}
    assert package(result, "msgpack").conda == "msgpack-python"
    assert package(result, "dask").conda == "dask-core"
    assert records["dask"].distributions == ()
    assert records["orchard-suite"].distributions == ("orchard-core", "orchard-tools")
    assert {name for name, record in records.items() if record.requested_spec} == {
        *("python", "dask", "pip", "anvil", "orchard-suite", "quill")
    }
    assert (package(result, "quill").requested, package(result, "numpy").requested) == (True, False)
    assert [name for name, record in records.items() if record.has_post_link] == ["anvil"]
    assert (records["six"].noarch, records["dask"].noarch, records["numpy"].noarch) == (
        "python",
        "generic",
        "",
    )
    assert result.channels == (channel.as_uri(),)
    assert (result.replaced, result.findings) == ((), ())
    assert set(records) == {path.stem.rsplit("-", 2)[0] for path in pure.records.glob("*.json")}


def test_records_name_the_archives_of_the_channel(
    pure: CondaEnvironment, channel: Path, tmp_path: Path
) -> None:
    import hashlib

    for record in scanned(pure, tmp_path).conda:
        archive = channel / record.subdir / record.filename
        assert record.url == archive.as_uri()
        assert record.sha256 == f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
        assert record.size == archive.stat().st_size


def test_pip_on_top(small: CondaEnvironment, wheels: Path, tmp_path: Path) -> None:
    pip(small, wheels, "tool-pack")
    result = scanned(small, tmp_path)
    assert (package(result, "tool-pack").manager, package(result, "tool-pack").conda) == ("pip", "")
    assert package(result, "tool-pack").requested is True
    assert package(result, "toolz").manager == "conda"
    assert codes(result) == []


def test_pip_over_conda(small: CondaEnvironment, wheels: Path, tmp_path: Path) -> None:
    pip(small, wheels, "toolz==0.9.0", "orchard-tools==9.0")
    result = scanned(small, tmp_path)
    assert (package(result, "toolz").manager, package(result, "toolz").version) == ("pip", "0.9.0")
    assert (package(result, "orchard-core").manager, package(result, "orchard-core").version) == (
        "pip",
        "2.1.0",
    )
    assert [record.name for record in result.replaced] == ["orchard-suite", "toolz"]
    assert {"orchard-suite", "toolz"}.isdisjoint(record.name for record in result.conda)
    assert codes(result) == [
        ("pip-over-conda", "orchard-core"),
        ("pip-over-conda", "orchard-tools"),
        ("pip-over-conda", "toolz"),
    ]


def test_the_same_version_from_both(small: CondaEnvironment, wheels: Path, tmp_path: Path) -> None:
    pip(small, wheels, "--force-reinstall", "toolz==1.1.0")
    result = scanned(small, tmp_path)
    assert (package(result, "toolz").manager, package(result, "toolz").conda) == ("conda", "toolz")
    assert codes(result) == [("conda-and-pip", "toolz")]


def test_an_editable_project_over_conda(small: CondaEnvironment, tmp_path: Path) -> None:
    project = tmp_path / "toolz"
    (project / "src" / "toolz").mkdir(parents=True)
    (project / "src" / "toolz" / "__init__.py").write_text("")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "toolz"\nversion = "1.1.0"\n'
    )
    small.pip_install("--no-deps", "--no-build-isolation", "--no-index", "-e", project)
    result = scanned(small, tmp_path)
    found = package(result, "toolz")
    assert (found.manager, found.source.kind, found.source.editable) == ("pip", "directory", True)
    assert codes(result) == [("pip-over-conda", "toolz")]


def test_pip_uninstalls_what_conda_installed(small: CondaEnvironment, tmp_path: Path) -> None:
    small.run("-m", "pip", "uninstall", "-qq", "--yes", "toolz")
    result = scanned(small, tmp_path)
    assert "toolz" not in {record.name for record in result.conda}
    assert codes(result) == [("conda-files-gone", "toolz")]


def test_a_moved_environment(small: CondaEnvironment, wheels: Path, tmp_path: Path) -> None:
    pip(small, wheels, "tool-pack")
    before = scanned(small, tmp_path)
    moved = CondaEnvironment(small.prefix.rename(tmp_path / "moved elsewhere"))
    after = scanned(moved, tmp_path)
    assert (after.conda, after.findings) == (before.conda, ())
    assert {found.name: found.manager for found in after.packages} == {
        found.name: found.manager for found in before.packages
    }
    assert after.python.prefix == str(moved.prefix)


def test_activated_or_not(pure: CondaEnvironment, cli: CommandLine, tmp_path: Path) -> None:
    def prefix(command: CommandLine, *arguments: str | Path) -> Any:
        return command("scan", "--format", "json", *arguments).json()["python"]["prefix"]

    activated = cli.with_environ(**pure.activated)
    assert prefix(activated) == str(pure.prefix)
    assert prefix(cli, "--python", pure.python) == str(pure.prefix)
    assert prefix(cli, "--python", pure.prefix) == str(pure.prefix)
    inside = make_environment(tmp_path / "venv", python=pure.python)
    both = activated.with_environ(VIRTUAL_ENV=inside.prefix)
    result = both("scan", "--format", "json").json()
    assert (result["python"]["prefix"], result["conda"], result["packages"]) == (str(inside.prefix), [], [])


def test_a_virtual_environment_that_sees_condas_packages(pure: CondaEnvironment, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    pure.run("-m", "venv", "--without-pip", "--system-site-packages", venv)
    result = scan(python=venv / "bin" / "python", environ={**clean_environ(), "HOME": str(tmp_path)})
    assert package(result, "numpy").conda == "numpy"
    assert "dask" in {record.name for record in result.conda}


@pytest.mark.parametrize(
    ("platform", "only", "marker", "sysconfig_platform"),
    [
        ("osx-arm64", {"appnope", "libcxx"}, "darwin", "macosx-11.0-arm64"),
        ("win-64", {"pywin32", "vs2015_runtime", "ucrt", "vc", "colorama"}, "win32", "win-amd64"),
    ],
)
def test_prefixes_of_other_platforms(
    conda_environment: MakeCondaEnvironment,
    tmp_path: Path,
    platform: str,
    only: set[str],
    marker: str,
    sysconfig_platform: str,
) -> None:
    asked = sorted(only & {"appnope", "pywin32"})
    made = conda_environment("python", "dask", "trellis=1.4.2", *asked, platform=platform)
    result = scan(prefix=made.prefix, environ={**clean_environ(), "HOME": str(tmp_path)})
    records = {record.name: record for record in result.conda}
    assert only <= set(records)
    assert {record.subdir for record in result.conda} == {platform, "noarch"}
    assert result.python.markers["sys_platform"] == marker
    assert result.python.platform == sysconfig_platform
    assert result.python.version == records["python"].version
    assert package(result, "trellis").conda == "trellis"
    assert {found.manager for found in result.packages} == {"conda"}
    assert codes(result) == []


@pytest.mark.parametrize("secret", ["tk-4711-secret", "pa:ss/w@rd"])
def test_a_private_channel_leaves_no_secret(
    channel: Path, conda_environment: MakeCondaEnvironment, cli: CommandLine, secret: str
) -> None:
    from urllib.parse import quote

    options = {"token": secret} if secret.startswith("tk") else {"username": "me", "password": secret}
    with ChannelServer(channel, **options) as server:
        url = server.url_with_credentials.replace(secret, quote(secret, safe=""))
        made = conda_environment("python", "zipp", "six", channel=url)
    home = cli.cwd / "home"
    home.mkdir()
    (home / ".condarc").write_text(f"channels:\n  - {url}\n")
    for path in made.records.glob("*.json"):  # as mamba leaves it, so that there is something to strip
        record = json.loads(path.read_text())
        record.update(channel=url, url=f"{url}/{record['subdir']}/{record['fn']}", requested_spec=f"{url}::x")
        path.write_text(json.dumps(record))
    command = cli.with_environ(HOME=home, CONDA_PREFIX=made.prefix)
    answer = command("scan", "--format", "json")
    assert answer.json()["channels"] == [server.url]
    assert {record["channel"] for record in answer.json()["conda"]} == {server.url}
    table = command("scan")
    for text in (answer.stdout, answer.stderr, table.stdout, table.stderr):
        assert secret not in text
        assert quote(secret, safe="") not in text


def test_nothing_heavy_is_imported(pure: CondaEnvironment, cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / ".condarc").write_text("channels:\n  - conda-forge\nchannel_priority: strict\n")
    command = [sys.executable, "-X", "importtime", str(BIN / "imagesync"), "scan", "--format", "json"]
    environ = {
        **clean_environ(),
        **pure.activated,
        "HOME": str(tmp_path),
        "IMAGESYNC_CACHE_DIR": str(cache_dir),
    }
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "imagesync.scan.conda.prefix_records" in imported
    heavy = {"rattler", "yaml", "requests", "rich", "docker", "imagesync.store.store"}
    assert not heavy & imported


def test_records_are_cached_in_the_folder_of_the_settings(
    pure: CondaEnvironment, cli: CommandLine, tmp_path: Path
) -> None:
    (cli.cwd / "imagesync.toml").write_text(f'cache-dir = "{tmp_path / "chosen"}"\n')
    environ = {key: value for key, value in cli.environ.items() if key != "IMAGESYNC_CACHE_DIR"}
    command = CommandLine({**environ, "XDG_CACHE_HOME": str(tmp_path / "xdg")}, cli.cwd)
    command.with_environ(CONDA_PREFIX=pure.prefix)("scan")
    assert len([*(tmp_path / "chosen" / "conda-records").iterdir()]) == 1
    assert not (tmp_path / "xdg").exists()


def test_a_copy_without_records(small: CondaEnvironment, tmp_path: Path) -> None:
    shutil.rmtree(small.records)
    result = scanned(small, tmp_path)
    assert (result.conda, result.channels) == ((), ())
    assert {found.manager for found in result.packages} == {"pip"}
    assert {finding.code for finding in result.findings} == {"conda-record-missing"}
