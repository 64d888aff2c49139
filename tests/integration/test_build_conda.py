"""Images of conda environments: how they are activated, what stays secret, and what an edit costs."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest, ContextFile, stream_files
from imagesync.engine.engine import Engine
from imagesync.engine.run_container import RunRequest
from tests.channels.channel import index_channel, make_channel
from tests.channels.doubles import pure
from tests.channels.environments import make_conda_environment
from tests.channels.server import ChannelServer
from tests.commands import CommandLine, Finished, clean_environ
from tests.environments import make_environment
from tests.integration.builder_differences import differing_files, differing_options, image_of_layout
from tests.integration.conftest import remove_images
from tests.integration.old_conda_packages import write_old_packages
from tests.integration.shared_conda_packages import shared_packages
from tests.passwords import Password

pytestmark = pytest.mark.engine
TOKEN = Password("t", f"tk-{secrets.token_hex(8)}")
PACKAGES = ["python", "greeter", "compass", "anvil"]
VARIABLES = {
    "COMPASS_HOME": "/opt/env/share/compass",
    "COMPASS_MODE": "north",
    "CONDA_PREFIX": "/opt/env",
    "CONDA_SHLVL": "1",
}
PYPROJECT = """
[build-system]
requires = ["flit_core>=3.8"]
build-backend = "flit_core.buildapi"
[project]
name = "meadow"
version = "1.0"
description = "Grass"
"""
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@dataclass(frozen=True)
class Built:
    """A conda environment with a project of the user's own, and its image."""

    cli: CommandLine
    server: ChannelServer
    project: Path
    reference: str
    output: tuple[Finished, ...]


@pytest.fixture(scope="module")
def built(
    channel: Path, root_image: str, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("conda")
    project = folder / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "meadow.py").write_text("grass = 'green'\n")
    repository = f"imagesync-test-{secrets.token_hex(4)}"
    with ChannelServer(channel, token=TOKEN.word) as server:
        local = make_conda_environment(server.url_with_credentials, PACKAGES, folder / "env")
        local.install("--no-deps", "--editable", project)
        local.install("--no-deps", "toolz==1.0.0", "markupsafe==3.0.2")
        (folder / "condarc").write_text(f"channels: [{server.url_with_credentials}]\npkgs_dirs: [none]\n")
        environ = {
            **clean_environ(),
            **local.activated,
            "CONDARC": str(folder / "condarc"),
            "IMAGESYNC_BASE": root_image,
            "IMAGESYNC_REPOSITORY": repository,
            "IMAGESYNC_CACHE_DIR": str(folder / "store"),
        }
        cli = CommandLine(environ, folder / "env")
        # Something that has to be solved for with what the private channel says.
        (folder / "env" / "imagesync.toml").write_text('[add]\nconda = ["gazebo"]\n')
        output = (
            cli("scan", "--format", "json"),
            cli("lock", "--format", "json"),
            cli("render", "--output-dir", folder / "context"),
            cli("build", "--metadata-file", folder / "metadata.json"),
        )
        yield Built(cli, server, project, output[-1].reference, output)
    remove_images(engine, repository)


def by_command(ours: Engine, image: str) -> dict[str, str]:
    """Start it as `docker run IMAGE python ...` does, with the image's own entry point."""
    return shown(ours, image, "python", "-c", SHOW)


def by_exec_form(ours: Engine, image: str) -> dict[str, str]:
    """Start it without the entry point, as a Kubernetes `command` does."""
    result = ours.run(RunRequest(image, ("python", "-c", SHOW), timeout=60))
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def by_login_shell(ours: Engine, image: str) -> dict[str, str]:
    """Start it by a login shell, which sets a PATH of its own."""
    return shown(ours, image, "sh", "-lc", f'python -c "{SHOW}"')


def by_bash(ours: Engine, image: str) -> dict[str, str]:
    return shown(ours, image, "bash", "-c", f'python -c "{SHOW}"')


def shown(ours: Engine, image: str, *command: str) -> dict[str, str]:
    """Return the variables that a command sees, started with the image's own entry point."""
    client = docker.from_env()
    try:
        output = client.containers.run(image, list(command), remove=True, network_mode="none")
    finally:
        client.close()
    return json.loads(output)


Start = Callable[[Engine, str], dict[str, str]]


