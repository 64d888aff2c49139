"""Two engines in one swarm on this machine: each has a network, mounts and processes of its own.

What they make is in memory and in namespaces, so that it goes with them, and they go with this process; if
that is killed, empty control groups stay.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from imagesync.engine.client import connect
from imagesync.engine.endpoint import Endpoint, TLSMaterial
from imagesync.errors import EngineNotFound
from tests.indexes.certificates import make_certificates
from tests.processes import wait_until

_PORT = 2376
_OWN = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
_ENGINE = """
echo ready
read -r plugged_in
# Copies of the other engine's mounts would keep its containers' files and networks alive; what is below
# another of them goes with that one.
findmnt --raw --noheadings --output TARGET --types overlay,nsfs | grep -vx / | xargs -r umount --lazy || :
mount -t tmpfs -o size=4g,mode=755 tmpfs /run
[ ! -d /etc/docker ] || mount -t tmpfs tmpfs /etc/docker
echo "$1" >/proc/sys/kernel/hostname
shift
exec dockerd --data-root /run/data --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs "$@"
"""


@dataclass(frozen=True)
class Node:
    """An engine, which is in the swarm.

    Parameters
    ----------
    address
        By which this machine and the other node reach it.
    certificates
        The folder for DOCKER_CERT_PATH.
    socket
        By which this machine reaches it, too, without TLS.
    pid
        The ID of the engine's process.
    """

    address: str
    certificates: Path
    client: docker.DockerClient
    socket: Path
    pid: int

    @property
    def node_id(self) -> str:
        """Return what the swarm calls it."""
        return str(self.client.info()["Swarm"]["NodeID"])

    @property
    def environ(self) -> Mapping[str, str]:
        """Return what makes a command use this engine."""
        return {
            "DOCKER_HOST": f"tcp://{self.address}:{_PORT}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.certificates),
        }


@dataclass(frozen=True)
class TwoEngines:
    """A swarm of a manager and a worker.

    Parameters
    ----------
    host
        This machine's address in their network; of a registry there they want no TLS.
    """

    manager: Node
    worker: Node
    host: str

    @contextmanager
    def drained(self, node: Node) -> Iterator[None]:
        """Let a node run nothing for a while."""
        self._set(node, "drain")
        try:
            yield
        finally:
            self._set(node, "active")

    def _set(self, node: Node, availability: str) -> None:
        found = self.manager.client.nodes.get(node.node_id)
        found.update({**found.attrs["Spec"], "Availability": availability})


@contextmanager
def two_engines(folder: Path) -> Iterator[TwoEngines]:
    """Start two engines, and make a swarm of them; certificates and logs come into *folder*."""
    _skip_unless_possible()
    token = secrets.token_hex(3)
    network = f"198.18.{secrets.randbelow(256)}"  # meant for trials of networks: RFC 2544
    options = ["--cgroup-parent", f"/imagesync-{token}", "--insecure-registry", f"{network}.0/24"]
    with ExitStack() as stack:
        stack.callback(_remove_cgroups, f"imagesync-{token}")
        switch = stack.enter_context(_switch(f"is{token}", f"{network}.1/24"))
        manager, worker = (
            stack.enter_context(_node(folder, switch, name, f"{network}.{number}", options))
            for number, name in enumerate(("manager", "worker"), 11)
        )
        swarm = manager.client.swarm
        swarm.init(advertise_addr=manager.address)
        swarm.reload()
        join_token = swarm.attrs["JoinTokens"]["Worker"]
        worker.client.swarm.join([manager.address], join_token, advertise_addr=worker.address)
        wait_until(lambda: _ready_nodes(manager) == 2)
        yield TwoEngines(manager, worker, f"{network}.1")


def _skip_unless_possible() -> None:
    if sys.platform != "linux":
        pytest.skip("only on Linux")
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    for command in ("dockerd", "ip"):
        assert shutil.which(command), f"run `make engine` and scripts/test-packages.sh: no {command}"
    if subprocess.run([*_OWN, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root with the right to make namespaces")


@contextmanager
def _switch(link: str, address: str) -> Iterator[int]:
    """Give the process whose network is the cable between the engines and this machine."""
    # A network of its own: where an engine runs, it forbids what it doesn't know.
    command = ["unshare", "--net", "sh", "-c", "echo ready; read -r end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        _await_line(process)
        _configure(process.pid, "link add name bridge type bridge", "link set bridge up")
        _configure(
            os.getpid(),
            f"link add {link} type veth peer name host netns {process.pid}",
            f"addr add {address} dev {link}",
            f"link set {link} up",
        )
        _configure(process.pid, "link set host master bridge up")
        # Its input is closed at the end: with the last process in it goes the network, and with one end of a
        # link the other.
        yield process.pid


@contextmanager
def _node(folder: Path, switch: int, name: str, address: str, options: list[str]) -> Iterator[Node]:
    certificates = folder / name
    certificates.mkdir()
    ca, certificate, key = make_certificates(certificates, address)
    tls = TLSMaterial(ca, certificate.rename(certificates / "cert.pem"), key.rename(certificates / "key.pem"))
    endpoint = Endpoint(f"tcp://{address}:{_PORT}", "the test", tls)
    # A socket's path may have 107 bytes, fewer than pytest's folders need.
    sockets = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    arguments = [
        f"--host={endpoint.url}",
        f"--host=unix://{sockets}/s",
        "--tlsverify",
        f"--tlscacert={tls.ca}",
    ]
    arguments += [f"--tlscert={tls.cert}", f"--tlskey={tls.key}", *options]
    log = folder / f"{name}.log"
    with _engine([name, *arguments], log) as process:
        link = f"link add {name} type veth peer name eth0 netns {process.pid}"
        _configure(switch, link, f"link set {name} master bridge up")
        _configure(process.pid, "link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up")
        assert process.stdin is not None
        process.stdin.write(b"plugged in\n")
        process.stdin.close()
        with closing(_connect(endpoint, log)) as client:
            yield Node(address, certificates, client, sockets / "s", _child(process.pid))
    shutil.rmtree(sockets)


@contextmanager
def _engine(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give the process in whose namespaces an engine starts once a line has been written to it."""
    command = ["setpriv", "--pdeathsig", "KILL", *_OWN, "sh", "-ec", _ENGINE, "sh", *arguments]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        _await_line(process)
        try:
            yield process
        finally:
            # The first process of its namespace, with which all others in it end.
            os.kill(_child(process.pid), signal.SIGKILL)


