"""Where the engine is, from real files and sockets."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesync.engine.client import CONNECT_TIMEOUT, connect
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.lookup import look_up
from imagesync.errors import EngineNotFound, UsageError


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


def write_context(home: Path, name: str, host: object, *, tls: bool = False) -> None:
    identifier = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / identifier / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(
        json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}})
    )
    if tls:
        folder = home / ".docker" / "contexts" / "tls" / identifier / "docker"
        folder.mkdir(parents=True)
        (folder / "ca.pem").touch()


def test_docker_host_precedes_a_context(home: dict[str, str]) -> None:
    environ = {**home, "DOCKER_HOST": "unix:///x.sock", "DOCKER_CONTEXT": "missing"}
    assert find_endpoint(environ) == Endpoint("unix:///x.sock", "DOCKER_HOST")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("tcp://build.example.com", "tcp://build.example.com:2375"),
        ("build.example.com:1234", "tcp://build.example.com:1234"),
        ("tcp://[::1]:2375", "tcp://[::1]:2375"),
        ("unix://var/run/docker.sock", "unix:///var/run/docker.sock"),
        ("ssh://me@build.example.com", "ssh://me@build.example.com"),
        ("ssh://me@build-1.example.com:2222/", "ssh://me@build-1.example.com:2222/"),
        ("ssh://core@[::1]:22/run/podman.sock", "ssh://core@[::1]:22/run/podman.sock"),
    ],
)
def test_docker_host_is_normalised(home: dict[str, str], host: str, url: str) -> None:
    assert find_endpoint({**home, "DOCKER_HOST": host}).url == url


def test_docker_host_with_an_unknown_scheme_is_refused(home: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="DOCKER_HOST is 'ftp://x'"):
        find_endpoint({**home, "DOCKER_HOST": "ftp://x"})


@pytest.mark.parametrize(
    "rest",
    [
        *(
            "h:-oX",
            "h:22:-oX",
            "h:22x",
            "h:",
            "a:-b@h",
            "me@h:-p",
            "-l@h",
            "u@-oX",
            "u@v@-oX",
            "/-oX",
            "h/-oX",
        ),
        *("%2doProxyCommand=x", " -oX", "h -oX", "h\n-oX", "[-oX]", "me@[-oX]:22", "h:22\n"),
    ],
)
@pytest.mark.parametrize("by", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_ssh_url_with_an_option_is_refused(home: dict[str, str], tmp_path: Path, rest: str, by: str) -> None:
    write_context(tmp_path, "hostile", f"ssh://{rest}")
    value = f"ssh://{rest}" if by == "DOCKER_HOST" else "hostile"
    with pytest.raises(UsageError, match="none of which begins with a dash"):
        find_endpoint({**home, by: value})


@pytest.mark.parametrize("path", ["/var/run/docker.sock", "./docker.sock", "~/.docker/run/docker.sock"])
@pytest.mark.parametrize("variable", ["DOCKER_HOST", "CONTAINER_HOST"])
@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: its Python has no Unix sockets")
def test_path_without_a_scheme_is_told_its_scheme(
    home: dict[str, str], path: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagesync.engine.endpoint._first_answering", tuple)  # ask for all of them
    with pytest.raises(UsageError, match="a path without the scheme") as caught:
        find_endpoint({**home, variable: path})
    assert caught.value.message.startswith(f"{variable} is '{path}'")
    assert caught.value.hint == f"Set it to unix://{Path(path).expanduser().absolute()}."


@pytest.mark.parametrize(
    "host",
    [
        "tcp://a:b:c",
        "tcp://build.example.com:port",
        "tcp://build.example.com:99999",
        "tcp://[::1",
        "tcp://:2375",
        "tcp://..:2375",
        "tcp://me@build.example.com",
        "https://build.example.com?x=1",
        "C:\\docker",
    ],
)
def test_tcp_url_without_a_host_and_a_port_is_refused(home: dict[str, str], host: str) -> None:
    with pytest.raises(UsageError, match="doesn't name a host and a port"):
        find_endpoint({**home, "DOCKER_HOST": host})


@pytest.mark.parametrize("name", [3, ["a"], {"a": "b"}, True])
def test_current_context_that_is_no_name_is_refused(
    home: dict[str, str], tmp_path: Path, name: object
) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))
    with pytest.raises(UsageError, match="which is no name"):
        find_endpoint(home)


def test_context_without_a_text_as_its_host_is_refused(home: dict[str, str], tmp_path: Path) -> None:
    write_context(tmp_path, "broken", 3)
    with pytest.raises(UsageError, match="'broken', which doesn't exist"):
        find_endpoint({**home, "DOCKER_CONTEXT": "broken"})


@pytest.mark.parametrize("settings", [3, {"auths": 3}, {"proxies": 3}])
@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: its Python has no Unix sockets")
def test_settings_that_the_sdk_cannot_use_are_refused(
    listening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=r"Docker's settings in .*config.json can't be used"):
        connect(Endpoint(f"unix://{listening}", "the test"))


def test_docker_cert_path_gives_tls_files(home: dict[str, str], tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    endpoint = find_endpoint(
        {
            **home,
            "DOCKER_HOST": "tcp://build.example.com",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(tmp_path),
        }
    )
    assert endpoint.url == "tcp://build.example.com:2376"
    assert endpoint.tls is not None
    assert endpoint.tls.verify
    assert endpoint.tls.cert == tmp_path / "cert.pem"


def test_context_is_found_by_name(home: dict[str, str], tmp_path: Path) -> None:
    write_context(tmp_path, "büro", "tcp://10.0.0.1:2376", tls=True)
    endpoint = find_endpoint({**home, "DOCKER_CONTEXT": "büro"})
    assert endpoint.url == "tcp://10.0.0.1:2376"
    assert endpoint.origin == "the Docker context 'büro'"
    assert endpoint.tls is not None
    assert endpoint.tls.ca is not None


def test_current_context_is_found(home: dict[str, str], tmp_path: Path) -> None:
    write_context(tmp_path, "colima", "unix:///c.sock")
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "colima"}')
    assert find_endpoint(home).url == "unix:///c.sock"


def test_missing_context_is_refused(home: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="'nowhere', which doesn't exist"):
        find_endpoint({**home, "DOCKER_CONTEXT": "nowhere"})


@pytest.mark.parametrize("reason", ["there is no such socket", "connection refused"])
@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: its Python has no Unix sockets")
def test_endpoint_without_an_engine_is_reported(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "s"
    if reason == "connection refused":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises(EngineNotFound, match=reason) as caught:
        look_up(Endpoint(f"unix://{path}", "DOCKER_HOST"), base="x", repository="y")
    assert caught.value.hint == "Start that engine, or change or unset DOCKER_HOST."


def test_silent_address_is_reported_after_the_connect_timeout() -> None:
    assert CONNECT_TIMEOUT < 1
    # A listener with a full queue silently drops further connections, as a firewall does.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(EngineNotFound, match="no answer in time"):
            look_up(Endpoint(f"tcp://127.0.0.1:{port}", "DOCKER_HOST"), base="x", repository="y")
        for each in waiting:
            each.close()


def test_look_up_imports_no_heavy_module() -> None:
    script = (
        "import sys, imagesync.engine.endpoint, imagesync.engine.lookup, imagesync.image.built_image;"
        "print([m for m in ('docker', 'requests', 'urllib3', 'rich', 'google.protobuf', 'jinja2')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
