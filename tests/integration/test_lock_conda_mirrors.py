"""conda channels behind mirrors, and channels that only the logins of pixi and mamba open."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.errors import FetchError, HashMismatch, LockError
from imagesync.settings.model import Settings
from tests.channels.environments import CondaEnvironment, make_conda_environment
from tests.channels.server import ChannelServer
from tests.integration.test_lock_conda import Bench, MakeBench, bench, copied_channel
from tests.passwords import Password

__all__ = ["bench", "copied_channel"]

PASSWORD = Password("jane.doe", "s3cret/Passw:rd@42")
TOKEN = "tk-4711-secret"
FORGE = "https://conda.anaconda.org/channel"


@pytest.fixture(scope="module")
def installed(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> CondaEnvironment:
    """Return the environment that all tests of this module use."""
    prefix = tmp_path_factory.mktemp("mirrors") / "conda"
    return make_conda_environment(channel, ("python", "quill", "toolz"), prefix)


@pytest.fixture
def environment(installed: CondaEnvironment) -> Iterator[CondaEnvironment]:
    """Return the environment, and put its records back afterwards."""
    records = {path: path.read_bytes() for path in installed.records.glob("*.json")}
    yield installed
    for path, content in records.items():
        path.write_bytes(content)


def by_rattler_file(home: Path, entry: object) -> dict[str, str]:
    path = home / ".rattler" / "credentials.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"127.0.0.1": entry}))
    return {}


def by_rattler_variable(home: Path, entry: object) -> dict[str, str]:
    path = home / "logins.json"
    path.write_text(json.dumps({"127.0.0.1": entry}))
    return {"RATTLER_AUTH_FILE": str(path)}


def by_keyring(home: Path, entry: object) -> dict[str, str]:
    """Store what pixi stores, in a backend of the real ``keyring``."""
    folder = home / "bin"
    folder.mkdir()
    (folder / "one_entry.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Keyring(KeyringBackend):\n    priority = 1\n"
        "    def get_password(self, service, username):\n"
        f"        return {json.dumps(entry)!r} if (service, username) == ('rattler', '127.0.0.1') else None\n"
        "    def set_password(self, service, username, password): raise NotImplementedError\n"
        "    def delete_password(self, service, username): raise NotImplementedError\n"
    )
    keyring = folder / "keyring"
    keyring.write_text(
        f"#!/bin/sh\nPYTHONPATH={folder} PYTHON_KEYRING_BACKEND=one_entry.Keyring "
        f'exec {sys.executable} -m keyring "$@"\n'
    )
    keyring.chmod(keyring.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}/usr/bin:/bin"}


def by_mamba(home: Path, entry: object) -> dict[str, str]:
    assert isinstance(entry, dict)
    ((kind, value),) = entry.items()
    if kind == "BasicHTTP":
        password = base64.b64encode(value["password"].encode()).decode()
        entry = {"type": "BasicHTTPAuthentication", "user": value["username"], "password": password}
    else:
        entry = {"type": kind, "token": value}
    path = home / ".mamba" / "auth" / "authentication.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"127.0.0.1": entry}))
    return {}


BASIC = {"BasicHTTP": {"username": PASSWORD.user, "password": PASSWORD.word}}


@pytest.mark.parametrize(
    ("store", "entry"),
    [
        (by_rattler_file, {"CondaToken": TOKEN}),
        (by_rattler_file, {"BearerToken": TOKEN}),
        (by_rattler_variable, BASIC),
        (by_keyring, {"BearerToken": TOKEN}),
        (by_mamba, BASIC),
        (by_mamba, {"CondaToken": TOKEN}),
    ],
)
def test_a_stored_login_opens_a_channel_and_is_nowhere(
    environment: CondaEnvironment,
    bench: MakeBench,
    channel: Path,
    tmp_path: Path,
    store: object,
    entry: dict[str, object],
) -> None:
    ((kind, _),) = entry.items()
    keys = {
        "CondaToken": {"token": TOKEN},
        "BearerToken": {"bearer": TOKEN},
        "BasicHTTP": {"username": PASSWORD.user, "password": PASSWORD.word},
    }[kind]
    with ChannelServer(channel, **keys) as server:
        moved(environment, channel.as_uri(), server.url)
        at = bench(environment, add_conda=("gazebo",), channels=(server.url,))
        at.environ.update(store(tmp_path / "home", entry))
        lock = at.lock()
        artifacts = at.fetch(lock)
        assert any(package.name == "gazebo" for package in lock.conda)
        assert server.count("gazebo-1.0-0.conda") + server.count(".conda") > 0
    text = json.dumps(artifacts.lock.to_dict()) + repr(at.sources(at.plan()).channels.repodata.settings)
    assert TOKEN not in text
    PASSWORD.assert_absent(text.encode(), "the lock")
    PASSWORD.assert_absent_below(at.root)
    for path in at.root.rglob("*"):
        assert TOKEN not in str(path)
        if path.is_file() and "blobs" not in path.parts:
            assert TOKEN.encode() not in path.read_bytes()


def test_a_channel_that_refuses_is_explained_by_condas_configuration(
    environment: CondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel, token=TOKEN) as server:
        moved(environment, channel.as_uri(), server.url)
        at = bench(environment)
        lock = at.lock()
        with pytest.raises(FetchError, match="HTTP 403") as caught:
            at.fetch(lock)
        assert "pip" not in str(caught.value.hint)
        assert "`pixi auth login`" in str(caught.value.hint)
        with pytest.raises(LockError) as refused:
            bench_with(at, add_conda=("gazebo",), channels=(server.url,)).lock()
        assert "`pixi auth login`" in str(refused.value.hint)


def bench_with(at: Bench, **settings: object) -> Bench:
    return Bench(at.environment, at.root, at.environ, Settings(cache_dir=at.root, **settings))


def moved(environment: CondaEnvironment, old: str, new: str) -> None:
    """Let the records say that everything is from the channel *new*."""
    for path in environment.records.glob("*.json"):
        path.write_text(path.read_text().replace(old.rstrip("/"), new))


def archive(environment: CondaEnvironment, name: str) -> str:
    """Return where a package's archive is in its channel."""
    record = json.loads(environment.record(name).read_text())
    return f"{record['subdir']}/{record['fn']}"


