"""What manifests want: environment.yml, pixi.toml, pyproject.toml and requirements."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesync.errors import ImagesyncError
from imagesync.lock.lockfile.models import Selection
from imagesync.lock.manifest_files import Manifest, python_specs, read_manifest

PIXI = """\
[workspace]
channels = ["conda-forge", { channel = "team", priority = 1 }]
platforms = ["linux-64", "win-64"]
[dependencies]
python = "3.11.*"
numpy = { version = ">=2", build = "py311*", channel = "team" }
[target.linux-64.dependencies]
libgomp = "*"
[target.win-64.dependencies]
ucrt = "*"
[pypi-dependencies]
lamp = { version = ">=1", extras = ["dim"] }
bulb = "*"
[feature.test.dependencies]
pytest = "*"
[environments]
test = ["test"]
bare = { features = ["test"], no-default-feature = true }
"""


def read(folder: Path, name: str, text: str, **selection: object) -> Manifest:
    path = folder / name
    path.write_text(text, "utf-8")
    return read_manifest(path, Selection(**selection))  # type: ignore[arg-type]


def test_environment_yml_has_specs_requirements_and_channels(tmp_path: Path) -> None:
    text = "channels: [team, nodefaults]\ndependencies:\n- numpy=2\n- team::lamp >=1\n- pip:\n  - bulb<2\n"
    found = read(tmp_path, "environment.yml", text)
    assert found.conda == ("numpy=2", "team::lamp >=1")
    assert (found.pip, found.channels) == (("bulb<2",), ("team",))
    assert python_specs(found) == ("python",)
    assert python_specs(read(tmp_path, "environment.yml", text.replace("numpy=2", "python=3.11"))) == ()


def test_pixi_toml_has_the_features_of_an_environment_for_linux(tmp_path: Path) -> None:
    found = read(tmp_path, "pixi.toml", PIXI)
    assert found.conda == ("python 3.11.*", "team::numpy >=2 py311*", "libgomp *")
    assert (found.pip, found.channels) == (("lamp[dim]>=1", "bulb"), ("team", "conda-forge"))
    assert "pytest *" in read(tmp_path, "pixi.toml", PIXI, environment="test").conda
    assert read(tmp_path, "pixi.toml", PIXI, environment="bare").conda == ("pytest *",)


def test_pyproject_has_its_extras_groups_and_the_project(tmp_path: Path) -> None:
    text = (
        '[project]\nname = "Room"\nrequires-python = ">=3.10"\ndependencies = ["lamp"]\n'
        '[project.optional-dependencies]\ndim = ["shade"]\n'
        '[dependency-groups]\nnight = ["dusk", { include-group = "more" }]\nmore = ["moon"]\n'
    )
    found = read(tmp_path, "pyproject.toml", text, extras=("dim",), groups=("night",))
    assert found.pip == ("lamp", "shade", "dusk", "moon")
    assert (found.python, dict(found.projects)) == (">=3.10", {})
    spelled = text.replace("dim =", "Dim_It =").replace("night =", "Night_Shift =")
    assert (
        read(tmp_path, "pyproject.toml", spelled, extras=("dim-it",), groups=("night.shift",)).pip
        == found.pip
    )
    built = read(tmp_path, "pyproject.toml", text + '[build-system]\nrequires = ["hatchling"]\n')
    assert built.projects["room"].url == tmp_path.as_uri()  # type: ignore[index]


def test_requirements_have_comments_and_hashes_left_out(tmp_path: Path) -> None:
    text = "# note\nlamp>=1 # why\nbulb; sys_platform == 'linux' \\\n  --hash=sha256:12\n"
    assert read(tmp_path, "requirements.in", text).pip == ("lamp>=1", 'bulb; sys_platform == "linux"')


ROOM = """\
[project]
name = "Room"
version = "2.0"
requires-python = ">=3.10"
dependencies = ["lamp"]
[project.optional-dependencies]
dim = ["shade; sys_platform == 'linux'"]
all = ["room[dim]>=1"]
"""


def test_local_projects_have_their_dependencies_and_extras(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(ROOM, "utf-8")
    text = '[pypi-dependencies]\nroom = { path = ".", editable = true, extras = ["all"] }\n'
    found = read(tmp_path, "pixi.toml", text)
    (room,) = found.metadata.values()
    assert room.requires == (
        "lamp",
        'shade; (sys_platform == "linux") and extra == "dim"',
        'room[dim]>=1; extra == "all"',
    )
    assert (found.pip, found.python, list(found.projects)) == (("room[all]",), ">=3.10", ["room"])
    assert python_specs(found) == ("python >=3.10",)
    assert read(tmp_path, "pyproject.toml", ROOM, extras=("all",)).metadata == {"room": room}
    (tmp_path / "pyproject.toml").write_text("[build-system]\nrequires = []\n", "utf-8")
    with pytest.raises(ImagesyncError, match="only a build"):
        read(tmp_path, "pixi.toml", text)


def test_pyproject_of_pixi_has_the_dependencies_of_its_project(tmp_path: Path) -> None:
    text = ROOM + '[tool.pixi.environments]\ndim = ["dim"]\n[tool.pixi.dependencies]\nnumpy = "*"\n'
    found = read(tmp_path, "pyproject.toml", text)
    assert (found.conda, found.pip, found.python) == (("numpy *",), ("lamp",), ">=3.10")
    shade = 'shade; sys_platform == "linux"'
    assert read(tmp_path, "pyproject.toml", text, environment="dim").pip == ("lamp", shade)


def test_specs_of_one_name_in_two_features_both_hold(tmp_path: Path) -> None:
    text = PIXI.replace("[environments]", '[feature.test.dependencies.numpy]\nversion = "<3"\n[environments]')
    found = read(tmp_path, "pixi.toml", text, environment="test")
    assert {"team::numpy >=2 py311*", "numpy <3"} <= set(found.conda)


def test_python_of_a_project_is_a_match_spec(tmp_path: Path) -> None:
    for python, spec in (("==3.11.*", "python 3.11.*"), (">=3.10, <4", "python >=3.10,<4"), ("", "python")):
        text = ROOM.replace(">=3.10", python)
        assert python_specs(read(tmp_path, "pyproject.toml", text)) == (spec,)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("requirements.txt", "-r other.txt\n", "isn't a requirement"),
        ("requirements.txt", "lamp @ https://me:word@example.com/lamp.whl\n", "has a URL"),
        ("environment.yml", "dependencies: [--yes]\n", "isn't a match spec"),
        ("environment.yml", "dependencies: 3\n", "can't be read"),
        ("environment.yml", "a: [https://me:word@example.com\n", "isn't YAML"),
        ("environment.yml", "[" * 3000, "nested too deeply"),
        ("pixi.toml", '[dependencies]\nlamp = { git = "https://example.com" }\n', "comes from its sources"),
        ("pixi.toml", '[pypi-dependencies]\nlamp = { git = "x" }\n', "comes from a URL"),
        ("pixi.toml", '[pypi-dependencies]\nlamp = { path = "/etc" }\n', "isn't named relative"),
        ("pyproject.toml", '[project]\nname = "x"\ndynamic = ["dependencies"]\n', "are dynamic"),
        ("pyproject.toml", "= =", "can't be read"),
        ("requirements.txt", "--index-url https://me:word@example.com\n", "option --index-url"),
        ("requirements.txt", "lamp\n--extra-index-url=https://me:word@example.com\n", "option --extra"),
        ("requirements.txt", "--pre\n", "option --pre"),
        ("requirements.txt", "-fhttps://me:word@example.com\n", "isn't applied"),
        ("pixi.toml", '[pypi-dependencies]\nlamp = { version = "1", index = "x" }\n', "index of its own"),
        ("pixi.toml", '[pypi-options]\nindex-url = "https://me:word@example.com"\n', "pypi-options"),
        ("pixi.toml", '[environments]\ntest = ["gone"]\ndefault = ["gone"]\n', "no feature 'gone'"),
        ("pixi.toml", '[workspace.pypi-options]\nindex-url = "x"\n', "pypi-options"),
        (
            "pixi.toml",
            '[feature.a]\nchannels = ["x"]\n[environments]\ndefault = ["a"]\n',
            "a has channels of its own",
        ),
        (
            "pyproject.toml",
            '[project]\ndependencies = ["Lamp"]\n[tool.uv.sources]\nlamp = { workspace = true }\n',
            "tool.uv.sources",
        ),
        ("pyproject.toml", '[project]\nname = "x"\nrequires-python = "3.11"\n', "Invalid specifier"),
        ("pyproject.toml", '[tool.poetry.dependencies]\nlamp = "1"\n', "neither"),
    ],
)
def test_manifest_that_cant_be_solved_is_refused_in_a_sentence(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ImagesyncError) as caught:
        read(tmp_path, name, text)
    assert message in caught.value.message
    assert caught.value.hint
    assert "word" not in caught.value.message
