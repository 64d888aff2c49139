"""What an engine is asked for a command, and what its refusal means."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from imagesync.engine.client import engine_errors
from imagesync.engine.endpoint import Endpoint
from imagesync.engine.interactive import _configuration, _explained, _lacks_init
from imagesync.engine.run_options import ContainerRun
from imagesync.errors import EngineError


@pytest.mark.parametrize(
    ("explanation", "is_init"),
    [
        ('OCI runtime create failed: exec: "docker-init": executable file not found in $PATH', True),
        ("failed to start shim: fork/exec /usr/libexec/docker/docker-init: no such file or directory", True),
        (
            "container-init binary not found on the host: stat /usr/libexec/podman/catatonit: no such file",
            True,
        ),
        ("lookup init binary: could not find catatonit", True),
        ('OCI runtime create failed: exec: "nothere": executable file not found in $PATH', False),
    ],
)
def test_missing_init_is_told_from_a_missing_command(explanation: str, is_init: bool) -> None:
    with pytest.raises(EngineError) as refused, engine_errors("run docker-init in imagesync:1"):
        raise docker.errors.APIError("500", explanation=explanation)
    assert _lacks_init(refused.value) is is_init


def test_engine_without_gpus_gets_the_hint_about_nvidias_toolkit() -> None:
    endpoint = Endpoint("tcp://127.0.0.1:1", "the test")
    with (
        pytest.raises(EngineError) as refused,
        _explained(endpoint),
        engine_errors("run true in imagesync:1"),
    ):
        raise docker.errors.APIError(
            "500", explanation='could not select device driver "" with capabilities: [[gpu]]'
        )
    assert "nvidia-ctk runtime configure" in str(refused.value.hint)


class AskedClient(docker.APIClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client of an engine that only says how it is set up; it keeps what a container is made of."""

    def __init__(self, *security: str) -> None:
        super().__init__("tcp://127.0.0.1:1", version="1.41")
        self.security = security
        self.asked: dict[str, Any] = {}

    def info(self) -> dict[str, Any]:
        return {"SecurityOptions": [f"name={name}" for name in self.security]}

    def create_container_from_config(self, config: Any, *_: object) -> dict[str, str]:
        self.asked = config
        return {"Id": "1"}


def asked(*security: str, **options: Any) -> dict[str, Any]:
    """Return the request for a container that an engine with these security options gets."""
    run = ContainerRun(reference="imagesync:1", command=("true",), folder=Path("/folder"), **options)
    api = AskedClient(*security)
    api.create_container(**_configuration(api, run, terminal=False, init=True))
    api.close()
    return api.asked


ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux: engines elsewhere map the owners of files"
)


@ON_LINUX
@pytest.mark.parametrize(
    ("security", "user", "userns"),
    [
        (("seccomp,profile=default", "cgroupns"), f"{os.getuid()}:{os.getgid()}", None),
        # uid 0 of a rootless engine is who started it.
        (("seccomp,profile=default", "rootless"), "0:0", None),
        # With remapped ids the caller's own would be somebody else's.
        (("seccomp,profile=default", "userns"), f"{os.getuid()}:{os.getgid()}", "host"),
    ],
)
def test_user_of_a_command_owns_what_it_writes_by_the_kind_of_engine(
    security: tuple[str, ...], user: str, userns: str | None
) -> None:
    request = asked(*security)
    assert request["User"] == user
    assert request["HostConfig"].get("UsernsMode") == userns
    assert "HOME=/tmp" in request["Env"]
    own = asked(*security, user="app")
    assert (own["User"], own["HostConfig"].get("UsernsMode")) == ("app", None)


@pytest.mark.parametrize(
    ("gpus", "count", "devices"),
    [
        ("all", -1, None),
        ("2", 2, None),
        ("device=0,1", None, ["0", "1"]),
        ('"device=GPU-3a23"', None, ["GPU-3a23"]),
    ],
)
def test_gpus_are_device_requests_as_those_of_docker_run(
    gpus: str, count: int | None, devices: list[str] | None
) -> None:
    (request,) = asked(gpus=gpus)["HostConfig"]["DeviceRequests"]
    assert (request["Capabilities"], request["Count"] or None, request["DeviceIDs"] or None) == (
        [["gpu"]],
        count,
        devices,
    )
    assert not asked()["HostConfig"].get("DeviceRequests")
