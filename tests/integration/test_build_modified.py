"""Installed files that were changed by hand: the image has them, or the difference is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.channels.environments import CondaEnvironment
from tests.commands import CommandLine, Finished
from tests.conftest import MakeCondaEnvironment
from tests.environments import LocalEnvironment, make_environment
from tests.indexes import LocalIndex

FILES = {
    "imsync_bluebell/__init__.py": b"COLOUR = 'blue'\n",
    "imsync_bluebell/data.csv": b"1\n",
    "imsync_bluebell-2.0.dist-info/entry_points.txt": b"[console_scripts]\nbluebell = imsync_bluebell:ring\n",
}


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex() as running:
        running.add_wheel("imsync-bluebell", "2.0", files=FILES)
        running.add_wheel("imsync-anemone", "1.0.0")
        yield running


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    return make_environment(
        tmp_path / "env",
        packages=["imsync-anemone", "imsync-bluebell"],
        python=base_python,
        arguments=["--index-url", index.url],
    )


@pytest.fixture
def pip_cli(image_cli: CommandLine, index: LocalIndex, local: LocalEnvironment) -> CommandLine:
    return image_cli.with_environ(
        PIP_EXTRA_INDEX_URL=index.url, VIRTUAL_ENV=str(local.prefix), IMAGESYNC_PROFILE="none"
    )


def built(cli: CommandLine, *arguments: str | Path) -> Finished:
    finished = cli.run("build", *arguments, "--metadata-file", "metadata.json")
    assert finished.returncode == 0, finished.stderr
    return finished


def metadata(cli: CommandLine) -> dict[str, object]:
    content: dict[str, object] = json.loads((cli.cwd / "metadata.json").read_text())
    return content


def in_image(engine: docker.DockerClient, reference: str, code: str) -> str:
    output: bytes = engine.containers.run(reference, ["python", "-c", code], remove=True)
    return output.decode().strip()


def rows(finished: Finished) -> dict[str, str]:
    return {row["name"]: row["group"] for row in finished.json()["packages"]}


def test_changes_of_an_index_package_make_another_image_that_has_them(
    engine: docker.DockerClient, pip_cli: CommandLine, local: LocalEnvironment
) -> None:
    first = built(pip_cli).reference
    module = local.site_packages / "imsync_bluebell/__init__.py"
    before = module.read_bytes()
    module.write_bytes(before.replace(b"blue", b"pink"))
    (module.parent / "own.py").write_text("SIZE = 7\n")
    (module.parent / "data.csv").unlink()
    changed = built(pip_cli)
    assert changed.reference != first
    assert "imsync-bluebell 2.0 isn't as it was installed: imsync_bluebell/__init__.py was edited" in (
        changed.stderr
    )
    assert metadata(pip_cli)["deviations"] == []
    code = (
        "import imsync_bluebell as b, imsync_bluebell.own as o, pathlib;"
        "print(b.COLOUR, o.SIZE, (pathlib.Path(b.__file__).parent / 'data.csv').exists())"
    )
    assert in_image(engine, changed.reference, code) == "pink 7 False"

    again = built(pip_cli, "--strict")
    assert metadata(pip_cli)["deviations"] == []
    assert "isn't as it was installed" in again.stderr
    same = pip_cli.run("diff", "local", changed.reference, "--format", "json")
    assert rows(same)["imsync-bluebell"] == "same"
    differs = pip_cli.run("diff", "local", first, "--format", "json")
    assert rows(differs)["imsync-bluebell"] == "differs"
    assert "changed here: imsync_bluebell/__init__.py was edited" in differs.stdout

    module.write_bytes(before)
    (module.parent / "own.py").unlink()
    (module.parent / "data.csv").write_bytes(FILES["imsync_bluebell/data.csv"])
    reverted = built(pip_cli)
    assert reverted.reference == first
    assert metadata(pip_cli)["cached"]
    assert "isn't as it was installed" not in reverted.stderr


def test_changes_that_the_image_does_not_get_are_deviations(
    pip_cli: CommandLine, local: LocalEnvironment
) -> None:
    (local.site_packages / "imsync_bluebell/__init__.py").write_bytes(b"COLOUR = 'pink'\n")
    built(pip_cli, "--modified", "index")
    (deviation,) = metadata(pip_cli)["deviations"]  # type: ignore[misc]
    assert deviation["name"] == "imsync-bluebell"  # type: ignore[index]
    assert "imsync_bluebell/__init__.py was edited" in deviation["reason"]  # type: ignore[index]
    refused = pip_cli.run("build", "--modified", "index", "--strict")
    assert refused.returncode == 1
    assert "- imsync-bluebell 2.0: imsync_bluebell/__init__.py was edited" in refused.stderr
    refused = pip_cli.run("build", "--modified", "error")
    assert refused.returncode == 1
    assert "the setting 'modified' is 'error'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_edited_command_of_an_entry_point_is_a_deviation(
    pip_cli: CommandLine, local: LocalEnvironment
) -> None:
    command = local.prefix / "bin/bluebell"
    command.write_bytes(command.read_bytes() + b"print('more')\n")
    built(pip_cli)
    (deviation,) = metadata(pip_cli)["deviations"]  # type: ignore[misc]
    assert "bin/bluebell was edited" in deviation["reason"]  # type: ignore[index]


def test_lock_check_names_packages_that_were_changed_since(
    pip_cli: CommandLine, local: LocalEnvironment
) -> None:
    pip_cli("lock", "-o", "conda-lock.yml")
    assert pip_cli.run("lock", "--check").returncode == 0
    module = local.site_packages / "imsync_bluebell/__init__.py"
    before = module.read_bytes()
    module.write_bytes(before.replace(b"blue", b"pink"))
    changed = pip_cli.run("lock", "--check")
    assert changed.returncode == 1
    assert "its installed files were changed" in changed.stdout + changed.stderr
    pip_cli("lock", "-o", "conda-lock.yml")
    assert pip_cli.run("lock", "--check").returncode == 0
    module.write_bytes(before)
    assert pip_cli.run("lock", "--check").returncode == 1


@pytest.fixture
def conda(conda_environment: MakeCondaEnvironment) -> CondaEnvironment:
    return conda_environment("python", "toolz", "numpy")


def test_changed_conda_package_of_python_files_is_shipped(
    engine: docker.DockerClient, image_cli: CommandLine, conda: CondaEnvironment
) -> None:
    cli = image_cli.with_environ(**conda.activated, IMAGESYNC_PROFILE="none")
    first = built(cli).reference
    module = conda.site_packages / "toolz/recipes.py"
    before = module.read_bytes()
    module.write_bytes(before + b"OWN = 7\n")
    changed = built(cli, "--strict")
    assert changed.reference != first
    assert metadata(cli)["deviations"] == []
    assert in_image(engine, changed.reference, "import toolz.recipes as r; print(r.OWN)") == "7"
    assert rows(cli.run("diff", "local", changed.reference, "--format", "json"))["toolz"] == "same"
    assert rows(cli.run("diff", "local", first, "--format", "json"))["toolz"] == "differs"

    module.write_bytes(before)
    assert built(cli).reference == first
    library = next((conda.prefix / "lib").glob("python3*/this.py"))
    library.write_bytes(library.read_bytes() + b"\n")
    deviating = built(cli)
    (deviation,) = metadata(cli)["deviations"]  # type: ignore[misc]
    assert (deviation["name"], deviation["manager"]) == ("python", "conda")  # type: ignore[index]
    assert "this.py was edited" in deviating.stderr
