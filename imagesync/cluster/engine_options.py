"""Options of a cluster's containers that go to the engine or to Dask as a user gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagesync.engine.run_options import SHM_SIZE, parse_size
from imagesync.errors import UsageError


@dataclass(frozen=True)
class EngineOptions:
    """Options of a container for the engine alone.

    Parameters
    ----------
    shm_size
        Bytes of ``/dev/shm``.
    network
        Name of a further network that the container joins; empty for none.
    labels
        Further labels.
    docker
        Further arguments of the Docker SDK's ``create_host_config``, such as ``ulimits`` or ``cap_add``.
    """

    shm_size: int = SHM_SIZE
    network: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    docker: Mapping[str, Any] = field(default_factory=dict)


# The cluster's own: without them it neither works nor ends.
_RESERVED = ("auto_remove", "mounts", "network_mode", "port_bindings", "restart_policy", "version")


def make_engine_options(
    *,
    shm_size: str | int | None = None,
    network: str = "",
    labels: Mapping[str, str] | None = None,
    docker: Mapping[str, Any] | None = None,
) -> EngineOptions:
    """Return the options from a user's arguments; a size may be written as ``2g``.

    Raises
    ------
    UsageError
        As for :func:`check_docker`, or the size isn't one.
    """
    return EngineOptions(
        SHM_SIZE if shm_size is None else parse_size(str(shm_size)),
        network,
        dict(labels or {}),
        check_docker(docker),
    )


def check_docker(docker: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return *docker* if containers of a cluster can have these arguments of ``create_host_config``.

    Raises
    ------
    UsageError
        The SDK has no such argument, or it is the cluster's own, or can't be written as JSON.
    """
    from inspect import signature

    from docker.types import HostConfig

    known = signature(HostConfig.__init__).parameters.keys() - {"self", *_RESERVED}
    for name in docker or {}:
        if name not in known:
            raise UsageError(
                f"docker={{{name!r}: ...}} isn't an option of a cluster's containers.",
                hint="Arguments of the Docker SDK's create_host_config, such as ulimits, devices, runtime.",
            )
    return check_json("docker", docker)


def check_json(name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return *options*, the argument *name*, if they can be sent to a container.

    Raises
    ------
    UsageError
        They hold something else than texts, numbers, lists and dictionaries.
    """
    try:
        json.dumps(options or {})
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name}= can't be sent to a container: {error}",
            hint="Texts, numbers, lists and dictionaries can; plugins go by `client.register_plugin`.",
        ) from error
    return dict(options or {})
