"""Two packages with one file, as opencv-python and opencv-python-headless: the image has what is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex

FULL, LESS = b"full = True\n", b"full = False  # less\n"
# Bytecode of one and the source of the other would run what nobody can read.
SHOW = "import cv; assert f'full = {cv.full}' in open(cv.__file__).read(); print(cv.full)"


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as running:
        data = {"cv/data.bin": b"full"}
        running.add_wheel("vision", "1.0", files={"cv/__init__.py": FULL, "vision.py": b"", **data})
        running.add_wheel("vision-headless", "1.0", files={"cv/__init__.py": LESS, "cv/data.bin": b"less"})
        yield running


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    made = make_environment(tmp_path / "env", python=base_python)
    install(made, index, "vision", "vision-headless")
    return made


def install(environment: LocalEnvironment, index: LocalIndex, *names: str) -> None:
    """Install one after the other: the files of the last stay."""
    for name in names:
        environment.install("--reinstall", "--extra-index-url", index.url, name)


def shown(engine: docker.DockerClient, reference: str, code: str = SHOW) -> str:
    return engine.containers.run(reference, ["python", "-c", code], remove=True).decode().strip()


def test_image_has_the_file_that_is_installed_here(
    image_cli: CommandLine, local: LocalEnvironment, index: LocalIndex, engine: docker.DockerClient
) -> None:
    cli = image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)
    findings = cli("plan", "--format", "json").json()["findings"]
    assert [finding["code"] for finding in findings] == ["module-clash"]
    less = cli("build")
    assert "vision 1.0 and vision-headless 1.0 both have the module cv" in less.stderr
    assert shown(engine, less.reference) == "False"
    data = "import cv, pathlib; print(pathlib.Path(cv.__file__).with_name('data.bin').read_text())"
    assert shown(engine, less.reference, data) == "less"
    labels = engine.images.get(less.reference).labels
    assert set(json.loads(labels["dev.imagesync.contested"])) == {"cv/__init__.py", "cv/data.bin"}
    again = cli("build", "--metadata-file", "metadata.json")
    assert json.loads((cli.cwd / "metadata.json").read_text())["cached"], again.stderr
    # The same packages, and the other one's file.
    install(local, index, "vision")
    full = cli("build")
    assert shown(engine, full.reference) == "True"
    assert shown(engine, full.reference, data) == "full"


def test_a_shared_file_that_was_edited_is_shipped_as_it_is_here(
    image_cli: CommandLine, local: LocalEnvironment, index: LocalIndex, engine: docker.DockerClient
) -> None:
    module = local.site_packages / "cv/__init__.py"
    module.unlink()
    module.write_text("full = None\n")
    cli = image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)
    assert shown(engine, cli("build").reference) == "None"


def test_an_installed_package_wins_over_an_editable_one(
    image_cli: CommandLine,
    local: LocalEnvironment,
    index: LocalIndex,
    tmp_path: Path,
    engine: docker.DockerClient,
) -> None:
    project = tmp_path / "project"
    (project / "cv").mkdir(parents=True)
    (project / "cv/__init__.py").write_text('"""Mine."""\nfull = "mine"\n')
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.8"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "cv"\nversion = "1.0"\ndescription = "Mine"\n'
    )
    local.install("-e", project)
    cli = image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_EXTRA_INDEX_URL=index.url)
    assert shown(engine, cli("build").reference) == "False"
