"""One environment has one image, however it is built; what differs in an image that is found is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine, Finished
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex
from tests.integration.editable_project import asked, make_project, pyproject


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as index:
        index.add_wheel("alder", "1.0.0", requires=["birch>=2"])
        index.add_wheel("birch", "2.1.0")
        yield index


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path, project: Path) -> LocalEnvironment:
    arguments = ["--extra-index-url", index.url]
    return make_environment(
        tmp_path / "env", packages=["alder"], python=base_python, editable=[project], arguments=arguments
    )


@pytest.fixture
def build_cli(
    image_cli: CommandLine, index: LocalIndex, local: LocalEnvironment, cache_dir: Path
) -> CommandLine:
    return image_cli.with_environ(
        VIRTUAL_ENV=local.prefix, PIP_EXTRA_INDEX_URL=index.url, IMAGESYNC_CACHE_DIR=cache_dir
    )


def is_hit(finished: Finished) -> bool:
    return "Building" not in finished.stderr and "Making imagesync-packages" not in finished.stderr


def test_settings_and_a_lock_file_lead_to_the_image_of_the_same_content(
    build_cli: CommandLine, index: LocalIndex, engine: docker.DockerClient, repository: str, tmp_path: Path
) -> None:
    built = build_cli("build")
    build_cli("lock", "-o", "conda-lock.yml")
    index.forget_requests()
    for options in (
        ["--strict"],
        ["--strict", "--profile", "none"],
        ["--allow-inconsistent"],
        ["--resolver", "pip-tools"],
        ["--level", "alder=exact"],
    ):
        found = build_cli("build", *options)
        assert found.reference == built.reference, options
        assert is_hit(found), options
    assert asked(index) == []
    locked = build_cli("build", "--locked")
    assert locked.reference == built.reference
    assert is_hit(locked)
    # A machine with nothing remembered: a scan needs a wheel for it, a lock file needs nothing.
    fresh = build_cli.with_environ(IMAGESYNC_CACHE_DIR=tmp_path / "fresh")
    for options in (["--locked"], []):
        found = fresh("build", *options)
        assert found.reference == built.reference
        assert is_hit(found)
    assert asked(index) == []
    assert len(engine.images.list(repository)) == 1


def test_file_beside_the_sources_costs_a_wheel_and_is_a_hit(
    build_cli: CommandLine, project: Path, index: LocalIndex
) -> None:
    first = build_cli("build")
    (project / "notes.txt").write_text("Picked on Monday.\n")
    # Before the next build, too.
    assert build_cli.run("diff", "local", first.reference).returncode == 0
    (project / "README.md").write_text("How to pick them.\n")
    index.forget_requests()
    with_readme = build_cli("build")
    assert with_readme.reference == first.reference
    assert is_hit(with_readme)
    assert asked(index) == []
    # Without a build, and for comparisons, it is what it was.
    assert "Making wheels" not in build_cli("build").stderr
    assert build_cli.run("diff", "local", first.reference).returncode == 0
    (project / "elder.py").write_text("berries = 2\n")
    assert "the code differs" in build_cli.run("diff", "local", first.reference).stdout
    edited = build_cli("build")
    assert edited.reference != first.reference
    assert build_cli("run", "--", "python", "-c", "import elder; print(elder.berries)").stdout == "2\n"
    (project / "elder.py").write_text("berries = 1\n")
    reverted = build_cli("build")
    assert reverted.reference == first.reference
    assert is_hit(reverted)
    # Metadata counts, too.
    (project / "pyproject.toml").write_text(pyproject(description="Blue berries"))
    assert build_cli("build").reference not in (first.reference, edited.reference)


def test_edit_of_an_environment_whose_settings_changed_asks_no_index(
    build_cli: CommandLine, project: Path, index: LocalIndex, engine: docker.DockerClient
) -> None:
    first = engine.images.get(build_cli("build").reference)
    (project / "elder.py").write_text("berries = 2\n")
    second = engine.images.get(build_cli("build", "--level", "alder=exact").reference)
    label = "dev.imagesync.packages-hash"
    assert first.labels[label] == second.labels[label], "levels don't name the packages image"
    index.forget_requests()
    (project / "elder.py").write_text("berries = 3\n")
    build_cli("build", "--level", "alder=exact")
    assert asked(index) == []


def test_deviations_of_an_image_that_is_found_are_printed_and_strict_refuses_them(
    build_cli: CommandLine, index: LocalIndex, base_python: Path, tmp_path: Path
) -> None:
    index.add_wheel("cedar", "1.0.0")
    local = make_environment(
        tmp_path / "other", packages=["cedar"], python=base_python, arguments=["--index-url", index.url]
    )
    cli = build_cli.with_environ(VIRTUAL_ENV=local.prefix, IMAGESYNC_PYTHON="auto").with_environ(
        IMAGESYNC_CHANNELS="http://127.0.0.1:9/nobody"
    )
    built = cli("build", "--metadata-file", "built.json")
    assert "differs: python" in built.stderr
    assert "http://127.0.0.1:9/nobody didn't answer when asked for Python" in built.stderr
    found = cli("build", "--metadata-file", "found.json")
    assert found.reference == built.reference
    assert "differs: python" in found.stderr
    first, second = (json.loads((cli.cwd / f"{name}.json").read_text()) for name in ("built", "found"))
    assert second == {**first, "cached": True}
    refused = cli.run("build", "--strict")
    assert refused.returncode == 1
    assert "http://127.0.0.1:9/nobody didn't answer when asked for Python" in refused.stderr
    # The same content, chosen and not fallen back to.
    chosen = cli.with_environ(IMAGESYNC_PYTHON="base")("build", "--strict")
    assert chosen.reference == built.reference
    assert "differs:" not in chosen.stderr