def _child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _await_line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline(), "it ended before it had namespaces"


def _configure(pid: int, *commands: str) -> None:
    """Run ``ip`` in the network of a process."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"]
    subprocess.run(command, input="\n".join(commands), check=True, text=True)


def _connect(endpoint: Endpoint, log: Path) -> docker.DockerClient:
    """Return a client as soon as the engine answers; it doesn't say when it does."""
    versions: list[str] = []

    def answers() -> bool:
        with suppress(EngineNotFound), closing(connect(endpoint)) as api:
            versions.append(api.api_version)
        return bool(versions)

    try:
        wait_until(answers)
    except AssertionError as error:
        raise AssertionError(log.read_text()[-2000:]) from error
    tls = endpoint.tls
    assert tls is not None
    config = docker.tls.TLSConfig((str(tls.cert), str(tls.key)), str(tls.ca), verify=True)
    client = docker.DockerClient(endpoint.url, version=versions[0], tls=config, timeout=120)
    # Authorities and proxies that this machine's variables name are meant for the internet.
    client.api.trust_env = False
    return client


def _ready_nodes(manager: Node) -> int:
    return [node.attrs["Status"]["State"] for node in manager.client.nodes.list()].count("ready")


def _remove_cgroups(name: str) -> None:
    root = Path("/sys/fs/cgroup")
    for top in (*root.glob(name), *root.glob(f"*/{name}")):
        for folder in sorted((each for each in top.rglob("*") if each.is_dir()), reverse=True):
            folder.rmdir()
        top.rmdir()
