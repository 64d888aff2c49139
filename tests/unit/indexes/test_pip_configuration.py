"""pip's configuration as we read it, against pip's own word where pip can be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagesync.errors import ScanError
from imagesync.indexes.pypi.index_configuration import IndexConfiguration
from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.scan.scan import scan
from tests.commands import clean_environ

SECRET = "https://me:hunter2@private.example.com/simple"

PIP_CONF = "pip.ini" if sys.platform == "win32" else "pip.conf"
PIP_FOLDER = "pip" if sys.platform == "win32" else ".pip"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return variables with a home of the test's own, and no configuration."""
    home = tmp_path / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    (home / PIP_FOLDER).mkdir()
    (tmp_path / "xdg" / "pip").mkdir(parents=True)
    (tmp_path / "prefix").mkdir()
    # /etc/pip.conf of the machine counts in any case, so every test sets what it asks for.
    return {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PATH": os.environ["PATH"],
    }


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "prefix"


def write(path: Path, url: str, section: str = "global") -> None:
    path.write_text(f"[{section}]\nindex-url = {url}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: there is no XDG folder")
def test_later_files_override_earlier_ones(environ: dict[str, str], prefix: Path, tmp_path: Path) -> None:
    places = [
        tmp_path / "xdg" / "pip" / "pip.conf",
        tmp_path / "home" / PIP_FOLDER / PIP_CONF,
        tmp_path / "home" / ".config" / "pip" / "pip.conf",
        prefix / PIP_CONF,
    ]
    for number, place in enumerate(places):
        write(place, f"https://{number}.example.com/simple")
        if number or not Path("/etc/pip.conf").exists():
            found = read_pip_configuration(prefix=prefix, environ=environ).index_url
            assert found == f"https://{number}.example.com/simple"
    write(tmp_path / "named.conf", "https://named.example.com/simple")
    environ["PIP_CONFIG_FILE"] = str(tmp_path / "named.conf")
    found = read_pip_configuration(prefix=prefix, environ=environ).index_url
    assert found == "https://named.example.com/simple"
    environ["PIP_INDEX_URL"] = "https://variable.example.com/simple"
    found = read_pip_configuration(prefix=prefix, environ=environ).index_url
    assert found == "https://variable.example.com/simple"


def test_pip_config_file_replaces_the_users(environ: dict[str, str], prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / PIP_FOLDER / PIP_CONF).write_text("[global]\nproxy = http://users:1\n")
    (prefix / PIP_CONF).write_text("[global]\nclient-cert = /prefix.pem\n")
    write(tmp_path / "named.conf", SECRET)
    environ["PIP_CONFIG_FILE"] = str(tmp_path / "named.conf")
    found = read_pip_configuration(prefix=prefix, environ=environ)
    assert (found.proxy, found.client_cert, found.index_url) == (None, "/prefix.pem", SECRET)


def test_pip_config_file_devnull_disables_all_files(environ: dict[str, str], prefix: Path) -> None:
    write(prefix / PIP_CONF, SECRET)
    environ["PIP_CONFIG_FILE"] = os.devnull
    assert read_pip_configuration(prefix=prefix, environ=environ) == IndexConfiguration()


def test_command_section_overrides_global(environ: dict[str, str], prefix: Path, tmp_path: Path) -> None:
    write(tmp_path / "home" / PIP_FOLDER / PIP_CONF, "https://install.example.com/simple", "install")
    write(prefix / PIP_CONF, "https://global.example.com/simple")
    found = read_pip_configuration(prefix=prefix, environ=environ)
    assert found.index_url == "https://install.example.com/simple"


def test_all_options_of_indexes_are_read(environ: dict[str, str], prefix: Path) -> None:
    (prefix / PIP_CONF).write_text(
        "[global]\nindex_url = https://a.example.com/simple\nextra-index-url =\n    https://b.example.com\n"
        "    https://c.example.com\nno-index = yes\nfind-links = /wheels ./more\ncert = /ca.pem\n"
        "client-cert = /me.pem\ntrusted-host = a.example.com b.example.com:8080\nproxy = http://proxy:3128\n"
        "timeout = 7.5\nkeyring-provider = subprocess\nconstraint = a.txt https://c.example.com/b.txt\n"
        "build-constraint = /c.txt\n"
    )
    assert read_pip_configuration(prefix=prefix, environ=environ) == IndexConfiguration(
        index_url="https://a.example.com/simple",
        extra_index_urls=("https://b.example.com", "https://c.example.com"),
        find_links=("/wheels", "./more"),
        no_index=True,
        cert="/ca.pem",
        client_cert="/me.pem",
        trusted_hosts=("a.example.com", "b.example.com:8080"),
        proxy="http://proxy:3128",
        timeout=7.5,
        keyring_provider="subprocess",
        build_constraints=("a.txt", "https://c.example.com/b.txt", "/c.txt"),
    )


