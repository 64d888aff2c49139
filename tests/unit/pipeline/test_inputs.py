"""The inputs of a build: what their hashes cover, and which findings they report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from imagesync.core.platforms import LINUX_AMD64
from imagesync.errors import BaseImageError, UnsolvableError, UsageError
from imagesync.image.base import check_interpreter
from imagesync.image_layout import BaseImage
from imagesync.lock.lock import Target
from imagesync.lock.lockfile.prepare import check_target
from imagesync.pipeline.context import Context
from imagesync.pipeline.environment_hash import BaseInputs
from imagesync.pipeline.environment_inputs import EnvironmentInputs, environment_inputs
from imagesync.pipeline.environment_plan import plan_environment
from imagesync.pipeline.lock_file_inputs import LockFileInputs, lock_file_inputs
from imagesync.scan.environment import Environment, Interpreter, Package, Source
from imagesync.settings.model import Settings
from tests.progress import RecordedLines

PYTHON = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311", "/env/bin/python", "/env", "/usr")
TOOLZ = Package(name=canonicalize_name("toolz"), version="1.0.0", location="/env/site-packages")
ENVIRONMENT = Environment(PYTHON, (TOOLZ,))
BASE = BaseInputs("sha256:" + "1" * 64, "sha256:" + "2" * 64, "3.11.2")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Settings(profile="none", cache_dir=tmp_path / "cache"))


@pytest.fixture
def inputs(context: Context) -> EnvironmentInputs:
    return environment_inputs(ENVIRONMENT, context)


def test_source_digests_of_a_build_replace_the_known_ones(inputs: EnvironmentInputs) -> None:
    built = inputs.with_sources({TOOLZ.name: "sha256:" + "3" * 64})
    assert built.input_hash(BASE) != inputs.input_hash(BASE)


def test_environment_hash_is_known_with_the_deviation_of_the_interpreter(inputs: EnvironmentInputs) -> None:
    known = inputs.known_hash(BASE)
    assert known is not None
    (python,) = known.deviations
    assert (python["name"], python["local"], python["locked"]) == ("python", "3.11.7", "3.11.2")
    same = inputs.known_hash(BASE._replace(python_version="3.11.7"))
    assert same is not None
    assert same.deviations == ()


def test_environment_hash_of_contradicting_packages_is_known_once_they_are_accepted(context: Context) -> None:
    needy = Package(canonicalize_name("needy"), "1.0", location="/env/site-packages", requires=("toolz>2",))
    environment = Environment(PYTHON, (needy, TOOLZ))
    assert environment_inputs(environment, context).known_hash(BASE) is None
    accepting = replace(context, settings=replace(context.settings, allow_inconsistent=True))
    assert environment_inputs(environment, accepting).known_hash(BASE) is not None


def test_pythonpath_is_searched_for_loose_code_only_if_an_interpreter_was_run(
    context: Context, tmp_path: Path
) -> None:
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "hedge.py").write_text("kind = 'box'\n")
    context = replace(context, environ={"PYTHONPATH": str(folder)})
    found = [finding.code for finding in plan_environment(ENVIRONMENT, context).findings]
    assert "loose-pythonpath" in found
    by_files = replace(ENVIRONMENT, python=replace(PYTHON, executable=""))
    found = [finding.code for finding in plan_environment(by_files, context).findings]
    assert "loose-pythonpath" not in found


def test_loose_modules_are_named_before_an_image_is_looked_up(context: Context, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "env" / "site-packages", tmp_path / "elsewhere"
    for folder in (site, elsewhere):
        folder.mkdir(parents=True)
        (folder / f"of_{folder.name[:4]}.py").write_text("x = 1\n")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    python = replace(PYTHON, prefix=str(tmp_path / "env"))
    environment = Environment(python, (), path=(str(site), str(elsewhere)))
    lines = RecordedLines()
    environment_inputs(environment, replace(context, progress=lines))
    assert [line.partition(" in ")[0] for line in lines.lines] == ["warning: of_site", "warning: of_else"]


def no_base() -> BaseImage:
    raise AssertionError("the lock file names its Python")


def locked(tmp_path: Path, content: bytes, **settings: object) -> LockFileInputs:
    path = tmp_path / "conda-lock.yml"
    path.write_bytes(content)
    chosen = Settings(cache_dir=tmp_path / "cache", **settings)  # type: ignore[arg-type]
    return lock_file_inputs(path, Context(chosen), base=no_base)


@pytest.mark.parametrize(("executable", "for_files"), [("", True), ("", False), ("/env/bin/python", True)])
def test_no_sdist_is_built_for_the_lock_of_a_folder(
    context: Context, executable: str, for_files: bool
) -> None:
    environment = replace(ENVIRONMENT, python=replace(PYTHON, executable=executable))
    sources = environment_inputs(environment, context).artifact_sources(for_files=for_files)
    assert sources.is_foreign is (for_files and not executable)
    hint = sources.with_hint(UnsolvableError("no wheel")).hint or ""
    assert ("--python PATH" in hint) is sources.is_foreign


def test_input_hash_of_a_lock_file_covers_its_lines_and_not_their_ends(tmp_path: Path) -> None:
    digest = locked(tmp_path, b"one\ntwo\n").input_hash(BASE)
    assert locked(tmp_path, b"one\r\ntwo\r\n").input_hash(BASE) == digest
    assert locked(tmp_path, b"one\nthree\n").input_hash(BASE) != digest


def test_input_hash_of_a_lock_file_covers_loose_code_strictness_and_the_base(tmp_path: Path) -> None:
    (tmp_path / "hedge.py").write_text("kind = 'box'\n")
    digests = {
        locked(tmp_path, b"one\n").input_hash(BASE),
        locked(tmp_path, b"one\n", strict=True).input_hash(BASE),
        locked(tmp_path, b"one\n", code=(tmp_path / "hedge.py",)).input_hash(BASE),
        locked(tmp_path, b"one\n").input_hash(BASE._replace(base_hash="sha256:" + "9" * 64)),
    }
    assert len(digests) == 4


def test_missing_lock_file_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.yml can't be read") as caught:
        lock_file_inputs(tmp_path / "missing.yml", Context(), base=no_base)
    assert "imagesync lock -o" in str(caught.value.hint)


def test_lock_warns_of_requirements_added_after_installation(context: Context, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    declared = '[project]\nname = "mine"\nversion = "1.0"\ndependencies = ["attrs>=20"]\n'
    (project / "pyproject.toml").write_text(declared)
    source = Source("directory", project.as_uri(), editable=True)
    mine = replace(TOOLZ, name=canonicalize_name("mine"), source=source)
    progress = RecordedLines()
    inputs = environment_inputs(Environment(PYTHON, (mine,)), replace(context, progress=progress))
    inputs.checked(for_lock=True)
    assert any("attrs" in text for text in progress.lines)


def test_sources_of_a_lock_file_are_remembered_and_the_file_is_not_read_again(tmp_path: Path) -> None:
    project = tmp_path / "mine"
    project.mkdir()
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1.0"\n')
    path = tmp_path / "pylock.toml"
    path.write_text(
        'lock-version = "1.0"\ncreated-by = "hand"\n'
        '[[packages]]\nname = "mine"\ndirectory = { path = "mine" }\n'
    )

    def inputs() -> LockFileInputs:
        base = BaseImage("b:1", "debian:12", "", "", "3.11.2", "/usr/bin/python3", (2, 36), "sha256:3")
        return lock_file_inputs(path, Context(Settings(cache_dir=tmp_path / "cache")), base=lambda: base)

    first, second = inputs(), inputs()
    digest = first.input_hash(BASE)
    assert second.input_hash(BASE) == digest
    assert ("lock_file" in vars(first), "lock_file" in vars(second)) == (True, False)
    (project / "mine.py").write_text("light = True\n")
    third = inputs()
    assert third.input_hash(BASE) != digest
    assert "lock_file" not in vars(third)


LOCKED = """\
version: 1
metadata:
  content_hash: {{linux-64: x}}
  channels: []
  platforms: [linux-64]
  sources: [environment.yml]
