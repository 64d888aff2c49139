"""Where packages come from in projects of uv, pixi, poetry and PDM, and that no login is shown."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.errors import ScanError
from imagesync.indexes.pypi.index_configuration import Binding, IndexConfiguration
from imagesync.indexes.pypi.project_configuration import read_index_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from tests.commands import BIN
from tests.host_platform import NEEDS_OWN_SYSTEM

LINUX = {
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "python_version": "3.12",
    "platform_system": "Linux",
}
CORP = "https://corp.example.com/simple"
CPU = "https://wheels.example.com/cpu"
WORD = "hunter2/"

Read = Callable[..., IndexConfiguration]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with an environment in ``.venv``."""
    root = tmp_path / "project"
    (root / ".venv").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    return root


@pytest.fixture
def read(project: Path, tmp_path: Path) -> Read:
    """Write files below the project, and return what is configured there."""

    def reading(
        files: Mapping[str, str], *, prefix: str = ".venv", cwd: str = ".", **environ: str
    ) -> IndexConfiguration:
        for name, text in files.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        environ = {"HOME": str(tmp_path / "home"), "PIP_CONFIG_FILE": os.devnull, "PATH": "/bin", **environ}
        return read_index_configuration(
            project / prefix, environ, cwd=project / cwd, markers=LINUX, platform="linux"
        )

    return reading


def bound(found: IndexConfiguration) -> dict[str, tuple[str, ...]]:
    return {binding.package: binding.urls for binding in found.bound}


def test_pip_configuration_precedes_uvs_outside_of_a_project(read: Read, tmp_path: Path) -> None:
    environ = {
        "UV_DEFAULT_INDEX": "https://main.example.com/simple",
        "UV_INDEX": f"corp-py={CORP} https://plain.example.com/simple",
        "UV_EXTRA_INDEX_URL": "https://extra.example.com/simple",
        "UV_INDEX_CORP_PY_USERNAME": "me",
        "UV_INDEX_CORP_PY_PASSWORD": WORD,
        "UV_FIND_LINKS": "/a,/b",
    }
    found = read({}, **environ)
    assert found.index_url == "https://main.example.com/simple"
    assert found.extra_index_urls == (
        "https://me:hunter2%2F@corp.example.com/simple",
        "https://plain.example.com/simple",
        "https://extra.example.com/simple",
    )
    assert found.find_links == ("/a", "/b")
    found = read({}, **environ, PIP_INDEX_URL="https://pips.example.com/simple")
    assert (found.tool, found.index_url, found.extra_index_urls) == (
        "pip",
        "https://pips.example.com/simple",
        (),
    )
    user = tmp_path / "home" / ".config" / "uv" / "uv.toml"
    user.parent.mkdir(parents=True)
    user.write_text(f'[[index]]\nurl = "{CORP}"\n')
    assert read({}).extra_index_urls == (CORP,)


def test_pip_configuration_is_ignored_in_a_uv_project(read: Read) -> None:
    text = f'[[tool.uv.index]]\nname = "corp"\nurl = "{CORP}"\n'
    found = read({"pyproject.toml": text}, PIP_INDEX_URL="https://pips.example.com/simple")
    assert (found.tool, found.index_url, found.extra_index_urls) == ("uv", None, (CORP,))
    assert not found.no_index
    assert read({}, PIP_NO_INDEX="1").no_index, "which is how one asks for nothing to be asked"
    assert found.strategy == "first-index"
    assert "pyproject.toml" in found.source


def test_uv_indexes_come_from_variables_project_user_and_system(read: Read, tmp_path: Path) -> None:
    for place, url in (("home/.config/uv", "user"), ("etc/uv", "system")):
        path = tmp_path / place / "uv.toml"
        path.parent.mkdir(parents=True)
        path.write_text(
            f'index-strategy = "unsafe-best-match"\n[[index]]\nurl = "https://{url}.example.com"\n'
            'default = true\n[[index]]\nname = "same"\nurl = "https://hidden.example.com"\n'
        )
    text = (
        "[tool.uv]\nno-build = true\nfind-links = ['wheels']\nallow-insecure-host = ['corp.example.com']\n"
        f'[[tool.uv.index]]\nname = "corp"\nurl = "{CORP}"\n'
        'ignore-error-codes = [403]\nauthenticate = "always"\n'
        '[[tool.uv.index]]\nname = "cpu"\nurl = "https://cpu.example.com"\nexplicit = true\n'
        '[[tool.uv.index]]\nname = "same"\nurl = "https://same.example.com"\n'
    )
    found = read(
        {"pyproject.toml": text, "wheels/x": ""},
        UV_INDEX="https://first.example.com",
        XDG_CONFIG_DIRS=str(tmp_path / "etc"),
    )
    assert found.extra_index_urls == ("https://first.example.com", CORP, "https://same.example.com")
    assert found.index_url == "https://user.example.com"
    assert found.strategy == "unsafe-best-match"
    assert found.options[CORP].ignore_error_codes == (403,)
    assert found.options[CORP].authenticate == "always"
    assert [Path(entry).name for entry in found.find_links] == ["wheels"]
    assert found.trusted_hosts == ("corp.example.com",)
    assert found.passed_on == {"no-build": True}


