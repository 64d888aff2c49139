"""Builds that must not happen: they end at once, say why and what to do, and leave nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine, Finished
from tests.engine_proxy import EngineProxy
from tests.environments import feature_version, make_environment, run
from tests.indexes import Fault, LocalIndex


@pytest.fixture
def index() -> LocalIndex:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0", requires=["birch>=2"])
        index.add_wheel("birch", "2.1.0")
        index.add_wheel("dask", "2026.1.0")
        yield index


@pytest.fixture
def own_cli(image_cli: CommandLine, index: LocalIndex, cache_dir: Path) -> CommandLine:
    """Return a command line with a store of its own, so that what it leaves there can be seen."""
    return image_cli.with_environ(PIP_INDEX_URL=index.url, IMAGESYNC_CACHE_DIR=cache_dir)


def refusal(finished: Finished, *words: str, code: int = 1) -> None:
    assert finished.returncode == code, finished
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr


def artifacts(cache_dir: Path) -> list[Path]:
    """Return the wheels in a store, whatever they are called there."""
    files = [path for path in cache_dir.rglob("*") if path.is_file()]
    return [path for path in files if path.read_bytes()[:2] == b"PK"]


def test_no_engine(
    own_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path, cache_dir: Path
) -> None:
    local = make_environment(
        tmp_path / "env", packages=["birch"], python=base_python, arguments=["--index-url", index.url]
    )
    index.forget_requests()
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix, DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")
    refusal(cli.run("build"), "nobody.sock")
    assert index.requests == []
    assert artifacts(cache_dir) == []


def test_critical_package_missing(
    own_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path
) -> None:
    local = make_environment(
        tmp_path / "env", packages=["dask"], python=base_python, arguments=["--index-url", index.url]
    )
    index.forget_requests()
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix)
    with EngineProxy() as engine:
        for command in (["plan"], ["build"], ["lock"]):
            refusal(cli.with_environ(DOCKER_HOST=engine.url).run(*command), "distributed", "install")
        # What the engine has is asked while the environment is scanned.
        assert set(engine.requests) <= {"GET /images/json"}
    assert index.requests == []


def test_log_of_a_failed_build_is_kept_in_the_chosen_cache_dir(
    own_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path, cache_dir: Path
) -> None:
    local = make_environment(
        tmp_path / "env", packages=["birch"], python=base_python, arguments=["--index-url", index.url]
    )
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix)
    chosen = tmp_path / "chosen"
    command = ("build", "--profile", "none", "--apt", "there-is-no-such-package", "--cache-dir", chosen)
    refusal(cli.run(*command), "there-is-no-such-package")
    (log,) = (chosen / "logs").iterdir()
    assert "there-is-no-such-package" in log.read_text()
    assert not (cache_dir / "logs").exists()


def test_inconsistent_environment(
    own_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path
) -> None:
    local = make_environment(
        tmp_path / "env",
        packages=["alder"],
        python=base_python,
        arguments=["--index-url", index.url, "--no-deps"],
    )
    index.forget_requests()
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix)
    planned = cli("plan", "--format", "json").json()
    assert any("alder" in f["message"] and "birch" in f["message"] for f in planned["findings"])
    refusal(cli.run("build"), "alder", "birch>=2", "--allow-inconsistent")
    assert index.requests == []
    reference = cli("build", "--allow-inconsistent").reference
    shown = cli("run", "--allow-inconsistent", "--", "python", "-c", "import alder; print(alder.__version__)")
    assert shown.stdout == "1.0.0\n"
    assert reference


def test_other_feature_version(
    own_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path, find_python: object
) -> None:
    other = "3.12" if feature_version(base_python) != "3.12" else "3.11"
    local = make_environment(
        tmp_path / "env",
        packages=["birch"],
        python=find_python(other),
        arguments=["--index-url", index.url],
    )
    refusal(own_cli.with_environ(VIRTUAL_ENV=local.prefix).run("build"), f"Python {other}", "--base")


def test_strict_refuses_a_deviation(
    own_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path
) -> None:
    python = other_patch_level(base_python)
    local = make_environment(
        tmp_path / "env", packages=["birch"], python=python, arguments=["--index-url", index.url]
    )
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix)
    refusal(cli.run("build", "--strict"), "python", full_version(python), full_version(base_python))
    cli("build", "--metadata-file", "metadata.json")
    (deviation,) = json.loads((cli.cwd / "metadata.json").read_text())["deviations"]
    assert deviation["name"] == "python"
    assert deviation["local"] == full_version(python)
    assert deviation["reason"]


def full_version(python: Path) -> str:
    return run([python, "-c", "import platform; print(platform.python_version())"]).strip()


def other_patch_level(python: Path) -> Path:
    """Return an interpreter of the same feature version that isn't the same, or skip the test."""
    feature, full = feature_version(python), full_version(python)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in sorted(pyenv.glob(f"versions/{feature}.*/bin/python")):
        if full_version(candidate) != full:
            return candidate
    return pytest.skip(f"no second CPython {feature} on this machine")


@pytest.mark.usefixtures("new_packages")
def test_wheel_with_a_wrong_hash(
    own_cli: CommandLine,
    index: LocalIndex,
    base_python: Path,
    tmp_path: Path,
    cache_dir: Path,
    engine: docker.DockerClient,
    repository: str,
) -> None:
    local = make_environment(
        tmp_path / "env", packages=["birch"], python=base_python, arguments=["--index-url", index.url]
    )
    wheel = "birch-2.1.0-py3-none-any.whl"
    index.fault(wheel, Fault(corrupt=True))
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix)
    refusal(cli.run("build"), wheel, "sha256")
    assert artifacts(cache_dir) == []
    assert engine.images.list(repository) == []
    # Once the index serves what it promises, the same command works.
    index.fault(wheel, Fault())
    assert cli("build").reference.startswith(repository)


def test_wrong_settings(own_cli: CommandLine, base_python: Path, tmp_path: Path) -> None:
    local = make_environment(tmp_path / "env", python=base_python)
    cli = own_cli.with_environ(VIRTUAL_ENV=local.prefix)
    (cli.cwd / "imagesync.toml").write_text('resolver = "poetry"\n')
    refusal(cli.run("plan"), "imagesync.toml", "resolver", code=2)
    (cli.cwd / "imagesync.toml").write_text("this is not TOML\n")
    refusal(cli.run("plan"), "imagesync.toml", code=2)
    (cli.cwd / "imagesync.toml").unlink()
    refusal(cli.run("build", "--no-such-option"), "--no-such-option", code=2)
    refusal(cli.run("scan", "--python", tmp_path / "nowhere"), "nowhere")