package:
- name: {name}
  version: '{version}'
  manager: conda
  platform: linux-64
  dependencies: {{}}
  url: https://conda.example.com/main/linux-64/{name}-{version}-h1_0.conda
  hash: {{md5: "{md5}", sha256: "{sha256}"}}
  category: main
  optional: false
"""


@pytest.mark.parametrize(("name", "version"), [("zlib", "1.3"), ("python", "3.12.1")])
def test_lock_of_conda_lock_fits_a_base_with_or_without_a_python_of_condas(
    name: str, version: str, context: Context, tmp_path: Path
) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text(LOCKED.format(name=name, version=version, md5="1" * 32, sha256="1" * 64))
    base = BaseImage("b:1", "debian:12", "", "", "3.11.2", "/usr/bin/python3", (2, 36), "sha256:3")
    inputs = lock_file_inputs(path, context, base=lambda: base)
    assert inputs.plan.python.version == (version if name == "python" else "3.11.2")
    check_interpreter(base, inputs.plan, subject=inputs.subject)
    lock = check_target(inputs.lock_file, base, Target(LINUX_AMD64, "3.11.2", (2, 36)))
    assert lock.target.python_version == inputs.plan.python.version
    assert not lock.deviations


def test_base_without_python_is_named_by_a_lock_file_that_depends_on_it(
    context: Context, tmp_path: Path
) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text('lock-version = "1.0"\ncreated-by = "hand"\npackages = []\n')
    base = BaseImage("b:1", "debian:12", "", "", "", "", (2, 36), "sha256:3")
    with pytest.raises(BaseImageError, match="Python of the base image debian:12, which has none"):
        _ = lock_file_inputs(path, context, base=lambda: base).lock_file


def test_lock_for_another_python_is_said_of_the_lock_file(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    head = json.dumps({"format": 1, "python": "3.12.1", "glibc": "2.39"})
    path.write_text(
        'lock-version = "1.0"\ncreated-by = "imagesync"\npackages = []\n'
        f"[tool.imagesync]\nimagesync = {json.dumps(head)}\n"
    )
    base = BaseImage("b:1", "debian:12", "", "", "3.11.2", "/usr/bin/python3", (2, 36), "sha256:3")
    inputs = lock_file_inputs(path, context, base=lambda: base)
    with pytest.raises(BaseImageError) as caught:
        check_interpreter(base, inputs.plan, subject=inputs.subject)
    assert caught.value.message == (
        f"The lock file {path} is for Python 3.12.1, and the base image debian:12 has 3.11.2."
    )
    assert "--base python:3.12-slim" in str(caught.value.hint)
    assert "lock again for Python 3.11" in str(caught.value.hint)
