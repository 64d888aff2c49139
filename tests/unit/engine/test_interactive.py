"""What an engine's refusal to run a command means."""

from __future__ import annotations

import docker.errors
import pytest

from imagesync.engine.client import engine_errors
from imagesync.engine.interactive import _lacks_init
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
