"""Hostile values in files: none reaches a program as an option. docs/security.md has the list of calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesync.core.installation import module_command
from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.endpoint import find_endpoint
from imagesync.errors import LockError, ScanError, UnsolvableError, UsageError, WheelError
from imagesync.image.base import check_apt
from imagesync.indexes.conda.logins import _ask_keyring
from imagesync.indexes.pypi.access import Access, Credential
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.indexes.pypi.project_configuration import read_index_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.conda.conda_lock import _refuse_options
from imagesync.lock.conda.conda_program import find_conda
from imagesync.lock.lock import Target
from imagesync.lock.resolvers.pip_tools import PipToolsResolver
from imagesync.lock.resolvers.resolver import ResolutionRequest
from imagesync.lock.resolvers.uv import UvResolver
from imagesync.plan.make_plan import make_plan
from imagesync.registry.login import registry_credentials
from imagesync.scan.scan import scan
from imagesync.settings.load import load_settings
from imagesync.settings.model import Settings
from imagesync.wheels.build_environments import BuildRequest
from imagesync.wheels.build_indexes import BuildIndexes
from imagesync.wheels.build_requirements import can_find_module, installed_requirements
from imagesync.wheels.build_wheel import build_wheel
from tests.commands import clean_environ
from tests.progress import RecordedLines


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def install(prefix: Path, version: str) -> None:
    folder = prefix / "lib/python3.11/site-packages" / "odd-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: odd\nVersion: {version}\n")


@pytest.mark.parametrize("version", ["/tmp/evil/python3.11", "--python=x", "../../x.1", "3.11; touch x"])
def test_the_version_of_a_prefix_is_a_version(version: str, tmp_path: Path) -> None:
    install(tmp_path, "1.0")
    (tmp_path / "pyvenv.cfg").write_text(f"version = {version}\n")
    python = scan(prefix=tmp_path, environ=clean_environ()).python
    assert (python.version, python.minor, python.executable) == ("3.11", "3.11", "")


@pytest.mark.parametrize(
    "version",
    ["--find-links=x", "1/../../x", "-e", "1,2", r"1\x", "1$A", "1@x", "1'x", '1"x', "1\x1b[31mRED"],
)
def test_versions_that_could_be_anything_else_are_left_out(version: str, tmp_path: Path) -> None:
    install(tmp_path, version)
    plan = make_plan(scan(prefix=tmp_path, environ=clean_environ()), settings=Settings(profile="none"))
    assert [package.name for package in plan.packages] == ["python"]
    assert [finding.code for finding in plan.findings] == ["legacy-version"]


@pytest.mark.parametrize("resolver", [UvResolver, PipToolsResolver])
def test_resolvers_take_no_requirement_for_an_option(
    resolver: type[UvResolver | PipToolsResolver],
) -> None:
    configured = IndexConfiguration(no_index=True)
    access = make_access(configured, {})
    asked = resolver(configured, environ=dict(os.environ), access=access)
    minor = ".".join(map(str, sys.version_info[:2]))
    request = ResolutionRequest(
        Target(LINUX_AMD64, f"{minor}.0", (2, 36)),
        requirements=("missing==1.0", "--help"),
        dependencies=True,
    )
    with pytest.raises(LockError):
        asked.resolve(request)


def shadow(folder: Path, *modules: str) -> Path:
    ran = folder / "RAN"
    for module in modules:
        (folder / f"{module}.py").write_text(f"open({str(ran)!r}, 'a').write({module!r})\n")
    return ran


def test_pip_tools_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = shadow(tmp_path, "pip", "piptools", "runpy", "json", "os", "click", "platform")
    monkeypatch.chdir(tmp_path)
    configured = IndexConfiguration(no_index=True)
    resolver = PipToolsResolver(configured, environ=clean_environ(), access=make_access(configured, {}))
    minor = ".".join(map(str, sys.version_info[:2]))
    for dependencies in (True, False):
        request = ResolutionRequest(
            Target(LINUX_AMD64, f"{minor}.0", (2, 36)), ("missing==1.0",), dependencies
        )
        with pytest.raises(UnsolvableError, match="missing"):
            resolver.resolve(request)
    assert not ran.exists()


@pytest.mark.parametrize("options", [(), ("-W", "ignore")])
def test_modules_of_the_own_environment_run_without_the_current_folder(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    ran = shadow(tmp_path, "pip", "runpy", "os", "warnings")
    command = [*module_command("pip", *options), "--version"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pip ")
    assert not ran.exists()


def test_installed_requirements_import_nothing_from_the_prefix(tmp_path: Path) -> None:
    ran = shadow(tmp_path, "json", "importlib", "email", "zipfile")
    python = replace(scan(environ=clean_environ()).python, prefix=str(tmp_path), executable=sys.executable)
    assert "pytest" in installed_requirements(python).distributions
    assert not ran.exists()


@pytest.mark.parametrize("module", ["-c", "--version", "json; import evil", "../json", "json\n"])
def test_module_that_a_build_lacks_is_a_name(module: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    python = replace(
        scan(environ=clean_environ()).python, executable=str(program(tmp_path / "python", f"touch '{ran}'"))
    )
    assert not can_find_module(python, module)
    assert not ran.exists()


@pytest.mark.parametrize("line", ["--index-url=https://evil.example.com", "-e .", "flit_core\n--pre", "-r x"])
def test_build_requirements_are_requirements(line: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    system = {"requires": [line], "build-backend": "backend"}
    (source / "pyproject.toml").write_text(
        "[build-system]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in system.items())
    )
    log = tmp_path / "log"
    configured = IndexConfiguration(no_index=True)
    request = BuildRequest(
        name="mine",
        version="1.0",
        source=source,
        python=scan(environ=clean_environ()).python,
        indexes=BuildIndexes(
            configured, access=make_access(configured, {}), environ=clean_environ(), progress=SilentProgress()
        ),
        log=log,
        uv=find_uv_bin(),
    )
    with pytest.raises(WheelError, match=r"mine 1\.0: its build requires .* which is no requirement"):
        build_wheel(request, output=tmp_path / "output", progress=SilentProgress())


@pytest.mark.parametrize("word", ["--file=/etc/passwd", "-c evil"])
def test_conda_lock_gets_no_options(word: str) -> None:
    with pytest.raises(LockError, match="neither a match spec nor a channel"):
        _refuse_options(["python 3.11.*", word])
    _refuse_options(["python 3.11.*", "https://conda.example.com/team"])


@pytest.mark.parametrize("name", ["--micromamba", "-c/micromamba"])
def test_micromamba_is_a_program_and_no_option(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "path/sh", f"touch '{tmp_path / 'ran'}'")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockError, match=f"{name} can't be run"):
        find_conda({}, micromamba=Path(name))
    assert not (tmp_path / "ran").exists()


def test_keyring_gets_no_options_for_channels(tmp_path: Path) -> None:
    keyring = program(tmp_path / "keyring", 'printf "%s\n" "$@" > "$(dirname "$0")/arguments"; echo "{}"')
    _ask_keyring(str(keyring), "--keyring-backend=evil")
    assert (tmp_path / "arguments").read_text().splitlines() == [
        *("get", "--", "rattler", "--keyring-backend=evil")
    ]


def test_keyring_gets_no_options(tmp_path: Path) -> None:
    keyring = program(tmp_path / "keyring", 'printf "%s\\n" "$@" > "$(dirname "$0")/arguments"; echo secret')
    url, user = "https://a.example.com/simple", "--keyring-backend=evil"
    access = Access(credentials=(Credential(url, user, None),), keyring=str(keyring))
    assert access.ask_keyring(f"{url}/x.whl") == (user, "secret")
    assert (tmp_path / "arguments").read_text().splitlines() == ["get", "--", url, user]


@pytest.mark.parametrize("option", ["index-url", "extra-index-url", "find-links"])
@pytest.mark.parametrize("user", ["--keyring-backend=evil", "%2D-keyring-path=x"])
def test_index_urls_have_no_option_as_their_user(option: str, user: str, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\n{option} = https://{user}@a.example.com/simple\n")
    environ = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "none")}
    with pytest.raises(ScanError, match=f"{option} in {tmp_path}/pip.conf has a user name that begins"):
        read_pip_configuration(prefix=tmp_path, environ=environ, platform="linux")


def test_no_tools_index_urls_have_an_option_as_their_user(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.uv.index]]\nname = "farm"\nexplicit = true\n'
        'url = "https://--keyring-path=x@a.example.com/simple"\n'
        '[tool.uv.sources]\nplough = { index = "farm" }\n'
    )
    environ = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "none")}
    with pytest.raises(
        ScanError, match=r"The user name for https://a\.example\.com/simple begins with a dash"
    ):
        read_index_configuration(tmp_path / ".venv", environ, cwd=tmp_path, platform="linux")


@pytest.mark.parametrize("name", ["../evil", "x/../../evil", "-evil", "a b", "", 7])
@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_credential_helpers_are_names(
    key: str, name: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"ServerURL": "r.example.com", "Username": "evil", "Secret": "evil"})
    run = f"touch {tmp_path}/FILE; echo '{answer}'"
    for place in (
        "evil",
        "docker-credential-../evil",
        "docker-credential-x/../../evil",
        "docker-credential--evil",
    ):
        program(tmp_path / "work" / place, run)
        program(tmp_path / "work" / "sub" / place, run)
    monkeypatch.chdir(tmp_path / "work" / "sub")
    monkeypatch.setenv("PATH", f"{tmp_path / 'work'}:{os.environ['PATH']}")
    auths = {"r.example.com": {"auth": "bWU6c2VjcmV0"}}
    value = name if key == "credsStore" else {"r.example.com": name}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths, key: value}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    progress = RecordedLines()
    found = registry_credentials("r.example.com", progress=progress)
    assert not (tmp_path / "FILE").exists()
    assert (found.get("username"), found.get("password")) == ("me", "secret")
    assert not name or "can't be the name of a credential helper" in progress.lines[0]


@pytest.mark.parametrize(
    "url", ["ssh://-oProxyCommand=touch x", "ssh://me@-oProxyCommand=x", "ssh://-oProxyCommand=x@host"]
)
@pytest.mark.parametrize("by", ["DOCKER_HOST", "CONTAINER_HOST"])
def test_ssh_endpoints_are_hosts(url: str, by: str, tmp_path: Path) -> None:
    from imagesync.engine.endpoint import _normal_url

    with pytest.raises(UsageError, match="begins with a dash"):
        find_endpoint({"HOME": str(tmp_path), "DOCKER_HOST": url})
    with pytest.raises(UsageError, match=by):
        _normal_url(url, by, {})


@pytest.mark.parametrize("name", ["--option", "-y", "libgomp1-", "a b", "x;touch y", "$(x)"])
def test_apt_names_are_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check_apt([name])
    with pytest.raises(UsageError):
        load_settings(cwd=tmp_path, environ={}, flags={"apt": [name]})
