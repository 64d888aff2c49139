"""Images with packages that no index has: the files in them are those that are installed here."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import docker
import pytest

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, feature_version, make_environment, run
from tests.indexes import LocalIndex
from tests.indexes.index import Fault
from tests.indexes.sdists import make_source_archive
from tests.indexes.wheels import make_wheel

# As crick 0.0.3: setup.py imports what no metadata asks for.
SETUP = "import undeclared_at_build_time\nfrom setuptools import setup\nsetup(name='imsync-crocus')\n"
FILES = {
    "imsync_bluebell/__init__.py": b"COLOUR = 'blue'\n",
    "imsync_bluebell/data.bin": bytes(range(256)),
    "imsync_bluebell-2.0.data/scripts/bluebell": b"#!python\nimport imsync_bluebell as b\nprint(b.COLOUR)\n",
}


@pytest.fixture
def local(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    """Return an environment of four packages, of which the index has one left as it was."""
    # Some wheels have bytecode in them, as numpy 1.26 has; the image's own takes its place.
    pyc = f"__pycache__/imsync_anemone.cpython-{feature_version(base_python).replace('.', '')}.pyc"
    index.add_wheel("imsync-anemone", "1.0.0", files={"imsync_anemone.py": b"petals = 8\n", pyc: b"old"})
    listed = index.add_wheel("imsync-daisy", "1.0")
    deleted = [
        index.add_wheel("imsync-bluebell", "2.0", files=FILES),
        index.add_wheel("imsync-crocus", "0.0.3"),
    ]
    packages = ["imsync-anemone", "imsync-bluebell", "imsync-crocus", "imsync-daisy"]
    made = make_environment(
        tmp_path / "env", packages=packages, python=base_python, arguments=["--index-url", index.url]
    )
    for filename in deleted:
        index.remove_file(filename)
    index.fault(listed, Fault(status=410))
    index.add_file(*make_source_archive("imsync-crocus", "0.0.3", {"setup.py": SETUP}))
    return made


def local_files(environment: LocalEnvironment) -> dict[str, str]:
    folders = ("imsync_bluebell", "imsync_bluebell-2.0.dist-info", "imsync_crocus-0.0.3.dist-info")
    ours = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
    site = environment.site_packages
    files = [path for folder in folders for path in (site / folder).rglob("*") if path.is_file()]
    files += [site / "imsync_crocus.py", site / "imsync_daisy.py"]
    return {
        path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix != ".pyc" and path.name not in ours
    }


def test_files_in_the_image_are_the_local_ones(
    engine: docker.DockerClient, image_cli: CommandLine, local: LocalEnvironment, index: LocalIndex
) -> None:
    cli = image_cli.with_environ(PIP_EXTRA_INDEX_URL=index.url)
    command = ["build", "--python", str(local.python), "--profile", "none", "--strict"]
    built = cli.run(*command, "--metadata-file", "metadata.json")
    assert built.returncode == 0, built.stderr
    metadata = json.loads((cli.cwd / "metadata.json").read_text())
    assert {entry["name"]: entry["version"] for entry in metadata["repacked"]} == {
        "imsync-bluebell": "2.0",
        "imsync-crocus": "0.0.3",
        "imsync-daisy": "1.0",
    }
    assert metadata["deviations"] == []
    assert "repacked: imsync-bluebell 2.0" in built.stderr
    assert "repacked: imsync-daisy 1.0, from the installed files: the index lists" in built.stderr
    assert "imsync-crocus 0.0.3: its sdist can't be built" in built.stderr
    labels = engine.images.get(built.reference).labels
    assert json.loads(labels["dev.imagesync.repacked"]) == metadata["repacked"]

    expected = local_files(local)
    assert len(expected) >= 7
    code = (
        "import hashlib, json, pathlib, sysconfig; site = pathlib.Path(sysconfig.get_path('purelib'));"
        "digest = lambda path: hashlib.sha256((site / path).read_bytes()).hexdigest();"
        f"print(json.dumps({{path: digest(path) for path in {sorted(expected)!r}}}))"
    )
    assert json.loads(engine.containers.run(built.reference, ["python", "-c", code], remove=True)) == expected
    assert engine.containers.run(built.reference, ["bluebell"], remove=True) == b"blue\n"

    again = cli.run(*command, "--metadata-file", "metadata.json")
    assert again.returncode == 0, again.stderr
    assert again.stdout == built.stdout
    again_metadata = json.loads((cli.cwd / "metadata.json").read_text())
    assert again_metadata == {**metadata, "cached": True}

    (local.site_packages / "imsync_bluebell" / "__init__.py").write_text("COLOUR = 'white'\n")
    edited = cli.run(*command)
    assert edited.returncode == 0, edited.stderr
    assert engine.containers.run(edited.reference, ["bluebell"], remove=True) == b"white\n"


EGG_SETUP = """
from setuptools import setup

setup(name="imsync-primula", version="1.0", py_modules=["imsync_primula"], zip_safe=False,
      entry_points={"console_scripts": ["primula = imsync_primula:main"]})
"""


@pytest.fixture
def odd(index: LocalIndex, base_python: Path, tmp_path: Path) -> LocalEnvironment:
    """Return an environment of an egg and of a wheel that uv refuses."""
    filename, content = make_wheel("imsync-lily", "1.0", files={"imsync_lily.py": b"COLOUR = 'orange'\n"})
    output = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as plain, zipfile.ZipFile(output, "w") as archive:
        for member in plain.infolist():
            archive.writestr(member.filename, plain.read(member), compress_type=zipfile.ZIP_LZMA)
    index.add_file(filename, output.getvalue())
    made = make_environment(tmp_path / "env", packages=["pip", "setuptools<66"], python=base_python)
    made.pip_install("--index-url", index.url, "imsync-lily==1.0")
    source = tmp_path / "primula"
    source.mkdir()
    (source / "setup.py").write_text(EGG_SETUP)
    (source / "imsync_primula.py").write_text("def main():\n    print('yellow')\n")
    run([made.python, "setup.py", "-q", "install"], cwd=source)
    return made


def test_egg_and_wheel_that_uv_refuses_are_in_the_image(
    engine: docker.DockerClient, image_cli: CommandLine, odd: LocalEnvironment, index: LocalIndex
) -> None:
    cli = image_cli.with_environ(PIP_EXTRA_INDEX_URL=index.url)
    ignored = ["--ignore", "setuptools"]
    command = ["build", "--python", str(odd.python), "--profile", "none", "--strict", *ignored]
    built = cli.run(*command)
    assert built.returncode == 0, built.stderr
    assert "imsync_lily-1.0-py3-none-any.whl: rewritten with the same files, because uv" in built.stderr
    assert "repacked: imsync-primula 1.0, from the installed files: it is installed as an egg" in built.stderr
    code = "import imsync_lily; print(imsync_lily.COLOUR)"
    assert engine.containers.run(built.reference, ["python", "-c", code], remove=True) == b"orange\n"
    assert engine.containers.run(built.reference, ["primula"], remove=True) == b"yellow\n"
    again = cli.run(*command)
    assert (again.returncode, again.stdout) == (0, built.stdout), again.stderr
    (module,) = odd.site_packages.glob("imsync_primula-*.egg/imsync_primula.py")
    module.write_text(module.read_text().replace("yellow", "purple"))
    edited = cli.run(*command)
    assert edited.returncode == 0, edited.stderr
    assert edited.reference != built.reference
    assert engine.containers.run(edited.reference, ["primula"], remove=True) == b"purple\n"
