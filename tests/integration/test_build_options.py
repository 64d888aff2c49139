"""Settings of an image besides its packages: variables, labels, command, user, files, commands that run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import make_environment
from tests.indexes import LocalIndex

pytestmark = pytest.mark.engine
SETTINGS = """
cmd = ["sh", "-c", '''
id -u; id -un; echo $USER; pwd
echo $PRICE; cat /etc/odbc.ini; ls /srv/data; stat -c %u:%a /srv/app /made /srv/data/a.csv
''']
workdir = "/srv/app"
user = "app"
run = ["useradd --uid 2000 app", '''
echo "$(id -u) $PRICE $PWD" >/made
''']
[env]
PRICE = '$5 "net"'
[labels]
"com.example.team" = "weather"
[files]
"odbc.ini" = "/etc/"
"data" = "/srv/data"
"""


@pytest.fixture
def local_cli(image_cli: CommandLine, base_python: Path, tmp_path: Path) -> Iterator[CommandLine]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0")
        local = make_environment(
            tmp_path / "env", packages=["alder"], python=base_python, arguments=["--index-url", index.url]
        )
        yield image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)


def test_image_has_what_the_settings_say(local_cli: CommandLine, engine: docker.DockerClient) -> None:
    (local_cli.cwd / "data").mkdir()
    (local_cli.cwd / "data" / "a.csv").write_text("1\n")
    (local_cli.cwd / "data" / ".env").write_text("TOKEN=1\n")
    (local_cli.cwd / "odbc.ini").write_text("driver\n")
    (local_cli.cwd / "imagesync.toml").write_text(SETTINGS)
    built = local_cli("build")
    assert "look like secrets: .env" in built.stderr
    assert local_cli("build").reference == built.reference, "found"
    image = engine.images.get(built.reference)
    assert image.labels["com.example.team"] == "weather"
    shown = engine.containers.run(image.id, remove=True).decode().splitlines()
    assert shown[:4] == ["2000", "app", "app", "/srv/app"]
    assert shown[4:] == ['$5 "net"', "driver", "a.csv", "2000:755", "0:644", "0:644"]
    made = engine.containers.run(image.id, ["cat", "/made"], remove=True).decode()
    assert made == '0 $5 "net" /srv/app\n'
    login = ["bash", "-lc", "python -c 'import alder; print(alder.__name__)'; command -v cc || echo none"]
    assert engine.containers.run(image.id, login, remove=True).decode().split() == ["alder", "none"]
    # What is copied counts; the image of the packages is shared.
    (local_cli.cwd / "data" / "a.csv").write_text("2\n")
    failing = SETTINGS.replace("useradd --uid 2000 app", "useradd --uid 2000 app; false")
    (local_cli.cwd / "imagesync.toml").write_text(failing)
    refused = local_cli.run("build")
    assert refused.returncode == 1
    assert "run-network = true" in refused.stderr
    assert "Making imagesync-packages" not in refused.stderr
    labels = json.dumps([image["Labels"] for image in engine.api.images("imagesync-unfinished")])
    assert "com.example.team" not in labels, "nothing is left behind"