@pytest.mark.parametrize("start", [by_command, by_exec_form, by_login_shell, by_bash])
def test_activation_holds(built: Built, ours: Engine, start: Start) -> None:
    variables = start(ours, built.reference)
    assert {name: variables.get(name) for name in VARIABLES} == VARIABLES
    assert variables["PATH"].split(":")[0] == "/opt/env/bin"
    assert variables["PATH"].split(":").count("/opt/env/bin") == 1


def test_run_is_activated(built: Built) -> None:
    said = built.cli("run", "--", "python", "-c", SHOW).stdout
    assert {name: json.loads(said).get(name) for name in VARIABLES} == VARIABLES


def test_script_of_a_package_was_run(built: Built, ours: Engine) -> None:
    result = ours.run(RunRequest(built.reference, ("cat", "/opt/env/share/anvil/linked"), timeout=60))
    assert result.stdout.decode() == "/opt/env\n"
    assert "anvil has a script that runs in the build" in built.output[-1].stderr


def test_image_without_an_engine_is_the_same(
    built: Built, root_image: str, engine: docker.DockerClient
) -> None:
    """conda, with packages of an index and of the user's own on top."""
    base = f"docker-daemon:{root_image}"
    cli = built.cli.with_environ(IMAGESYNC_BASE=base, IMAGESYNC_BUILDER="oci")
    refused = cli.run("build")
    assert refused.returncode == 1
    assert "post-link scripts, which need a running container: anvil" in refused.stderr
    finished = cli("build", "--skip-scripts", "--output", "oci:image:latest")
    assert "The post-link script of the conda package anvil is skipped" in finished.stderr
    image = image_of_layout(cli.cwd / "image")
    assert differing_files(engine, built.reference, image, same_base=True) == {}
    assert differing_options(engine, built.reference, image, same_base=True) == {}


def test_token_is_nowhere(built: Built, engine: docker.DockerClient) -> None:
    assert any(TOKEN.word in request.path for request in built.server.requests), "it was used"
    TOKEN.assert_absent_from_output(built.output)
    folder = Path(built.cli.environ["IMAGESYNC_CACHE_DIR"])
    TOKEN.assert_absent_below(
        *(path for path in folder.iterdir() if path.name != "blobs"), folder.parent / "context"
    )
    # Each layer by itself, so that nothing is hidden by one above it; the packages image is below.
    TOKEN.assert_absent_from_image(engine, built.reference)


def test_edit_leaves_conda_alone(built: Built, engine: docker.DockerClient) -> None:
    before = engine.images.get(built.reference).attrs["RootFS"]["Layers"]
    built.server.forget_requests()
    (built.project / "meadow.py").write_text("grass = 'dry'\n")
    finished = built.cli("build")
    after = engine.images.get(finished.reference).attrs["RootFS"]["Layers"]
    assert finished.reference != built.reference
    assert len(set(after) - set(before)) <= 3, (
        "the user's own wheel, what the image says of itself, and no more"
    )
    assert built.server.requests == [], "a channel isn't asked for that"
    said = engine.containers.run(
        finished.reference,
        ["python", "-c", "import greeter, meadow; print(meadow.grass)"],
        remove=True,
        network_mode="none",
    )
    assert said == b"dry\n"


def test_changed_file_of_conda_is_found(built: Built, ours: Engine) -> None:
    # A template of the user's own does it after the packages: the whole is looked at then.
    templates = built.project.parent / "templates"
    templates.mkdir()
    (templates / "Dockerfile.j2").write_text(
        '{% extends "imagesync/Dockerfile.j2" %}\n'
        "{% block after_packages %}\nRUN echo >> /opt/env/share/compass/points\n{% endblock %}\n"
    )
    finished = built.cli.with_environ(IMAGESYNC_TEMPLATES=templates).run("build")
    assert finished.returncode == 1
    assert "/opt/env/share/compass/points of a conda package was changed" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_rendered_folder_builds_by_itself(built: Built, ours: Engine) -> None:
    folder = built.project.parent / "context"
    paths = [
        folder / "Dockerfile",
        *(path for path in sorted(folder.rglob("*")) if path.name != "Dockerfile"),
    ]
    files = [
        ContextFile(
            path.relative_to(folder).as_posix(), path, path.stat().st_size, path.stat().st_mode & 0o777
        )
        for path in paths
        if path.is_file()
    ]
    # The first stage makes the base image.
    image = ours.build(
        stream_files(files),
        BuildRequest("default", "linux/amd64"),
        progress=SilentProgress(),
    )
    try:
        # Nobody has run the scripts for it: its entry point does.
        variables = by_command(ours, image)
        assert {name: variables.get(name) for name in VARIABLES} == VARIABLES
        assert "COMPASS_HOME" not in by_exec_form(ours, image)
    finally:
        ours.discard(image)


