"""Two packages with one file, as opencv-python and opencv-python-headless: said, and no obstacle."""

from __future__ import annotations

from pathlib import Path

import docker

from tests.commands import CommandLine
from tests.environments import make_environment
from tests.indexes import LocalIndex


def test_two_packages_with_one_module_are_said_and_built(
    image_cli: CommandLine, base_python: Path, tmp_path: Path, engine: docker.DockerClient
) -> None:
    with LocalIndex() as index:
        index.add_wheel("vision", "1.0", files={"cv/__init__.py": b"full = True\n", "vision.py": b""})
        index.add_wheel("vision-headless", "1.0", files={"cv/__init__.py": b"full = False  # less\n"})
        local = make_environment(
            tmp_path / "env",
            packages=["vision", "vision-headless"],
            python=base_python,
            arguments=["--index-url", index.url],
        )
        cli = image_cli.with_environ(VIRTUAL_ENV=local.prefix, PIP_INDEX_URL=index.url)
        findings = cli("plan", "--format", "json").json()["findings"]
        assert [finding["code"] for finding in findings] == ["module-clash"]
        built = cli("build")
    assert "vision 1.0 and vision-headless 1.0 both have the module cv" in built.stderr
    # Bytecode of one and the source of the other would run what nobody can read.
    show = ["python", "-c", "import cv, vision; print(f'full = {cv.full}' in open(cv.__file__).read())"]
    assert engine.containers.run(built.reference, show, remove=True) == b"True\n"
