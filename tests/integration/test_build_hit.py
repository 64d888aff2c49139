"""An environment that hasn't changed costs a look at the engine; two builds at once are one."""

from __future__ import annotations

import json
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.engine_proxy import EngineProxy
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex


@pytest.fixture
def index() -> LocalIndex:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0", requires=["birch>=2"])
        index.add_wheel("birch", "2.1.0")
        yield index


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    return make_environment(
        tmp_path / "env", packages=["alder"], python=base_python, arguments=["--index-url", index.url]
    )


@pytest.fixture
def build_cli(image_cli: CommandLine, index: LocalIndex, local: LocalEnvironment) -> CommandLine:
    return image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)


def test_hit_is_one_look_at_the_engine(build_cli: CommandLine, index: LocalIndex) -> None:
    built = build_cli("build")
    index.forget_requests()
    with EngineProxy() as engine:
        found = build_cli.with_environ(DOCKER_HOST=engine.url)("build", "--metadata-file", "metadata.json")
        assert len(engine.requests) == 1, engine.requests
        assert engine.requests[0].startswith("GET ")
    assert found.stdout == built.stdout
    assert json.loads((build_cli.cwd / "metadata.json").read_text())["cached"] is True
    assert index.requests == []


@pytest.mark.usefixtures("new_packages")
def test_changed_environment_is_no_hit(
    build_cli: CommandLine, index: LocalIndex, local: LocalEnvironment, cache_dir: Path
) -> None:
    build_cli = build_cli.with_environ(IMAGESYNC_CACHE_DIR=cache_dir)
    before = build_cli("build")
    index.add_wheel("cedar", "3.0.0")
    local.install("--index-url", index.url, "cedar")
    index.forget_requests()
    after = build_cli("build")
    assert after.reference != before.reference
    assert index.downloads("cedar-3.0.0-py3-none-any.whl") == 1
    assert index.downloads() == 1, "what is in the store is not fetched anew"


def test_edited_source_is_no_hit(build_cli: CommandLine, local: LocalEnvironment, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.8"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "elder"\nversion = "1.0"\ndescription = "A test"\n'
    )
    module = project / "elder.py"
    module.write_text("berries = 1\n")
    local.install("--editable", project)
    pypi = CommandLine({k: v for k, v in build_cli.environ.items() if k != "PIP_INDEX_URL"}, build_cli.cwd)
    extra = pypi.with_environ(PIP_EXTRA_INDEX_URL=build_cli.environ["PIP_INDEX_URL"])
    first = extra("build").reference
    module.write_text("berries = 2\n")
    second = extra("build").reference
    assert second != first
    assert extra("run", "--", "python", "-c", "import elder; print(elder.berries)").stdout == "2\n"
    module.write_text("berries = 1\n")
    assert extra("build").reference == first


@pytest.mark.usefixtures("new_packages")
def test_two_builds_at_once_are_one(
    build_cli: CommandLine,
    index: LocalIndex,
    engine: docker.DockerClient,
    repository: str,
    cache_dir: Path,
) -> None:
    index.forget_requests()
    with EngineProxy() as proxy:
        # With an empty store, so that both have something to fetch.
        cli = build_cli.with_environ(DOCKER_HOST=proxy.url, IMAGESYNC_CACHE_DIR=cache_dir)
        processes = [cli.start("build", "--metadata-file", f"{number}.json") for number in range(2)]
        outputs = [process.communicate(timeout=500) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        # The packages image and what stands on it.
        assert proxy.requests.count("POST /build") == 2
    metadata = [json.loads((build_cli.cwd / f"{number}.json").read_text()) for number in range(2)]
    assert sorted(entry.pop("cached") for entry in metadata) == [False, True]
    assert metadata[0] == metadata[1]
    assert index.downloads("alder-1.0.0-py3-none-any.whl") == 1
    assert len(engine.images.list(repository)) == 1


def test_further_tags_and_anew(build_cli: CommandLine, engine: docker.DockerClient, repository: str) -> None:
    reference = build_cli("build", "--tag", f"{repository}:mine").reference
    assert engine.images.get(f"{repository}:mine").id == engine.images.get(reference).id
    # A hit gets the further name as well.
    build_cli("build", "--tag", f"{repository}:yours")
    assert engine.images.get(f"{repository}:yours").id == engine.images.get(reference).id
    with EngineProxy() as proxy:
        build_cli.with_environ(DOCKER_HOST=proxy.url)("build", "--no-cache")
        assert "POST /build" in proxy.requests


def test_run_passes_on_output_input_folder_and_exit_code(build_cli: CommandLine) -> None:
    (build_cli.cwd / "data.txt").write_text("from here\n")
    shown = build_cli(
        "run", "--", "python", "-c", "import birch; print(birch.__version__, open('data.txt').read())"
    )
    assert shown.stdout == "2.1.0 from here\n\n"
    failed = build_cli.run(
        "run", "--", "python", "-c", "import sys; print('no', file=sys.stderr); sys.exit(7)"
    )
    assert failed.returncode == 7
    assert "no\n" in failed.stderr
    assert "Traceback" not in failed.stderr
