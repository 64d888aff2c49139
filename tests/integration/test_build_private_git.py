"""A package from a private git repository, over HTTP with a password, which is nowhere afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment, run
from tests.git_server import GitServer
from tests.passwords import Password

pytestmark = pytest.mark.usefixtures("new_packages")
# With characters that URLs quote, so that both spellings are looked for.
PASSWORD = Password("jane.doe", "s3cret/Passw:rd@42")
PYPROJECT = """
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[project]
name = "hedgerow"
version = "0.7"
description = "Plants"
[project.scripts]
hedgerow = "hedgerow:main"
"""
MODULE = """
from importlib.resources import files


def main():
    print((files(__name__) / "plants.txt").read_text().strip())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    source = tmp_path / "source"
    (source / "hedgerow").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "hedgerow/__init__.py").write_text(f'"""Plants."""\n{MODULE}')
    (source / "hedgerow/plants.txt").write_text("hawthorn\n")
    run(["git", "-C", source, "init", "--quiet"])
    run(["git", "-C", source, "add", "."])
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    run(["git", "-C", source, *identity, "commit", "--quiet", "-m", "First"])
    run(["git", "clone", "--quiet", "--bare", source, tmp_path / "served/hedgerow.git"])
    with GitServer(tmp_path / "served", PASSWORD) as server:
        yield server


@pytest.fixture(params=["pip", "uv"])
def local(
    server: GitServer, base_python: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> LocalEnvironment:
    made = make_environment(
        tmp_path / "env",
        packages=[f"hedgerow @ git+{server.url_with_credentials}/hedgerow.git"],
        python=base_python,
        installer=request.param,
        environ={"GIT_CONFIG_GLOBAL": "/dev/null", "UV_CACHE_DIR": str(tmp_path / "uv-cache")},
    )
    assert [each for each in server.requests if "git-upload-pack" in each and "refused" not in each]
    server.requests.clear()
    return made


@pytest.fixture
def git_cli(image_cli: CommandLine, local: LocalEnvironment, cache_dir: Path) -> CommandLine:
    return image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, IMAGESYNC_CACHE_DIR=cache_dir, GIT_CONFIG_GLOBAL="/dev/null"
    )


def test_it_is_repacked_without_a_request_and_the_password_is_nowhere(
    git_cli: CommandLine, server: GitServer, cache_dir: Path, engine: docker.DockerClient
) -> None:
    scanned = git_cli("scan", "--format", "json")
    (package,) = [each for each in scanned.json()["packages"] if each["name"] == "hedgerow"]
    assert package["source"]["kind"] == "vcs"
    assert package["source"]["url"] == f"{server.url}/hedgerow.git"
    finished = [
        scanned,
        git_cli("scan"),
        git_cli("plan"),
        git_cli("plan", "--format", "json"),
        git_cli("lock", "--format", "json", "--output-file", "requirements.txt"),
        git_cli("render", "--output-dir", "context"),
        git_cli("build", "--metadata-file", "metadata.json"),
    ]
    assert server.requests == [], "what is installed needs no clone"
    reference = finished[-1].reference
    assert engine.containers.run(reference, ["hedgerow"], remove=True) == b"hawthorn\n"
    PASSWORD.assert_absent_from_output(finished)
    PASSWORD.assert_absent_below(cache_dir, git_cli.cwd)
    PASSWORD.assert_absent_from_image(engine, reference)


@pytest.mark.parametrize("local", ["uv"], indirect=True)
def test_it_is_built_from_its_commit_with_the_users_own_credentials(
    git_cli: CommandLine,
    server: GitServer,
    local: LocalEnvironment,
    cache_dir: Path,
    tmp_path: Path,
    engine: docker.DockerClient,
) -> None:
    # Without RECORD nobody can tell which files are the package's.
    next(local.site_packages.glob("hedgerow-0.7.dist-info/RECORD")).unlink()
    refused = git_cli.run("build")
    assert refused.returncode == 1
    assert "git can't get commit" in refused.stderr
    assert server.requests
    assert all(each.endswith("(refused)") for each in server.requests)

    (tmp_path / "credentials").write_text(f"{server.url_with_credentials}\n")
    configuration = tmp_path / "gitconfig"
    configuration.write_text(f'[credential]\nhelper = "store --file={tmp_path / "credentials"}"\n')
    built = git_cli.with_environ(GIT_CONFIG_GLOBAL=configuration)("build")
    assert engine.containers.run(built.reference, ["hedgerow"], remove=True) == b"hawthorn\n"
    PASSWORD.assert_absent_from_output([refused, built])
    PASSWORD.assert_absent_below(cache_dir, git_cli.cwd)
    PASSWORD.assert_absent_from_image(engine, built.reference)
