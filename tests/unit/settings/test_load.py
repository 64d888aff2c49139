"""Settings: where each value comes from, and what is said about a wrong one."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import imagesync
from imagesync.core.files import parse_toml
from imagesync.errors import UsageError
from imagesync.settings.keys import KEYS
from imagesync.settings.load import load_settings
from imagesync.settings.model import Settings


def load(cwd: Path, environ: dict[str, str] | None = None, **flags: object) -> Settings:
    return load_settings(cwd=cwd, environ=environ or {}, flags=flags)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert load(tmp_path) == Settings()
    assert load(tmp_path).origins == {}


def test_each_place_wins_over_the_weaker_ones(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.imagesync]\nprofile = "none"\nbase = "a:1"\nrepository = "a"\nresolver = "pip-tools"\n'
    )
    (tmp_path / "imagesync.toml").write_text('profile = "ray"\nbase = "b:1"\nrepository = "b"\n')
    settings = load(
        tmp_path, {"IMAGESYNC_PROFILE": "auto", "IMAGESYNC_BASE": "c:1"}, base="d:1", profile=None
    )
    assert (settings.base, settings.profile, settings.repository) == ("d:1", "auto", "b")
    assert settings.resolver == "pip-tools"
    assert settings.origins == {
        "base": "--base",
        "profile": "IMAGESYNC_PROFILE",
        "repository": str(tmp_path / "imagesync.toml"),
        "resolver": str(tmp_path / "pyproject.toml"),
    }


def test_levels_are_put_together_and_lists_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "imagesync.toml").write_text(
        'ignore = ["black"]\n[levels]\nPandas = "exact"\nscikit_learn = "exact"\n'
    )
    settings = load(
        tmp_path,
        {"IMAGESYNC_LEVELS": "pandas=compatible, nvidia-*=ignore"},
        ignore=("ruff",),
        levels=("torch=exact",),
    )
    assert settings.ignore == ("ruff",)
    assert settings.levels == {
        "pandas": "compatible",
        "scikit-learn": "exact",
        "nvidia-*": "ignore",
        "torch": "exact",
    }


def test_every_key_can_be_written_with_dashes_and_underscores(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "imagesync.toml").write_text(
        'allow_inconsistent = true\ncache-dir = "c"\ntemplates = "t"\npython = "base"\n'
        'add = { pip = ["lz4>=4"], conda = ["r-base"] }\napt = ["libstdc++6", "git=1:2.39.5-0+deb12u2"]\n'
    )
    settings = load(tmp_path)
    assert settings.allow_inconsistent
    assert settings.cache_dir == tmp_path / "c"
    assert settings.templates == tmp_path / "t"
    assert (settings.add_pip, settings.add_conda) == (("lz4>=4",), ("r-base",))
    assert settings.apt == ("libstdc++6", "git=1:2.39.5-0+deb12u2")


def test_paths_in_files_are_relative_to_the_file(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.imagesync]\ncache-dir = "cache"\n')
    assert load(below).cache_dir == tmp_path / "cache"
    assert load(below, {"IMAGESYNC_CACHE_DIR": "mine"}).cache_dir == below / "mine"
    assert load(below, cache_dir=Path("/abs")).cache_dir == Path("/abs")


def test_code_is_a_list_of_paths_relative_to_where_it_is_written(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "imagesync.toml").write_text('code = ["lib", "/srv/code"]\ncode-max-size = "1.5 GB"\n')
    settings = load(below)
    assert settings.code == (tmp_path / "lib", Path("/srv/code"))
    assert settings.code_max_size == 1_500_000_000
    assert load(below, {"IMAGESYNC_CODE": f"a b{os.pathsep}c"}).code == (below / "a b", below / "c")
    assert load(below, code=(Path("helper.py"),)).code == (below / "helper.py",)
    (tmp_path / "imagesync.toml").write_text("code_max_size = 2000\n")
    assert load(below).code_max_size == 2000


def test_the_search_ends_at_the_repository_and_at_home(tmp_path: Path) -> None:
    (tmp_path / "imagesync.toml").write_text("strict = true\n")
    repository = tmp_path / "repository"
    (repository / "src").mkdir(parents=True)
    assert load(repository / "src").strict
    home = {"HOME": str(repository), "USERPROFILE": str(repository)}
    assert not load(repository / "src", home).strict
    (repository / ".git").mkdir()
    assert not load(repository / "src").strict


def test_a_pyproject_that_says_nothing_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "imagesync.toml").write_text("strict = true\n")
    below = tmp_path / "member"
    below.mkdir()
    (below / "pyproject.toml").write_text('[project]\nname = "imagesync-plugin"\n')
    assert load(below).strict


def test_no_isolation_is_a_list_or_auto(tmp_path: Path) -> None:
    (tmp_path / "imagesync.toml").write_text('no-isolation = "auto"\n')
    assert load(tmp_path).no_isolation == ("auto",)
    assert load(tmp_path, {"IMAGESYNC_NO_ISOLATION": "auto mine"}).no_isolation == ("auto", "mine")
    (tmp_path / "imagesync.toml").write_text('no-isolation = "mine"\n')
    with pytest.raises(UsageError, match="a list"):
        load(tmp_path)


def test_variables_hold_lists(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        {
            "IMAGESYNC_IGNORE": "black, ruff jupyterlab*",
            "IMAGESYNC_APT": "git libgomp1",
            "IMAGESYNC_NO_ISOLATION": "My_Extension other",
            "IMAGESYNC_ADD_PIP": "torch >= 2, < 3 dask[array,dataframe],lz4",
            "IMAGESYNC_STRICT": "Yes",
            "IMAGESYNC_ONLY": "",
        },
    )
    assert settings.ignore == ("black", "ruff", "jupyterlab*")
    assert settings.apt == ("git", "libgomp1")
    assert settings.no_isolation == ("My_Extension", "other")
    assert settings.add_pip == ("torch >= 2, < 3", "dask[array,dataframe]", "lz4")
    assert settings.strict
    assert settings.only == ()
    assert not load(tmp_path, {"IMAGESYNC_STRICT": "0"}).strict


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strickt = true", "Did you mean 'strict'?"),
        ('strict = "yes"', "true or false"),
        ('ignore = "black"', "a list of texts"),
        ("ignore = [1]", "a package's name"),
        ('only = ["torch==2.1"]', "a package's name without a version"),
        ('levels = ["a"]', "critical, exact"),
        ('levels = { a = "exakt" }', "critical, exact"),
        ("levels = { a = 1 }", "critical, exact"),
        ("levels = 1", "a table"),
        ('add = ["lz4"]', "isn't a table"),
        ('add = { pipp = ["lz4"] }', "Did you mean 'add.pip'?"),
        ("profile = 1", "text"),
        ('profile = ""', "text that isn't empty"),
        ('resolver = "poetry"', "'uv' or 'pip-tools'"),
        ('python = "pyenv"', "'base'"),
        ('templates = "nowhere"', "doesn't exist"),
        ("cache-dir = 3", "a folder's path"),
        ('code = "."', "paths of folders and modules"),
        ("code = [1]", "paths of folders and modules"),
        ('code-max-size = "much"', "a size"),
        ("code-max-size = true", "a size"),
    ],
)
@pytest.mark.parametrize("name", ["imagesync.toml", "pyproject.toml"])
def test_a_wrong_value_names_file_and_key(tmp_path: Path, name: str, text: str, said: str) -> None:
    table = "" if name == "imagesync.toml" else "[tool.imagesync]\n"
    (tmp_path / name).write_text(f"{table}{text}\n")
    with pytest.raises(UsageError) as caught:
        load(tmp_path)
    assert caught.value.exit_code == 2
    assert str(tmp_path / name) in caught.value.message
    assert text.split(" ", 1)[0] in str(caught.value)
    assert re.search(said.replace("?", r"\?"), str(caught.value))


@pytest.mark.parametrize(
    "package",
    [
        "git; rm -rf /",
        "git-",
        "git:amd64-",
        "git/bookworm-",
        "git=1-",
        "-o",
        "Git",
        "git=$(id)",
        "git=`id`",
        "git\n",
        "git=1 2",
        "g",
        "git &",
        "--yes",
        "git=",
    ],
)
def test_what_is_no_debian_package_is_refused(tmp_path: Path, package: str) -> None:
    with pytest.raises(UsageError, match="--apt"):
        load(tmp_path, apt=(package,))


@pytest.mark.parametrize(
    "base",
    [
        "ubuntu",
        "ubuntu:24.04",
        "localhost:5000/team/base:v1_2.3",
        "registry.example.com/a/b__c/d---e@sha256:" + "0a" * 32,
        "[fd00::1]:5000/base:1",
        "Registry.example.com/base",
    ],
)
def test_references_that_the_grammar_knows(tmp_path: Path, base: str) -> None:
    assert load(tmp_path, base=base).base == base


@pytest.mark.parametrize(
    "base",
    [
        "",
        "Ubuntu",
        "ubuntu:",
        "ubuntu:24.04\nRUN id",
        "ubuntu --flag",
        "-x",
        "a//b",
        "a:b:c",
        "https://a/b",
        "a@sha256:12",
        "a" * 256,
    ],
)
def test_references_that_it_does_not(tmp_path: Path, base: str) -> None:
    with pytest.raises(UsageError, match="--base"):
        load(tmp_path, base=base)


@pytest.mark.parametrize("repository", ["imagesync:latest", "Team/Image", "a@sha256:" + "0" * 64, "a b"])
def test_a_repository_has_no_tag(tmp_path: Path, repository: str) -> None:
    with pytest.raises(UsageError, match="IMAGESYNC_REPOSITORY"):
        load(tmp_path, {"IMAGESYNC_REPOSITORY": repository})


@pytest.mark.parametrize(("variable", "value"), [("STRICT", "maybe"), ("LEVELS", "pandas"), ("APT", "a;b")])
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"IMAGESYNC_{variable}"):
        load(tmp_path, {f"IMAGESYNC_{variable}": value})


def test_an_unknown_flag_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="strickt"):
        load(tmp_path, strickt=True)


def test_a_password_in_a_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, base="https://me:secret@registry.example.com/base")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"strict = \n", "line 1"), (b"a = 'imagesync \xff'\n", "UTF-8|utf-8"), (b"x = [\n1,\n", "line|end")],
)
def test_broken_toml_says_where(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "imagesync.toml").write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        load(tmp_path)
    assert str(tmp_path / "imagesync.toml") in caught.value.message


def test_tool_imagesync_must_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nimagesync = 1\n")
    with pytest.raises(UsageError, match="isn't a table"):
        load(tmp_path)


def test_every_field_has_a_key_and_every_key_a_field() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {"origins"}
    assert {key.field for key in KEYS} == fields


def test_the_template_parses_and_names_every_key(tmp_path: Path) -> None:
    template = (Path(imagesync.__file__).parent / "settings_template.toml").read_text(encoding="utf-8")
    assert parse_toml(template) == {"tool": {"imagesync": {}}}
    # A setting that is commented out has an equals sign or a bracket; a sentence has neither.
    setting = re.compile(r"^# (?=[a-z-]+ = |\[tool)", re.MULTILINE)
    uncommented = setting.sub("", template)
    table = parse_toml(uncommented)["tool"]["imagesync"]
    names = {name for name in table if name != "add"} | {f"add.{name}" for name in table["add"]}
    assert names == {key.name for key in KEYS}
    (tmp_path / "pyproject.toml").write_text(uncommented)
    (tmp_path / table["templates"]).mkdir()
    settings = load(tmp_path)
    for name in (
        "strict",
        "profile",
        "allow_inconsistent",
        "base",
        "code_max_size",
        "python_source",
        "repository",
        "resolver",
        "solver",
        "conda_installer",
    ):
        assert getattr(settings, name) == getattr(Settings(), name), name


def test_without_a_file_no_parser_is_imported(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    code = """
import sys
before = set(sys.modules)  # coverage imports a parser
from pathlib import Path
from imagesync.settings.load import load_settings
load_settings(cwd=Path.cwd(), environ={}, flags={})
heavy = {"tomllib", "tomli", "difflib", "packaging.requirements", "packaging.specifiers"}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_image_options_in_a_file_and_in_variables(tmp_path: Path) -> None:
    (tmp_path / "imagesync.toml").write_text(
        'cmd = ["python", "-m", "weather"]\nrun = ["""\nuseradd app\ntrue"""]\n'
        'user = "app"\nworkdir = "/srv"\n'
        '[env]\nOMP_NUM_THREADS = 1\nA = "x=y z"\n[labels]\n"com.example.team" = "weather"\n'
        '[files]\n"odbc.ini" = "/etc/odbc.ini"\n'
    )
    settings = load(tmp_path)
    assert settings.cmd == ("python", "-m", "weather")
    assert settings.run == ("useradd app\ntrue",)
    assert (settings.user, settings.workdir) == ("app", "/srv")
    assert settings.env == {"OMP_NUM_THREADS": "1", "A": "x=y z"}
    assert settings.labels == {"com.example.team": "weather"}
    assert settings.files == {tmp_path / "odbc.ini": "/etc/odbc.ini"}
    settings = load(
        tmp_path,
        {
            "IMAGESYNC_ENV": "A='two words' B=",
            "IMAGESYNC_CMD": "sh -c 'echo hi'",
            "IMAGESYNC_RUN": "useradd app\ntrue\n",
            "IMAGESYNC_FILES": "'my data'=/srv/data",
        },
    )
    assert settings.env == {"OMP_NUM_THREADS": "1", "A": "two words", "B": ""}
    assert settings.cmd == ("sh", "-c", "echo hi")
    assert settings.run == ("useradd app", "true")
    assert settings.files[tmp_path / "my data"] == "/srv/data"


