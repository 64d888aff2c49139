"""A private index with a password: both resolvers and fetching get in, and the password is found nowhere."""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.errors import FetchError, LockError
from imagesync.indexes.pypi.index_configuration import IndexConfiguration, IndexOptions
from imagesync.indexes.pypi.pip_configuration import read_pip_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.lock.lock import Lock
from imagesync.lock.make_lock import make_lock
from imagesync.lock.resolvers.resolver_cache import CachingResolver
from imagesync.store.download import Download
from imagesync.store.parallel_fetch import fetch
from imagesync.store.store import Store
from tests.indexes import Fault, LocalIndex
from tests.indexes.planning import installed, plan_of
from tests.integration.test_lock_resolvers import RESOLVERS, TARGET, environment, lock_with, open_resolver
from tests.progress import RecordedLines

PASSWORD = "pa:ss/w@rd-4711"
WRITTEN = ("pa:ss/w@rd-4711", "pa%3Ass%2Fw%40rd-4711")
PLAN = plan_of(installed("demo", "1.0.0"))


@pytest.fixture(params=sorted(RESOLVERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with LocalIndex(username="me", password=PASSWORD) as running:
        running.add_wheel("demo", "1.0.0")
        yield running


def configuration(environ: Mapping[str, str]) -> IndexConfiguration:
    return read_pip_configuration(prefix=Path("/nonexistent"), environ=environ)


def download(lock: Lock, store: Store, indexes: IndexConfiguration, environ: Mapping[str, str]) -> None:
    wanted = [
        Download(
            package.artifact.url, package.artifact.digest, package.artifact.filename, package.artifact.size
        )
        for package in lock.packages
    ]
    fetch(wanted, store=store, access=make_access(indexes, environ), progress=SilentProgress())


def assert_secret_nowhere(*texts: str, folder: Path | None = None) -> None:
    for text in texts:
        assert not any(secret in text for secret in WRITTEN)
    for path in folder.rglob("*") if folder else ():
        assert not any(secret in str(path) for secret in WRITTEN)
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in WRITTEN)


class Watch:
    """Looks at the command line of every process that this one starts, for as long as it is open."""

    def __enter__(self) -> Watch:
        self._done = threading.Event()
        self.seen: set[str] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.01):
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    try:
                        self.seen.add(
                            (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                        )
                    except OSError:
                        continue


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")
def test_credentials_in_pip_conf(
    name: str,
    index: LocalIndex,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    pip_conf = tmp_path / "pip.conf"
    # configparser would read a single % as the start of a reference; pip doesn't.
    pip_conf.write_text(f"[global]\nindex-url = {index.url_with_credentials}\n")
    environ = environment(tmp_path, PIP_CONFIG_FILE=str(pip_conf))
    indexes = configuration(environ)
    store = Store(tmp_path / "store")
    with Watch() as watch:
        lock = lock_with(open_resolver(name, environ, indexes=indexes), PLAN)
        download(lock, store, indexes, environ)
    assert index.downloads() == 1
    tool = "uv pip compile" if name == "uv" else "pip install"
    assert any(tool in command for command in watch.seen)
    said = capfd.readouterr()
    assert_secret_nowhere(repr(lock), str(lock.to_dict()), caplog.text, said.out, said.err, *watch.seen)
    assert_secret_nowhere(repr(indexes), repr(make_access(indexes, environ)), folder=store.root)


def test_credentials_in_netrc(
    name: str, index: LocalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    netrc.chmod(0o600)
    # requests and pip look for it in their own process's environment.
    monkeypatch.setenv("NETRC", str(netrc))
    environ = environment(tmp_path, PIP_INDEX_URL=index.url, NETRC=str(netrc))
    indexes = configuration(environ)
    store = Store(tmp_path / "store")
    lock = lock_with(open_resolver(name, environ, indexes=indexes), PLAN)
    download(lock, store, indexes, environ)
    assert index.downloads() == 1
    assert_secret_nowhere(repr(lock), folder=store.root)


def test_credentials_in_keyring(name: str, index: LocalIndex, tmp_path: Path) -> None:
    # keyring's own command line, over a backend that has the one password.
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "one_password.py").write_text(
        "import os\nfrom keyring.backend import KeyringBackend\n"
        "class Keyring(KeyringBackend):\n    priority = 1\n"
        "    def get_password(self, service, username):\n"
        "        return os.environ['ONE_PASSWORD'] if username == 'me' else None\n"
        "    def set_password(self, service, username, password): raise NotImplementedError\n"
        "    def delete_password(self, service, username): raise NotImplementedError\n"
    )
    keyring = folder / "keyring"
    keyring.write_text(
        f"#!/bin/sh\nPYTHONPATH={folder} PYTHON_KEYRING_BACKEND=one_password.Keyring "
        f'ONE_PASSWORD="{PASSWORD}" '
        f'exec {sys.executable} -m keyring "$@"\n'
    )
    keyring.chmod(keyring.stat().st_mode | stat.S_IXUSR)
    environ = environment(
        tmp_path,
        PATH=f"{folder}{os.pathsep}{os.environ['PATH']}",
        PIP_INDEX_URL=index.url.replace("://", "://me@"),
        PIP_KEYRING_PROVIDER="subprocess",
    )
    indexes = configuration(environ)
    store = Store(tmp_path / "store")
    lock = lock_with(open_resolver(name, environ, indexes=indexes), PLAN)
    download(lock, store, indexes, environ)
    assert store.usage().artifacts.files == 1
    assert_secret_nowhere(repr(lock), folder=store.root)


def test_a_wrong_password_is_said_without_it(name: str, index: LocalIndex, tmp_path: Path) -> None:
    url = index.url.replace("://", f"://me:{WRITTEN[1]}x@")
    environ = environment(tmp_path, PIP_INDEX_URL=url)
    with pytest.raises(LockError) as caught:
        lock_with(open_resolver(name, environ), PLAN)
    assert f"{index.url} refuses the user name and password that it gets (HTTP 401)" in caught.value.message
    assert "was not found" not in caught.value.message
    assert "netrc and keyring" in str(caught.value.hint)
    assert_secret_nowhere(str(caught.value), repr(caught.value))


def test_an_index_that_wants_a_password_is_not_taken_for_an_empty_one(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    # Its files stand in for what no index has, but whether one has it nobody could say.
    environ = environment(tmp_path, PIP_INDEX_URL=index.url, PIP_KEYRING_PROVIDER="disabled")
    resolver = open_resolver(name, environ, indexes=configuration(environ))
    with pytest.raises(LockError, match="refuses to answer without a user name") as caught:
        make_lock(
            PLAN,
            target=TARGET,
            source_digests={},
            resolver=resolver,
            progress=SilentProgress(),
            installed_digest=lambda _: "sha256:" + "0" * 64,
        )
    assert "Keyring wasn't asked" in str(caught.value.hint)
    assert "~/.netrc: machine 127.0.0.1 login NAME" in str(caught.value.hint)


def test_a_certificate_that_nobody_knows_is_named(name: str, tmp_path: Path) -> None:
    with LocalIndex(tls=True) as index:
        index.add_wheel("demo", "1.0.0")
        environ = environment(tmp_path, PIP_INDEX_URL=index.url, PIP_RETRIES="0")
        with pytest.raises(LockError) as caught:
            lock_with(open_resolver(name, environ), PLAN)
        assert caught.value.message == (
            f"The index {index.url} has a certificate that isn't trusted"
            " (unable to get local issuer certificate)."
        )
        assert "pip config set global.cert" in str(caught.value.hint)
        environ["PIP_CERT"] = str(index.ca_file)
        (package,) = lock_with(open_resolver(name, environ), PLAN).packages
        assert package.name == "demo"


def test_a_file_behind_such_a_certificate_says_so_too(tmp_path: Path) -> None:
    with LocalIndex(tls=True) as index:
        filename = index.add_wheel("demo", "1.0.0")
        wanted = [Download(index.file_url(filename), index.digest(filename), filename)]
        environ = environment(tmp_path)
        access = make_access(configuration(environ), environ)
        with pytest.raises(FetchError, match="has a certificate that isn't trusted") as caught:
            fetch(wanted, store=Store(tmp_path / "store"), access=access, progress=SilentProgress())
        assert "pip config set global.cert" in str(caught.value.hint)


def test_fetching_without_a_password_is_refused(index: LocalIndex, tmp_path: Path) -> None:
    filename = "demo-1.0.0-py3-none-any.whl"
    wanted = [Download(index.file_url(filename), index.digest(filename), filename)]
    environ = environment(tmp_path)
    with pytest.raises(FetchError, match="HTTP 401") as caught:
        fetch(
            wanted,
            store=Store(tmp_path / "store"),
            access=make_access(configuration(environ), environ),
            progress=SilentProgress(),
        )
    assert "netrc" in str(caught.value.hint)
    # A refusal is final: no second attempt, which might lock an account.
    assert index.downloads(filename) == 1


def test_credentials_stay_with_their_host(index: LocalIndex, tmp_path: Path) -> None:
    with LocalIndex() as elsewhere:
        filename = elsewhere.add_wheel("demo", "1.0.0")
        index.fault(filename, Fault(redirect=elsewhere.file_url(filename).replace("127.0.0.1", "localhost")))
        environ = environment(tmp_path, PIP_INDEX_URL=index.url_with_credentials)
        access = make_access(configuration(environ), environ)
        store = Store(tmp_path / "store")
        wanted = [Download(index.file_url(filename), index.digest(filename), filename)]
        fetch(wanted, store=store, access=access, progress=SilentProgress())
        (request,) = elsewhere.requests
        assert request.authorization is None
        # The same host at another port isn't the index either.
        other = elsewhere.add_wheel("other", "1.0.0")
        wanted = [Download(elsewhere.file_url(other), elsewhere.digest(other), other)]
        fetch(wanted, store=store, access=access, progress=SilentProgress())
        assert elsewhere.requests[-1].authorization is None


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_of_one_of_several_indexes_is_a_warning(
    name: str, status: int, index: LocalIndex, tmp_path: Path
) -> None:
    with LocalIndex() as public:
        public.add_wheel("demo", "1.0.0")
        index.refuse_pages(status)
        environ = environment(
            tmp_path, PIP_INDEX_URL=index.url_with_credentials, PIP_EXTRA_INDEX_URL=public.url
        )
        progress = RecordedLines()
        lock = make_lock(
            PLAN,
            target=TARGET,
            source_digests={},
            resolver=open_resolver(name, environ, indexes=configuration(environ)),
            progress=progress,
        )
    assert [package.name for package in lock.packages] == ["demo"]
    (warning,) = progress.lines
    assert warning.startswith(
        f"warning: {index.url} refuses the user name and password that it gets (HTTP {status}); "
    )
    assert "They were looked for in the index URLs in pip's configuration" in warning
    assert_secret_nowhere(warning)


def test_answers_of_others_are_not_cached_while_an_index_refuses(
    name: str, index: LocalIndex, tmp_path: Path
) -> None:
    with LocalIndex() as public:
        public.add_wheel("demo", "1.0.0")
        for password in ("wrong", WRITTEN[1]):
            url = index.url.replace("://", f"://me:{password}@")
            environ = environment(tmp_path, PIP_INDEX_URL=url, PIP_EXTRA_INDEX_URL=public.url)
            resolver = open_resolver(name, environ, indexes=configuration(environ))
            cached = CachingResolver(resolver, tmp_path / "answers", environ)
            lock_with(cached, PLAN)
            assert bool(list(tmp_path.glob("answers/*"))) is (password != "wrong")


def test_index_that_says_by_403_that_it_lacks_a_project_is_no_refusal(
    index: LocalIndex, tmp_path: Path
) -> None:
    with LocalIndex() as public:
        public.add_wheel("demo", "1.0.0")
        index.refuse_pages(403)
        environ = environment(
            tmp_path, PIP_INDEX_URL=index.url_with_credentials, PIP_EXTRA_INDEX_URL=public.url
        )
        indexes = replace(
            configuration(environ), options={index.url: IndexOptions(ignore_error_codes=(403,))}
        )
        resolver = open_resolver("uv", environ, indexes=indexes)
        lock_with(resolver, PLAN)
        assert resolver.refusals() == ()