def falsify(path: Path) -> None:
    # It is a hard link to the channel's own.
    path.unlink()
    path.write_bytes(b"something else")


def configure(at: Bench, condarc: str = "", pixi: str = "") -> None:
    home = Path(at.environ["HOME"])
    (home / ".condarc").write_text(condarc)
    (home / ".pixi").mkdir(exist_ok=True)
    (home / ".pixi" / "config.toml").write_text(pixi)


@pytest.mark.parametrize("way", ["channel_alias", "custom_channels", "mirrored_channels", "pixi"])
def test_archives_come_from_the_mirror_and_the_lock_keeps_the_original(
    environment: CondaEnvironment, bench: MakeBench, channel: Path, way: str
) -> None:
    moved(environment, channel.as_uri(), FORGE)
    at = bench(environment, add_conda=("gazebo",), channels=(FORGE,))
    with ChannelServer(channel, token=TOKEN) as server:
        host = server.url_with_credentials.removesuffix("/channel")
        condarc = {
            "channel_alias": f"channel_alias: {host}\n",
            "custom_channels": f"custom_channels:\n  channel: {host}\n",
            "mirrored_channels": f"mirrored_channels:\n  channel:\n    - {server.url_with_credentials}\n",
            "pixi": "",
        }
        pixi = f'[mirrors]\n"https://conda.anaconda.org" = ["{host}"]\n' if way == "pixi" else ""
        configure(at, condarc[way], pixi)
        lock = at.lock()
        artifacts = at.fetch(lock)
        assert server.count(".conda") + server.count(".tar.bz2") >= len(lock.conda)
    assert "gazebo" in {package.name for package in lock.conda}
    urls = {package.artifact.url.rsplit("/", 2)[0] for package in artifacts.lock.conda}
    assert urls == {FORGE}
    assert TOKEN not in json.dumps(artifacts.lock.to_dict())


def test_a_mirror_that_has_another_file_or_none_is_passed_over(
    environment: CondaEnvironment, bench: MakeBench, channel: Path, copied_channel: Path
) -> None:
    toolz, quill = archive(environment, "toolz"), archive(environment, "quill")
    (copied_channel / toolz).unlink()
    falsify(copied_channel / quill)
    with ChannelServer(channel) as original, ChannelServer(copied_channel) as mirror:
        moved(environment, channel.as_uri(), original.url)
        at = bench(environment)
        configure(at, pixi=f'[mirrors]\n"{original.url}" = ["{mirror.url}"]\n')
        lock = at.fetch(at.lock()).lock
        assert {p.name for p in lock.conda} >= {"quill", "toolz"}
        assert lock.deviations == ()
        assert original.count(toolz) == original.count(quill) == 1
        assert original.count(".conda") + original.count(".tar.bz2") == 2
        assert mirror.count(quill) == 1


def test_an_archive_that_left_its_folder_comes_from_the_mirror(
    environment: CondaEnvironment, bench: MakeBench, channel: Path, copied_channel: Path
) -> None:
    moved(environment, channel.as_uri(), copied_channel.as_uri())
    (copied_channel / archive(environment, "quill")).unlink()
    at = bench(environment)
    with ChannelServer(channel) as mirror:
        configure(at, f"mirrored_channels:\n  farm:\n    - {copied_channel.as_uri()}\n    - {mirror.url}\n")
        lock = at.fetch(at.lock()).lock
        assert mirror.count(".conda") + mirror.count(".tar.bz2") == 1
    assert "quill" in {package.name for package in lock.conda}
    assert lock.vendored == ()


def test_what_no_place_has_as_it_was_is_never_taken(
    environment: CondaEnvironment, bench: MakeBench, channel: Path, copied_channel: Path
) -> None:
    falsify(copied_channel / archive(environment, "quill"))
    with ChannelServer(copied_channel) as original, ChannelServer(copied_channel) as mirror:
        moved(environment, channel.as_uri(), original.url)
        at = bench(environment)
        configure(at, pixi=f'[mirrors]\n"{original.url}" = ["{mirror.url}"]\n')
        with pytest.raises(HashMismatch, match="quill"):
            at.fetch(at.lock())


def test_a_mirror_that_is_silent_is_asked_no_more_than_once_by_each_connection(
    environment: CondaEnvironment, bench: MakeBench, channel: Path
) -> None:
    with ChannelServer(channel) as mirror:
        silent = mirror.url
    with ChannelServer(channel) as original:
        moved(environment, channel.as_uri(), original.url)
        at = bench(environment)
        configure(at, pixi=f'[mirrors]\n"{original.url}" = ["{silent}"]\n')
        lock = at.lock()
        at.fetch(lock)
        assert original.count(".conda") + original.count(".tar.bz2") == len(lock.conda)
