"""The test channel itself: what is installed from it runs, here and in a container; its server can refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import docker
import pytest

from tests.channels.environments import solve
from tests.channels.server import ChannelServer
from tests.commands import CommandLine
from tests.conftest import MakeCondaEnvironment
from tests.environments import make_environment

BASE = "debian:bookworm-slim"
IMPORTS = "import pandas, distributed, ssl, sqlite3, ctypes, bz2, lzma, sys; print(sys.prefix)"


def test_an_environment_runs_here_and_in_a_container(
    conda_environment: MakeCondaEnvironment, engine: docker.DockerClient, root_image: str
) -> None:
    made = conda_environment("python", "dask", "greeter", "anvil", "libbeacon")
    assert made.run("-c", IMPORTS).strip() == str(made.prefix)
    mounted = {str(made.prefix): {"bind": str(made.prefix), "mode": "ro"}}
    said = engine.containers.run(root_image, [str(made.python), "-c", IMPORTS], volumes=mounted, remove=True)
    assert said.decode().strip() == str(made.prefix)
    assert (made.prefix / "share/anvil/linked").read_text().strip() == str(made.prefix)
    assert str(made.prefix) in (made.prefix / "share/beacon/beacon.conf").read_text()
    assert str(made.prefix).encode() in (made.prefix / "lib/libbeacon.so.3").read_bytes()
    assert json.loads(made.record("dask").read_text())["requested_spec"] == "dask"


@pytest.mark.parametrize(
    ("platform", "file"),
    [("osx-arm64", "lib/python3*/site-packages/numpy.py"), ("win-64", "Lib/site-packages/numpy.py")],
)
def test_prefixes_of_other_platforms_can_be_made(
    conda_environment: MakeCondaEnvironment, platform: str, file: str
) -> None:
    made = conda_environment("python", "dask", "trellis=1.4.2", platform=platform)
    assert list(made.prefix.glob(file))
    assert json.loads(made.record("trellis").read_text())["subdir"] == platform


def test_releases_that_contradict_each_other_are_installed_only_by_force(
    conda_environment: MakeCondaEnvironment, channel: Path
) -> None:
    made = conda_environment("dask=2022.1.0", forced=["distributed==2022.5.1"], platform="osx-arm64")
    assert made.record("distributed").name.startswith("distributed-2022.5.1")
    assert made.record("dask-core").name.startswith("dask-core-2022.1.0")
    with pytest.raises(Exception, match=r"distributed"):
        solve([channel], ["dask=2022.1.0", "distributed=2022.5.1"], platform="linux-64")


def test_the_server_asks_for_its_token_and_counts(
    channel: Path, conda_environment: MakeCondaEnvironment
) -> None:
    # A server of its own: when the first answer ends the solve, other requests of it may still arrive.
    with ChannelServer(channel, token="tk-1234") as server, pytest.raises(Exception, match="403"):
        solve([server.url], ["zipp"], platform="linux-64")
    with ChannelServer(channel, token="tk-1234") as server:
        made = conda_environment("ca-certificates", channel=server.url_with_credentials)
        assert server.count(".json.zst") == 2  # of noarch and of this platform; packages may be in a cache
        assert all(request.path.startswith("/t/tk-1234/channel/") for request in server.requests)
        assert "tk-1234" in made.record("ca-certificates").read_text()  # so that a scan has what to strip


def test_verbose_command_names_the_channels_that_py_rattler_asks(
    channel: Path, cli: CommandLine, tmp_path: Path
) -> None:
    environment = make_environment(tmp_path / "env", python=sys.executable)
    with ChannelServer(channel, token="tk-1234") as server:
        secret = server.url.replace("/channel", "/t/tk-1234/channel")
        settings = {"IMAGESYNC_PYTHON": "conda", "IMAGESYNC_CHANNELS": secret, "IMAGESYNC_BASE": BASE}
        finished = cli.with_environ(VIRTUAL_ENV=environment.prefix, **settings)("-v", "lock")
    assert f"\npy-rattler asks {server.url}\n" in finished.stderr
    assert "tk-1234" not in finished.stderr + finished.stdout
