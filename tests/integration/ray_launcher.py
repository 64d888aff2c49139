"""What ``cluster config ray`` writes, run by ``ray up`` on two machines; minutes, so not in the suite.

Each of two engines with nothing but a network between them is a machine, with an SSH server. That there are
machines already is the only thing that Ray is told besides what the file has.

    .venv/bin/python -m pytest -s tests/integration/ray_launcher.py

Needs root, and ``openssh-server`` and ``rsync`` of Debian's.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker
import pytest
import yaml

from tests.commands import CommandLine
from tests.environments import LocalEnvironment, make_environment
from tests.integration.conftest import remove_images
from tests.integration.local_registry import LocalRegistry
from tests.integration.two_engines import Node, two_engines
from tests.processes import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

CLIENT = """
import sys
import ray

ray.init("auto", logging_level="ERROR")

@ray.remote(scheduling_strategy="SPREAD")
def where(number):
    import time
    time.sleep(0.5)
    return number * number, ray.get_runtime_context().get_node_id()

@ray.remote
class Counter:
    count = 0

    def add(self, number):
        self.count += number
        return self.count

found = ray.get([where.remote(number) for number in range(8)])
counter = Counter.remote()
added = [ray.get(counter.add.remote(number)) for number in range(4)][-1]
print("found", sum(square for square, _ in found), len({node for _, node in found}), added, sys.prefix)
"""


@pytest.fixture
def ray_environment(base_python: Path, tmp_path: Path) -> LocalEnvironment:
    return make_environment(tmp_path / "env", packages=["ray[client]", "boto3"], python=base_python)


@pytest.fixture
def image(
    image_cli: CommandLine, ray_environment: LocalEnvironment, engine: docker.DockerClient
) -> Iterator[str]:
    """Return the image of the environment, with what the file's head says that it needs."""
    if given := os.environ.get("IMAGESYNC_RAY_IMAGE"):
        yield given
        return
    environ = {"VIRTUAL_ENV": ray_environment.prefix, "IMAGESYNC_PYTHON": "base"}
    cli = image_cli.with_environ(**environ, IMAGESYNC_APT="openssh-client,rsync")
    reference = cli("build").reference
    yield reference
    remove_images(engine, reference.partition(":")[0])


def process_of(node: Node) -> int:
    """Return the process of a node's engine."""
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        arguments = command_line.read_bytes().split(b"\0")
        if arguments[0] == b"dockerd" and f"--host={node.environ['DOCKER_HOST']}".encode() in arguments:
            return int(command_line.parent.name)
    raise AssertionError(f"no engine at {node.address}")


def in_namespaces(node: Node) -> list[str]:
    return ["nsenter", "--target", str(process_of(node)), "--all"]


def inside(node: Node, *command: str) -> None:
    """Run a command in the namespaces of a node."""
    subprocess.run([*in_namespaces(node), *command], check=True)


@contextmanager
def ssh_server(node: Node, folder: Path) -> Iterator[None]:
    """Run an SSH server on a node, whose sessions use its engine."""
    folder.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True)
    environ = {**node.environ, "DOCKER_CONFIG": str(folder)}
    config = f"""
        HostKey {folder / "host"}
        AuthorizedKeysFile {folder.parent / "key.pub"}
        ListenAddress {node.address}
        PermitRootLogin yes
        StrictModes no
        UsePAM no
        PidFile none
        MaxStartups 100
        SetEnv {" ".join(f"{name}={value}" for name, value in environ.items())}
    """
    (folder / "config").write_text(config)
    inside(node, "mkdir", "-p", "/run/sshd")
    command = [*in_namespaces(node), "/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as server:
        try:
            yield
        finally:
            server.kill()


def test_file_for_ray_starts_head_and_worker_on_two_machines(
    image_cli: CommandLine,
    ray_environment: LocalEnvironment,
    image: str,
    engine: docker.DockerClient,
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with ExitStack() as stack:
        engines = stack.enter_context(two_engines(tmp_path))
        head, worker = engines.manager, engines.worker
        for name, node in (("head", head), ("worker", worker)):
            # Ray takes the address by which it would reach the internet for its own.
            inside(node, "ip", "route", "add", "default", "via", engines.host)
            stack.enter_context(ssh_server(node, tmp_path / f"ssh-{name}"))
        registry = stack.enter_context(LocalRegistry(tmp_path, auth={}, address=engines.host))
        (loaded,) = head.client.images.load(engine.api.get_image(image))
        loaded.tag("local/ray", "1")
        digest = registry.push(head.client, "local/ray:1", "team/ray:1")
        head.client.images.remove(loaded.id, force=True)

        reference = f"{registry.host}/team/ray@{digest}"
        written = image_cli(
            "cluster", "config", "ray", "--image", reference, "--name", "elm", "-n", "1"
        ).stdout
        config = yaml.safe_load(written)
        # Ray asks Amazon for machines; these are there already, and have no types.
        del config["available_node_types"], config["head_node_type"]
        config["provider"] = {"type": "local", "head_ip": head.address, "worker_ips": [worker.address]}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
        (tmp_path / "ray.yaml").write_text(yaml.safe_dump(config))

        def ray(*command: str, check: bool = True) -> str:
            done = subprocess.run(
                [ray_environment.prefix / "bin" / "ray", *command],
                # Its second autoscaler doesn't take up machines that are there already.
                env={**os.environ, "RAY_UP_enable_autoscaler_v2": "0"},
                capture_output=True,
                text=True,
                check=False,
                cwd=tmp_path,
            )
            print(done.stdout[-6000:], done.stderr[-3000:])
            assert done.returncode == 0 or not check
            return done.stdout

        try:
            ray("up", "--yes", "--no-config-cache", "ray.yaml")

            def joined() -> bool:
                status = ray("exec", "ray.yaml", "ray status", check=False)
                return sum(int(count) for count in re.findall(r"(\d+) local\.cluster\.node", status)) == 2

            wait_until(joined, 300)
            (tmp_path / "client.py").write_text(CLIENT)
            said = ray("submit", "ray.yaml", "client.py")
            assert "found 140 2 6 /opt/env" in said
        finally:
            ray("down", "--yes", "ray.yaml", check=False)