@pytest.mark.parametrize(
    "line",
    [
        'env = { PATH = "/bin" }',
        'env = { USER = "me" }',
        'env = { CONDA_DEFAULT_ENV = "base" }',
        'env = { "a b" = "1" }',
        'env = { INDEX = "https://me:secret@example.com/simple" }',
        "env = { A = true }",
        'env = "A=1"',
        'labels = { "dev.imagesync.version" = "1" }',
        'cmd = "python -m weather"',
        'run = [" "]',
        'run = ["curl https://me:secret@example.com/x"]',
        'user = "-u"',
        'workdir = "srv"',
        'files = { a = "etc/a" }',
        'files = { a = "/opt/env/a" }',
        'files = { a = "//opt/env/lib/x" }',
        'files = { a = "/opt/./env/x" }',
        'files = { a = "//" }',
        'files = { a = "/" }',
        'files = ["a"]',
    ],
)
def test_image_options_that_an_image_cannot_have_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "imagesync.toml").write_text(line)
    with pytest.raises(UsageError) as refused:
        load(tmp_path)
    assert "imagesync.toml" in refused.value.message
    assert "secret" not in refused.value.message


def test_variable_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="IMAGESYNC_CMD"):
        load(tmp_path, {"IMAGESYNC_CMD": "sh -c 'echo"})
