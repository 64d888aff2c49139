"""Code that no package owns: in the image with its data, without its secrets, and in a layer of its own."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment

SECRET = "tr0ub4dor-and-3"

SHOW = """
import importlib.resources, json, os
import helper, stats, single
from stats import mean
print(json.dumps({
    "files": [helper.__file__, mean.__file__, single.__file__],
    "cached": all(os.path.exists(module.__cached__) for module in (helper, mean, single)),
    "data": helper.data(),
    "resource": importlib.resources.files(stats).joinpath("table.csv").read_text(),
    "linked": open(os.path.join(os.path.dirname(helper.__file__), "linked", "table.csv")).read(),
    "executable": os.access("/opt/env/code/tool.sh", os.X_OK),
    "writable": [p for p in ("/opt/env/code", helper.__file__, helper.__cached__) if os.access(p, os.W_OK)],
}))
"""


@pytest.fixture
def local(base_python: Path, tmp_path: Path) -> LocalEnvironment:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.8"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "orchard"\nversion = "1.0"\ndescription = "A test"\n'
    )
    (project / "orchard.py").write_text("trees = 3\n")
    return make_environment(tmp_path / "env", packages=["toolz"], editable=[project], python=base_python)


@pytest.fixture
def lib(image_cli: CommandLine) -> Path:
    """Return a folder in a repository: a module, data, links; and what must not go in."""
    lib = image_cli.cwd / "lib"
    (lib / "data").mkdir(parents=True)
    (lib / "helper.py").write_text(
        "from pathlib import Path\n\n\ndef data():\n"
        "    return Path(__file__).with_name('data').joinpath('table.csv').read_text()\n"
    )
    (lib / "data" / "table.csv").write_text("1,2\n")
    (lib / "linked").symlink_to("data")
    (lib / "tool.sh").write_text("#!/bin/sh\n")
    (lib / "tool.sh").chmod(0o755)
    (lib / ".gitignore").write_text("ignored.txt\n")
    for name in ("ignored.txt", ".env", "id_ed25519", "notes.ipynb"):
        (lib / name).write_text(SECRET)
    (image_cli.cwd / "outside.txt").write_text(SECRET)
    (lib / "way_out").symlink_to("../outside.txt")
    stats = image_cli.cwd / "stats"
    stats.mkdir()
    (stats / "__init__.py").write_text("")
    (stats / "mean.py").write_text("from . import __name__ as package\n")
    (stats / "table.csv").write_text("3,4\n")
    (image_cli.cwd / "single.py").write_text("")
    subprocess.run(["git", "init", "-q"], cwd=image_cli.cwd, check=True)
    subprocess.run(["git", "add", "-f", "lib/.env"], cwd=image_cli.cwd, check=True)
    return lib


@pytest.fixture
def code_cli(image_cli: CommandLine, local: LocalEnvironment, lib: Path) -> CommandLine:
    (image_cli.cwd / "imagesync.toml").write_text('code = ["lib", "stats", "single.py"]\n')
    return image_cli.with_environ(VIRTUAL_ENV=local.prefix)


def files_of(engine: docker.DockerClient, reference: str) -> Iterator[tuple[str, bytes]]:
    """Yield every file of every layer of an image."""
    saved = io.BytesIO(b"".join(engine.images.get(reference).save(named=True)))
    with tarfile.open(fileobj=saved) as archive:
        for member in archive:
            if not member.isfile():
                continue
            content = archive.extractfile(member).read()
            yield member.name, content
            if content[257:262] == b"ustar":
                with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                    for inner in layer:
                        yield inner.name, layer.extractfile(inner).read() if inner.isfile() else b""


def layers(engine: docker.DockerClient, reference: str) -> list[str]:
    return engine.images.get(reference).attrs["RootFS"]["Layers"]


def in_image(engine: docker.DockerClient, reference: str, code: str) -> str:
    """Return what a program prints in a container that nothing is mounted into."""
    output = engine.containers.run(reference, ["python", "-c", code], remove=True, network_mode="none")
    return output.decode()


def test_code_is_importable_and_secrets_are_nowhere(
    code_cli: CommandLine, engine: docker.DockerClient
) -> None:
    built = code_cli("build")
    assert ".env, id_ed25519" in built.stderr, "what is left out is said"
    assert "way_out" in built.stderr
    assert json.loads(in_image(engine, built.reference, SHOW)) == {
        "files": ["/opt/env/code/helper.py", "/opt/env/code/stats/mean.py", "/opt/env/code/single.py"],
        "cached": True,
        "data": "1,2\n",
        "resource": "3,4\n",
        "linked": "1,2\n",
        "executable": True,
        "writable": [],
    }
    names = set()
    for name, content in files_of(engine, built.reference):
        names.add(name)
        assert SECRET.encode() not in content, name
    assert "opt/env/code/data/table.csv" in names, "the search looks into the layers"
    assert not {name for name in names if name.endswith((".env", "id_ed25519", "ignored.txt", ".ipynb"))}
    assert code_cli("build", "--metadata-file", "../metadata.json").reference == built.reference
    assert json.loads((code_cli.cwd.parent / "metadata.json").read_text())["cached"]


def test_an_edit_changes_the_top_layers_alone(
    code_cli: CommandLine, engine: docker.DockerClient, lib: Path
) -> None:
    first = code_cli("build").reference
    (lib / "helper.py").write_text("def data():\n    return 'edited'\n")
    second = code_cli("build").reference
    assert second != first
    pairs = zip(layers(engine, first), layers(engine, second), strict=True)
    changed = [before for before, after in pairs if before != after]
    # That of the code, and on top of it what the image says that it holds: a file of some kilobytes.
    assert changed == layers(engine, first)[-3:-1]
    assert in_image(engine, second, "import helper; print(helper.data())") == "edited\n"
    # Without code the image is the same but for these layers.
    (code_cli.cwd / "imagesync.toml").write_text("")
    without = code_cli("build").reference
    assert layers(engine, without)[:-2] == layers(engine, first)[:-3]
    with pytest.raises(docker.errors.ContainerError, match="No module named"):
        in_image(engine, without, "import helper")


def test_a_package_is_never_shipped_twice(
    code_cli: CommandLine, engine: docker.DockerClient, tmp_path: Path
) -> None:
    built = code_cli("build", "--code", tmp_path / "project", "--code", "single.py")
    assert "orchard" in built.stderr
    names = [name for name, _ in files_of(engine, built.reference) if name.endswith("orchard.py")]
    assert len(names) == 1
    assert "site-packages" in names[0]


def test_code_that_a_template_loses_fails_the_check(code_cli: CommandLine) -> None:
    templates = code_cli.cwd / "own"
    templates.mkdir()
    (templates / "Dockerfile.j2").write_text(
        '{% extends "imagesync/Dockerfile.j2" %}'
        "{% block after_packages %}RUN rm /opt/env/code/helper.py{% endblock %}"
    )
    failed = code_cli.run("build", "--templates", "own")
    assert failed.returncode == 1
    assert "helper, which belongs to no package, can't be found" in failed.stderr


def test_the_rendered_context_holds_the_code(code_cli: CommandLine) -> None:
    code_cli("render", "--output-dir", "context")
    context = code_cli.cwd / "context"
    assert sorted(path.name for path in (context / "code").iterdir()) == ["code.zip", "code.zip.pyc.zip"]
    assert "/opt/env/code" in (context / "Dockerfile").read_text()
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in context.rglob("*") if path.is_file() and path.parent.name != "tools"
    )