def test_strategy_bindings_and_restrictions_decide_which_file_is_taken() -> None:
    url = "https://{}corp.example.com/simple"
    plain = IndexConfiguration(index_url=url.format(""))
    others = [
        replace(plain, strategy="first-index"),
        replace(plain, no_index=True),
        replace(plain, find_links=("/wheels",)),
        replace(plain, bound=(Binding("torch", (url.format(""),)),)),
        replace(plain, bound=(Binding("torch*", (url.format(""),)),)),
        replace(plain, passed_on={"no-binary": True}),
    ]
    assert len({json.dumps(each.file_choice) for each in (plain, *others)}) == 7
    secret = replace(
        plain, find_links=(url.format("me:secret@"),), bound=(Binding("torch", (url.format("me:secret@"),)),)
    )
    assert "secret" not in json.dumps(secret.file_choice)


def test_uv_toml_replaces_the_table_but_not_the_sources(read: Read) -> None:
    text = (
        f'[tool.uv.sources]\ntorch = {{ index = "cpu" }}\n[[tool.uv.index]]\nname = "corp"\nurl = "{CORP}"\n'
    )
    own = f'[[index]]\nname = "cpu"\nurl = "{CPU}"\nexplicit = true\n'
    found = read({"pyproject.toml": text, "uv.toml": own})
    assert found.extra_index_urls == ()
    assert bound(found) == {"torch": (CPU,)}
    assert "uv.toml" in found.source


def test_uv_sources_are_chosen_by_the_markers_of_the_image(read: Read) -> None:
    text = f"""
[[tool.uv.index]]
name = "cpu"
url = "{CPU}"
explicit = true
[[tool.uv.index]]
name = "corp"
url = "{CORP}"
explicit = true
[tool.uv.sources]
Torch_Vision = [
    {{ index = "corp", marker = "sys_platform == 'darwin'" }},
    {{ index = "cpu", marker = "sys_platform == 'linux'" }},
]
only-mac = {{ index = "corp", marker = "sys_platform == 'darwin'" }}
by-extra = [{{ index = "cpu", extra = "cpu" }}, {{ index = "corp", extra = "cu128" }}]
mine = {{ path = "../mine" }}
"""
    found = read({"pyproject.toml": text})
    assert bound(found) == {"torch-vision": (CPU,), "by-extra": (CPU, CORP)}
    choices = {binding.package: binding.choices for binding in found.bound}
    assert choices["by-extra"] == (CPU, CORP, None)
    assert choices["torch-vision"] == (CPU,)


def test_sources_of_the_members_of_a_uv_workspace(read: Read) -> None:
    root = '[tool.uv.workspace]\nmembers = ["parts/*"]\nexclude = ["parts/old"]\n'
    member = f'[tool.uv.sources]\n%s = {{ index = "cpu" }}\n[[tool.uv.index]]\nname = "cpu"\nurl = "{CPU}"\n'
    files = {
        "pyproject.toml": root,
        "parts/one/pyproject.toml": member % "torch",
        "parts/old/pyproject.toml": member % "jax",
    }
    assert bound(read(files)) == {"torch": (CPU,)}
    assert bound(read(files, prefix="../elsewhere", cwd="parts/one")) == {"torch": (CPU,)}