SHARED_MODULE = "import tests; print(open(tests.__file__).read(), end='')"
VERSION = """
import json, os, sys
print(json.dumps([sys.version.split()[0], os.path.isdir(sys.prefix + "/conda-meta")]))
"""


@pytest.mark.parametrize("setting", ["conda", "auto"])
def test_venv_gets_exactly_the_local_python(
    image_cli: CommandLine, channel: Path, tmp_path: Path, ours: Engine, setting: str
) -> None:
    local = make_environment(tmp_path / "env", packages=["six==1.17.0"], python=sys.executable)
    cli = image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, IMAGESYNC_PYTHON=setting, IMAGESYNC_CHANNELS=channel.as_uri()
    )
    reference = cli("build").reference
    result = ours.run(RunRequest(reference, ("python", "-c", f"import six{VERSION}"), timeout=60))
    assert json.loads(result.stdout) == [sys.version.split()[0], True]
    assert cli("build").reference == reference


def test_silent_channel_leaves_the_base_python(
    image_cli: CommandLine, base_python: Path, tmp_path: Path, ours: Engine
) -> None:
    local = make_environment(tmp_path / "env", packages=["six==1.17.0"], python=base_python)
    cli = image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, IMAGESYNC_PYTHON="auto", IMAGESYNC_CHANNELS="http://127.0.0.1:9/nobody"
    )
    reference = cli("build").reference
    result = ours.run(RunRequest(reference, ("python", "-c", VERSION), timeout=60))
    assert json.loads(result.stdout)[1] is False


def test_package_that_the_channel_has_no_more_is_repacked(
    image_cli: CommandLine, channel: Path, tmp_path: Path, ours: Engine
) -> None:
    extra = make_channel(tmp_path / "extra", [pure("fern", "1.0.0")])
    local = make_conda_environment([extra, channel], ["python", "fern"], tmp_path / "env")
    for archive in extra.rglob("fern-*.conda"):
        archive.unlink()
    index_channel(extra)
    cli = image_cli.with_environ(**local.activated, CONDA_PKGS_DIRS=tmp_path / "none")
    finished = cli("build", "--metadata-file", tmp_path / "metadata.json")
    (repacked,) = json.loads((tmp_path / "metadata.json").read_text())["repacked"]
    assert repacked["name"] == "fern"
    assert "fern" in finished.stderr
    code = "import fern, os, sys; print(fern.__file__, os.listdir(sys.prefix + '/conda-meta'))"
    said = ours.run(RunRequest(finished.reference, ("python", "-c", code), timeout=60)).stdout.decode()
    assert said.startswith("/opt/env/lib/")
    assert "fern-" not in said, "it is pip's now"
    cli("lock", "--output-file", "conda-lock.yml")
    assert "fits the environment" in cli("lock", "--check").stdout


def test_image_has_the_file_of_several_packages_that_is_installed(
    image_cli: CommandLine, channel: Path, tmp_path: Path, ours: Engine
) -> None:
    extra = make_channel(tmp_path / "extra", shared_packages())
    write_old_packages(extra)
    index_channel(extra)
    packages = ["python", "oak", "elder", "elder-pure", "secretive"]
    local = make_conda_environment([extra, channel], packages, tmp_path / "env")
    module = local.site_packages / "tests" / "__init__.py"
    cli = image_cli.with_environ(**local.activated)

    def build() -> str:
        reference = cli("build").reference
        result = ours.run(RunRequest(reference, ("python", "-c", SHARED_MODULE), timeout=60))
        return result.stdout.decode()

    before = module.read_text()
    assert build() == before
    cli("lock", "-o", "conda-lock.yml")
    other = before.replace(before.split("'")[1], "birch" if "birch" not in before else "cedar")
    module.write_text(other)
    assert build() == other
    assert build() == other, "it is found now"
    locked = cli("build", "--locked").reference
    code = ("python", "-c", SHARED_MODULE)
    assert ours.run(RunRequest(locked, code, timeout=60)).stdout.decode() == before, "as it was locked"
