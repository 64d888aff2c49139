"""Engines that are reached over TLS and SSH: by DOCKER_HOST, and by Docker's contexts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import selectors
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import look_up
from imagesync.engine.run_container import RunRequest
from imagesync.errors import EngineError, EngineNotFound
from tests.commands import CommandLine, clean_environ
from tests.indexes.certificates import make_certificates
from tests.integration.engines import docker_endpoint
from tests.integration.tiny_image import REFERENCE, context

pytestmark = [pytest.mark.engine, pytest.mark.beside]
Environ = dict[str, str]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what DOCKER_CERT_PATH holds; the engine has the same certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    _, certificate, key = make_certificates(folder)
    shutil.copy(certificate, folder / "cert.pem")
    shutil.copy(key, folder / "key.pem")
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same by another authority."""
    folder = tmp_path_factory.mktemp("strangers")
    _, certificate, key = make_certificates(folder)
    shutil.copy(certificate, folder / "cert.pem")
    shutil.copy(key, folder / "key.pem")
    return folder


@pytest.fixture(scope="module")
def port(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port where the machine's Docker answers over TLS, to those who have a certificate."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    tls.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    for endpoint in docker_endpoint(tmp_path_factory.mktemp("docker")):
        with tls_proxy(endpoint, tls) as port:
            yield port


@contextmanager
def tls_proxy(endpoint: Endpoint, tls: ssl.SSLContext) -> Iterator[int]:
    """Yield a port; what comes in there over TLS is passed on, by a thread a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            # Closing the listener ends it.
            with suppress(OSError):
                while True:
                    threading.Thread(target=pass_on, args=listener.accept()[:1], daemon=True).start()

        def pass_on(plain: socket.socket) -> None:
            engine = socket.socket(socket.AF_UNIX)
            with plain, engine, suppress(OSError), tls.wrap_socket(plain, server_side=True) as client:
                engine.connect(str(endpoint.socket_path))
                exchange(client, engine)

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()


def exchange(client: ssl.SSLSocket, engine: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(engine, selectors.EVENT_READ)
        while True:
            # What is decrypted already no longer shows in the socket.
            ready = [client] if client.pending() else [key.fileobj for key, _ in selector.select()]
            for source in ready:
                assert isinstance(source, socket.socket)
                data = source.recv(1 << 16)
                if data:
                    (engine if source is client else client).sendall(data)
                elif source is engine:
                    return
                else:
                    # A client that has no more to say may still wait for the rest of the answer.
                    selector.unregister(client)
                    engine.shutdown(socket.SHUT_WR)


def by_docker_host(folder: Path, port: int, material: Path) -> Environ:
    host = f"tcp://127.0.0.1:{port}"
    return {"DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(material)}


def by_context(folder: Path, port: int, material: Path) -> Environ:
    """Write a context as ``docker context create --docker host=...,ca=...,cert=...,key=...`` does."""
    identifier = hashlib.sha256(b"remote").hexdigest()
    meta = folder / "contexts" / "meta" / identifier / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"Host": f"tcp://127.0.0.1:{port}", "SkipTLSVerify": False}
    meta.write_text(json.dumps({"Name": "remote", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    tls = folder / "contexts" / "tls" / identifier / "docker"
    tls.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        if (material / name).exists():
            shutil.copy(material / name, tls)
    (folder / "config.json").write_text('{"currentContext": "remote"}')
    return {"DOCKER_CONFIG": str(folder)}


Chosen = Callable[[Path, int, Path], Environ]


@pytest.fixture(params=[by_docker_host, by_context])
def chosen(request: pytest.FixtureRequest) -> Chosen:
    found: Chosen = request.param
    return found


def test_engine_over_tls_is_looked_up_and_runs_containers(
    chosen: Chosen, port: int, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESYNC_CACHE_DIR", str(tmp_path / "cache"))
    endpoint = find_endpoint(chosen(tmp_path, port, certificates))
    found = look_up(endpoint, base=REFERENCE, repository="imagesync-test/none")
    assert found.base_digest is not None
    with Engine(endpoint) as engine:
        image = engine.inspect(REFERENCE)
        assert image is not None
        assert found.base_digest in {image.image_id, *(digest.partition("@")[2] for digest in image.digests)}
        assert engine.run(RunRequest(REFERENCE, ("sh",), stdin=b"echo in; exit 3")).stdout == b"in\n"
        command = ("sh", "-c", "echo out; echo err >&2; exit 4")
        result = engine.run(RunRequest(REFERENCE, command))
        assert (result.exit_code, result.stdout, result.stderr) == (4, b"out\n", b"err\n")
        archive = context(f"FROM {REFERENCE}\nCOPY data /\n", data=bytes(1 << 20))
        built = engine.build([archive], BuildRequest("none", "linux/amd64"), progress=SilentProgress())
        engine.discard(built)


@pytest.mark.parametrize("environment_names_an_authority", [False, True])
def test_engine_of_another_authority_is_refused(
    chosen: Chosen,
    port: int,
    certificates: Path,
    strangers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment_names_an_authority: bool,
) -> None:
    # What is meant for web servers says nothing about engines.
    if environment_names_an_authority:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "ca.pem"))
    endpoint = find_endpoint(chosen(tmp_path, port, strangers))
    for use in (Engine, ask):
        with pytest.raises(EngineNotFound, match=r"No TLS connection .*certificate") as caught:
            use(endpoint)
        assert "ca.pem" in str(caught.value.hint)


def test_environments_authority_does_not_replace_the_engines(
    chosen: Chosen,
    port: int,
    certificates: Path,
    strangers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(strangers / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    endpoint = find_endpoint(chosen(tmp_path, port, certificates))
    with Engine(endpoint) as engine:
        assert engine.info().name == "Docker Engine"


@pytest.mark.parametrize("has", ["none", "one of another authority"])
def test_client_without_the_right_certificate_is_refused(
    chosen: Chosen, port: int, certificates: Path, strangers: Path, tmp_path: Path, has: str
) -> None:
    material = tmp_path / "material"
    material.mkdir()
    if has != "none":
        shutil.copytree(strangers, material, dirs_exist_ok=True)
    shutil.copy(certificates / "ca.pem", material)
    endpoint = find_endpoint(chosen(tmp_path / "docker", port, material))
    for use in (Engine, ask):
        with pytest.raises(EngineError) as caught:
            use(endpoint)
        assert f"127.0.0.1:{port}" in caught.value.message
        assert "cert.pem" in str(caught.value.hint)


def test_key_that_is_none_is_told(chosen: Chosen, port: int, certificates: Path, tmp_path: Path) -> None:
    material = tmp_path / "material"
    shutil.copytree(certificates, material)
    (material / "key.pem").write_text("nonsense")
    endpoint = find_endpoint(chosen(tmp_path / "docker", port, material))
    for use in (Engine, ask):
        with pytest.raises(EngineNotFound, match="No TLS connection") as caught:
            use(endpoint)
        assert "key.pem" in str(caught.value.hint)


def ask(endpoint: Endpoint) -> None:
    look_up(endpoint, base=REFERENCE, repository="x")


def test_doctor_asks_for_the_right_certificates(
    cli: CommandLine, port: int, strangers: Path, tmp_path: Path
) -> None:
    said = cli.with_environ(**by_docker_host(tmp_path, port, strangers)).run("doctor").stdout
    assert "No TLS connection to the engine" in said
    assert "Check that ca.pem, cert.pem and key.pem are for this engine" in said
    assert "usermod" not in said


def test_command_in_a_container_reads_to_its_end_over_tls(
    port: int, certificates: Path, tmp_path: Path
) -> None:
    script = (
        "import os, pathlib, sys; from imagesync.engine.endpoint import find_endpoint;"
        "from imagesync.engine.interactive import run_container;"
        "from imagesync.engine.run_options import ContainerRun;"
        "run = ContainerRun(sys.argv[1], ('sh', '-c', 'wc -c; echo after; exit 5'), pathlib.Path.cwd());"
        "sys.exit(run_container(find_endpoint(os.environ), run))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, REFERENCE],
        input=b"x" * 1_000_000,
        capture_output=True,
        cwd=tmp_path,
        env={**clean_environ(), **by_docker_host(tmp_path, port, certificates)},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, b"1000000\nafter\n", b"")


def test_ssh_says_what_to_install(cli: CommandLine) -> None:
    assert importlib.util.find_spec("paramiko") is None, "this test is about what is said without it"
    refused = cli.with_environ(DOCKER_HOST="ssh://nobody@127.0.0.1:1").run("build", "--builder", "docker")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "ssh://nobody@127.0.0.1:1 (DOCKER_HOST)" in refused.stderr
    assert "pip install 'docker[ssh]'" in refused.stderr
    assert "Traceback" not in refused.stderr
