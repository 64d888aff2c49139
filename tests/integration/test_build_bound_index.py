"""A uv project whose private packages have an index of their own: an image, and the password nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import BIN, CommandLine
from tests.environments import LocalEnvironment, run
from tests.indexes import LocalIndex
from tests.indexes.bound import LOGIN, PASSWORD, private_index, public_index, uv_manifest
from tests.integration.test_wheels_vendor import BACKEND

BUILD = """
tiny-backend = { index = "farm-private" }
[build-system]
requires = ["tiny-backend"]
build-backend = "tiny_backend"
"""


@pytest.fixture
def public() -> Iterator[LocalIndex]:
    with public_index() as index:
        index.add_wheel(
            "tiny-backend", "1.0", files={"tiny_backend.py": b"raise SystemExit('the public one')"}
        )
        yield index


@pytest.fixture
def private() -> Iterator[LocalIndex]:
    with private_index() as index:
        index.add_wheel(
            "tiny-backend", "1.0", files={"tiny_backend.py": BACKEND.format(version="1.0").encode()}
        )
        yield index


@pytest.mark.usefixtures("new_packages")
@pytest.mark.parametrize("way", ["variables", "uv auth"])
def test_password_of_a_bound_index_is_nowhere(
    image_cli: CommandLine,
    public: LocalIndex,
    private: LocalIndex,
    base_python: Path,
    cache_dir: Path,
    tmp_path: Path,
    engine: docker.DockerClient,
    way: str,
) -> None:
    project = image_cli.cwd
    (project / "pyproject.toml").write_text(uv_manifest(public, private).rstrip() + BUILD)
    if way == "variables":
        login = LOGIN
    else:
        login = {"UV_CREDENTIALS_DIR": str(tmp_path / "credentials")}
        run(
            [
                BIN / "uv",
                "auth",
                "login",
                private.url,
                "--username",
                PASSWORD.user,
                "--password",
                PASSWORD.word,
            ],
            environ=login,
        )
    own = {**login, "UV_CACHE_DIR": str(tmp_path / "uv-cache"), "PIP_FIND_LINKS": ""}
    run(
        [BIN / "uv", "sync", "--quiet", "--no-default-groups", "--python", base_python],
        environ=own,
        cwd=project,
    )
    local = LocalEnvironment(project / ".venv")
    cli = image_cli.with_environ(**own, VIRTUAL_ENV=local.prefix, IMAGESYNC_CACHE_DIR=cache_dir)
    for index in (public, private):
        index.forget_requests()
    scanned = cli("scan", "--format", "json")
    assert scanned.json()["indexes"] == [public.url, private.url]
    finished = [
        scanned,
        cli("plan", "--format", "json"),
        cli("lock", "--format", "json"),
        cli("render", "--output-dir", "context"),
        cli("build", "--metadata-file", "metadata.json"),
    ]
    locked = {p["name"]: p for p in json.loads(finished[2].stdout)["packages"]}
    assert locked["plough"]["artifact"]["url"].startswith(private.origin)
    assert locked["orchard"]["artifact"]["url"].startswith(public.origin)
    reference = finished[-1].reference
    asked = {request.path for request in public.requests}
    assert not {path for path in asked if "plough" in path or "tiny" in path}
    assert {r.path for r in private.requests if r.path.startswith("/simple/")} == {
        "/simple/plough/",
        "/simple/tiny-backend/",
    }
    code = "import mine, plough_is_private"
    assert cli("run", "--", "python", "-c", code).returncode == 0
    private.add_wheel("plough", "2.0.0", files={"plough_is_private.py": b""})
    wrong = cli.with_environ(UV_INDEX_FARM_PRIVATE_USERNAME="jane", UV_INDEX_FARM_PRIVATE_PASSWORD="no")
    finished.append(wrong.run("build", "--no-cache"))
    assert finished[-1].returncode == 1
    assert private.url in finished[-1].stderr
    PASSWORD.assert_absent_from_output(finished)
    PASSWORD.assert_absent_below(cache_dir, project)
    PASSWORD.assert_absent_from_image(engine, reference)