def test_login_of_uv_auth_opens_an_index(read: Read, tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [BIN / "uv", "auth", "login", CORP, "--username", "me", "--password", "-"]
    environ = {"HOME": str(home), "USERPROFILE": str(home), "PATH": "/bin"}
    subprocess.run(command, env=environ, input=WORD, text=True, check=True, capture_output=True)
    text = f'[[tool.uv.index]]\nname = "corp"\nurl = "{CORP}"\n[[tool.uv.index]]\nurl = "https://b.example.com"\n'
    found = read({"pyproject.toml": text})
    assert found.extra_index_urls == (
        "https://me:hunter2%2F@corp.example.com/simple",
        "https://b.example.com",
    )
    access = make_access(found, environ)
    assert access.authentication("https://corp.example.com/files/a.whl") == ("me", WORD)
    assert WORD.strip("/") not in repr(found) + repr(access) + repr(found.bound)


def test_bound_index_gets_the_login_of_its_variables(read: Read) -> None:
    text = (
        f'[tool.uv.sources]\ntorch = {{ index = "my.cpu" }}\n'
        f'[[tool.uv.index]]\nname = "my.cpu"\nurl = "{CPU}"\nexplicit = true\n'
    )
    found = read({"pyproject.toml": text}, UV_INDEX_MY_CPU_USERNAME="me", UV_INDEX_MY_CPU_PASSWORD=WORD)
    assert bound(found) == {"torch": ("https://me:hunter2%2F@wheels.example.com/cpu",)}
    assert found.public_urls == ()
    assert found.bound_urls == (CPU,)
    access = make_access(found, {"PATH": "/bin"})
    assert access.authentication(f"{CPU}/torch.whl") == ("me", WORD)
    assert "hunter2" not in repr(found) + repr(access)


def test_pixi_options_come_from_the_features_of_the_environment(read: Read, project: Path) -> None:
    manifest = f"""
[pypi-options]
index-url = "https://main.example.com/simple"
extra-index-urls = ["{CORP}"]
find-links = [{{ path = "wheels" }}, {{ url = "https://links.example.com" }}]
index-strategy = "unsafe-best-match"
[pypi-dependencies]
torch = {{ version = "*", index = "{CORP}" }}
other = "*"
[feature.cpu.pypi-dependencies]
Torch = {{ version = "*", index = "{CPU}" }}
[feature.unused.pypi-options]
index-url = "https://unused.example.com"
[environments]
train = ["cpu"]
alone = {{ features = ["cpu"], no-default-feature = true }}
"""
    config = '[pypi-config]\nkeyring-provider = "subprocess"\n'
    files = {"pixi.toml": manifest, ".pixi/config.toml": config}
    found = read(files, prefix=".pixi/envs/default")
    assert (found.tool, found.index_url) == ("pixi", "https://main.example.com/simple")
    assert found.extra_index_urls == (CORP,)
    assert found.find_links == (str(project / "wheels"), "https://links.example.com")
    assert found.strategy == "unsafe-best-match"
    assert found.keyring_provider == "subprocess"
    assert bound(found) == {"torch": (CORP,)}
    assert bound(read({}, prefix=".pixi/envs/train")) == {"torch": (CPU,)}
    alone = read({}, prefix=".pixi/envs/alone")
    assert (alone.index_url, bound(alone)) == (None, {"torch": (CPU,)})


def test_pixi_options_are_read_from_pyproject(read: Read) -> None:
    text = f'[tool.pixi.pypi-options]\nindex-url = "{CORP}"\n[tool.uv]\ndev-dependencies = []\n'
    assert read({"pyproject.toml": text}, prefix=".pixi/envs/default").index_url == CORP
    assert read({}).tool == "uv"


POETRY = f"""
[tool.poetry.dependencies]
python = "^3.12"
torch = {{ version = "*", source = "cpu" }}
both = [{{ version = "1", source = "corp" }}, {{ version = "2", source = "cpu" }}]
[tool.poetry.group.dev.dependencies]
Dev_Tool = {{ version = "*", source = "PyPI" }}
[[tool.poetry.source]]
name = "corp"
url = "{CORP}"
priority = "%s"
[[tool.poetry.source]]
name = "cpu"
url = "{CPU}"
priority = "explicit"
"""


def test_poetry_sources_are_ordered_by_priority(read: Read) -> None:
    found = read({"pyproject.toml": POETRY % "supplemental"})
    assert (found.tool, found.extra_index_urls, found.index_url) == (
        "poetry",
        ("https://pypi.org/simple",),
        CORP,
    )
    assert found.strategy == "unsafe-first-match"
    assert bound(found) == {
        "torch": (CPU,),
        "both": (CORP, CPU),
        "dev-tool": ("https://pypi.org/simple",),
    }
    found = read({"pyproject.toml": POETRY % "primary"})
    assert (found.extra_index_urls, found.index_url) == ((), CORP)


def test_poetry_logins_come_from_auth_toml_variables_and_keyring(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "home" / ".config" / "pypoetry" / "auth.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'[http-basic.corp]\nusername = "me"\npassword = "{WORD}"\n[http-basic.cpu]\nusername = "you"\n'
    )
    found = read({"pyproject.toml": POETRY % "primary"})
    assert found.index_url == "https://me:hunter2%2F@corp.example.com/simple"
    assert bound(found)["torch"] == ("https://you@wheels.example.com/cpu",)
    (credential,) = (c for c in make_access(found, {"PATH": "/bin"}).credentials if c.url == CPU)
    assert (credential.username, credential.keyring_services) == ("you", ("poetry-repository-cpu",))
    found = read({}, POETRY_HTTP_BASIC_CPU_USERNAME="us", POETRY_HTTP_BASIC_CPU_PASSWORD="by/variable")
    assert bound(found)["torch"] == ("https://us:by%2Fvariable@wheels.example.com/cpu",)
    assert "hunter2" not in repr(found)
    assert "variable" not in repr(found)


def test_pdm_sources_get_their_logins(read: Read, tmp_path: Path) -> None:
    text = f"""
[[tool.pdm.source]]
name = "corp"
url = "https://${{CORP_USER}}:${{CORP_PASSWORD}}@corp.example.com/simple"
verify_ssl = false
[[tool.pdm.source]]
name = "cpu"
url = "{CPU}"
include_packages = ["torch", "Torch-*"]
exclude_packages = ["secret"]
[[tool.pdm.source]]
name = "files"
type = "find_links"
url = "./wheels"
"""
    path = tmp_path / "home" / ".config" / "pdm" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'[pypi.cpu]\nusername = "me"\npassword = "{WORD}"\n[pypi.more]\nurl = "https://more.example.com"\n'
    )
    found = read({"pyproject.toml": text}, CORP_USER="us", CORP_PASSWORD="a/b")
    corp, cpu = "https://us:a%2Fb@corp.example.com/simple", "https://me:hunter2%2F@wheels.example.com/cpu"
    assert found.tool == "pdm"
    assert found.extra_index_urls == ("https://pypi.org/simple", corp, cpu)
    assert found.index_url == "https://more.example.com"
    assert [Path(entry).name for entry in found.find_links] == ["wheels"]
    assert found.trusted_hosts == ("corp.example.com",)
    assert bound(found) == {
        "torch": (cpu,),
        "torch-*": (cpu,),
        "secret": ("https://pypi.org/simple", corp, "https://more.example.com"),
    }
    text += f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{CORP}"\n'
    text += "[tool.pdm.resolution]\nrespect-source-order = true\n"
    found = read({"pyproject.toml": text})
    assert "https://pypi.org/simple" not in (*found.extra_index_urls, found.index_url)
    assert found.strategy == "unsafe-first-match"