def test_variables_replace_lists_unless_empty(environ: dict[str, str], prefix: Path) -> None:
    (prefix / PIP_CONF).write_text("[global]\nextra-index-url = https://a https://b\nfind-links = /wheels\n")
    environ |= {
        "PIP_EXTRA_INDEX_URL": "https://c https://d",
        "PIP_FIND_LINKS": "",
        "PIP_DEFAULT_TIMEOUT": "9",
        "PIP_CONSTRAINT": "a.txt",
        "PIP_BUILD_CONSTRAINT": "b.txt  a.txt",
    }
    found = read_pip_configuration(prefix=prefix, environ=environ)
    assert found.build_constraints == ("a.txt", "b.txt")
    assert found.extra_index_urls == ("https://c", "https://d")
    assert found.find_links == ("/wheels",)
    assert found.timeout == 9


@pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux: pip reads the files of this machine's platform"
)
def test_configuration_equals_that_of_pip(environ: dict[str, str], tmp_path: Path) -> None:
    """Ask the real pip, in an environment whose every file says something else."""
    (tmp_path / "xdg" / "pip" / "pip.conf").write_text("[global]\ntimeout = 1\nproxy = http://xdg:1\n")
    (tmp_path / "home" / PIP_FOLDER / PIP_CONF).write_text("[global]\ntimeout = 2\ncert = /legacy.pem\n")
    (tmp_path / "home" / ".config" / "pip" / "pip.conf").write_text("[install]\ntimeout = 3\n")
    environ["PIP_TRUSTED_HOST"] = "a b"
    code = (
        "from pip._internal.cli.main_parser import parse_command\n"
        "from pip._internal.commands import create_command\n"
        "o, _ = create_command('install').parse_args([])\n"
        "print(o.timeout, o.proxy, o.cert, *o.trusted_hosts)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True
    ).stdout.split()
    found = read_pip_configuration(prefix=Path(sys.prefix), environ=environ)
    assert said == [str(found.timeout), found.proxy, found.cert, *found.trusted_hosts]


@pytest.mark.parametrize(
    ("platform", "place", "variable"),
    [
        ("win32", "roaming/pip/pip.ini", "APPDATA"),
        ("win32", "home/pip/pip.ini", "USERPROFILE"),
        ("win32", "common/pip/pip.ini", "ProgramData"),
        ("darwin", "home/Library/Application Support/pip/pip.conf", "HOME"),
        ("darwin", "home/.config/pip/pip.conf", "HOME"),
        ("linux", "own/pip/pip.conf", "XDG_CONFIG_HOME"),
    ],
)
def test_files_of_macos_and_windows_are_found(
    platform: str, place: str, variable: str, environ: dict[str, str], prefix: Path, tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, SECRET)
    environ[variable] = str(tmp_path / place.partition("/")[0])
    assert read_pip_configuration(prefix=prefix, environ=environ, platform=platform).index_url == SECRET


def test_representation_has_no_credentials(environ: dict[str, str], prefix: Path) -> None:
    environ |= {"PIP_INDEX_URL": SECRET, "PIP_EXTRA_INDEX_URL": SECRET, "PIP_PROXY": "http://a:hunter2@proxy"}
    environ["PIP_FIND_LINKS"] = "https://me:hunter2@files.example.com"
    found = read_pip_configuration(prefix=prefix, environ=environ)
    assert found.index_url == SECRET
    assert "hunter2" not in repr(found) + str(found) + "".join(found.public_urls)
    assert found.public_urls == ("https://private.example.com/simple",)
    result = scan(python=Path(sys.executable), environ={**clean_environ(), **environ})
    assert result.indexes == ("https://private.example.com/simple",)
    assert result.file_choice != ""


@pytest.mark.parametrize(
    "content",
    [
        b"no section hunter2\n",
        b"\xff\xfe[global]",
        b"[global]\ntimeout = soon\n",
        b"[global]\nno-index = perhaps\n",
    ],
)
def test_invalid_file_is_named(content: bytes, environ: dict[str, str], prefix: Path) -> None:
    (prefix / PIP_CONF).write_bytes(content)
    with pytest.raises(ScanError) as caught:
        read_pip_configuration(prefix=prefix, environ=environ)
    assert str(prefix / PIP_CONF) in caught.value.message
    assert "hunter2" not in caught.value.message


def test_invalid_file_is_a_finding_of_a_scan(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "home" / PIP_FOLDER / PIP_CONF).write_text("nonsense\n")
    result = scan(python=Path(sys.executable), environ={**clean_environ(), **environ})
    assert "pip-configuration-unreadable" in [item.code for item in result.findings]
    assert result.packages