@pytest.mark.parametrize(
    ("lock", "tool"), [("uv.lock", "uv"), ("poetry.lock", "poetry"), ("pdm.lock", "pdm"), ("", "uv")]
)
def test_lock_file_decides_the_tool(read: Read, lock: str, tool: str) -> None:
    text = "[tool.pdm]\n[tool.poetry]\n[tool.uv]\n"
    files = {"pyproject.toml": text} | ({lock: ""} if lock else {})
    assert read(files).tool == tool


def test_project_is_searched_up_to_the_repository_root(read: Read) -> None:
    files = {"pyproject.toml": "[tool.uv]\n", "src/deep/x.py": "", "inner/.git/HEAD": "", "inner/a/x": ""}
    assert read(files, prefix="../elsewhere", cwd="src/deep").tool == "uv"
    assert read(files, prefix="../elsewhere", cwd="inner/a").tool == "pip"


def test_conda_environment_elsewhere_is_not_uvs(read: Read) -> None:
    files = {"pyproject.toml": "[tool.uv]\n[tool.poetry]\n", "../conda/conda-meta/history": ""}
    assert read(files, prefix="../conda").tool == "poetry"
    assert read({"uv.lock": "", ".venv/conda-meta/history": ""}).tool == "uv"


@NEEDS_OWN_SYSTEM
def test_keyring_gives_user_name_and_password_where_a_tool_asks_for_both(read: Read, tmp_path: Path) -> None:
    keyring = tmp_path / "bin" / "keyring"
    keyring.parent.mkdir()
    keyring.write_text(
        f'#!/bin/sh\n[ "$*" = "get --mode creds -- {CORP}" ] && printf "me\\n{WORD}\\n" && exit 0\nexit 1\n'
    )
    keyring.chmod(0o700)
    text = (
        '[tool.uv]\nkeyring-provider = "subprocess"\n'
        f'[[tool.uv.index]]\nurl = "{CORP}"\nauthenticate = "%s"\n'
    )
    file = "https://corp.example.com/files/a.whl"
    found = read({"pyproject.toml": text % "always"})
    assert make_access(found, {"PATH": str(keyring.parent)}).ask_keyring(file) == ("me", WORD)
    found = read({"pyproject.toml": text % "auto"})
    assert make_access(found, {"PATH": str(keyring.parent)}).ask_keyring(file) is None


def test_invalid_file_is_named_without_its_content(read: Read) -> None:
    with pytest.raises(ScanError) as caught:
        read({"pyproject.toml": '[tool.uv]\nindex-url = "https://me:hunter2@example.com\n'})
    assert "pyproject.toml" in caught.value.message
    assert "hunter2" not in str(caught.value)
