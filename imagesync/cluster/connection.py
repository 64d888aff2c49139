"""Certificates of clusters, and connection files of detached ones: address, certificates, worker options.

Each file is a Dask configuration, so that a client can connect without imagesync:
``DASK_CONFIG=FILE python script.py``, with ``Client()`` in the script. Only its owner can read it.

Containers get certificates by standard input, which only their own process sees: variables, command lines,
labels and mounts would be visible in ``docker inspect`` or on a disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.cluster.container_options import WorkerOptions, worker_options_from_dict
from imagesync.core.files import replacing
from imagesync.core.strict_json import load_json
from imagesync.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from distributed import Security


_SECTION = "imagesync-cluster"
_FIELDS = (
    "tls_ca_file",
    "tls_client_cert",
    "tls_client_key",
    "tls_scheduler_cert",
    "tls_scheduler_key",
    "tls_worker_cert",
    "tls_worker_key",
)


@dataclass(frozen=True)
class Connection:
    """The parameters for connecting to a cluster and for adding workers.

    Parameters
    ----------
    name
        Name of the cluster.
    image
        Reference of its image.
    address
        Address of the scheduler for clients on the engine's machine.
    dashboard
        URL of the dashboard.
    worker
        Options of each worker.
    security
        Arguments of ``distributed.Security``, including certificates.
    config
        Dask configuration in the containers.
    """

    name: str
    image: str
    address: str
    dashboard: str
    worker: WorkerOptions
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The connection file."""
        return _folder() / f"{self.name}.yaml"

    def save(self) -> None:
        """Write the file with permissions for this user only.

        Raises
        ------
        ClusterError
            The state folder can't be written to.
        """
        # JSON is a subset of YAML, which Dask reads.
        content = json.dumps(self._content(), indent=2) + "\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(self.path) as file:
                file.write(content.encode())
        except OSError as error:
            raise ClusterError(f"{self.path} can't be written: {error.strerror}") from error

    def _content(self) -> dict[str, Any]:
        security = self.security
        roles = {
            role: {part: security.get(f"tls_{role}_{part}") for part in ("cert", "key")}
            for role in ("client", "scheduler", "worker")
        }
        tls = {"ca-file": security.get("tls_ca_file"), **roles}
        comm = {"require-encryption": security["require_encryption"], "tls": tls}
        return {
            "scheduler-address": self.address,
            # Dask would take the port in the container.
            "distributed": {"comm": comm, "dashboard": {"link": self.dashboard}},
            _SECTION: {
                "name": self.name,
                "image": self.image,
                "dashboard": self.dashboard,
                "worker": self.worker.to_dict(),
                "config": dict(self.config),
            },
        }


def load_connection(name: str) -> Connection:
    """Return the connection that :meth:`Connection.save` wrote.

    Raises
    ------
    ClusterError
        The file doesn't exist or isn't a connection file.
    """
    path = _folder() / f"{name}.yaml"
    try:
        content = load_json(path.read_text("utf-8"))
        section, comm = content[_SECTION], content["distributed"]["comm"]
        security = {"require_encryption": comm["require-encryption"], "tls_ca_file": comm["tls"]["ca-file"]}
        for role in ("client", "scheduler", "worker"):
            for part in ("cert", "key"):
                security[f"tls_{role}_{part}"] = comm["tls"][role][part]
        return Connection(
            name=section["name"],
            image=section["image"],
            address=content["scheduler-address"],
            dashboard=section["dashboard"],
            worker=worker_options_from_dict(section["worker"]),
            security={key: value for key, value in security.items() if value is not None},
            config=section["config"],
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"No cluster {name} was started here by `imagesync cluster up`.",
            hint="List the clusters: imagesync cluster ls",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"{path} can't be read: {error}",
            hint=f"End the cluster, and start it again: imagesync cluster down {name}",
        ) from error


def connection_at(address: str) -> Connection | None:
    """Return the saved connection to the scheduler at *address*, if there is a readable one."""
    for path in sorted(_folder().glob("*.yaml")):
        with suppress(ClusterError):
            connection = load_connection(path.stem)
            if connection.address == address:
                return connection
    return None


def delete_connection(name: str) -> None:
    """Delete the connection file of a cluster, if there is one."""
    (_folder() / f"{name}.yaml").unlink(missing_ok=True)


def _folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("imagesync", appauthor=False) / "clusters"


def make_security(security: Security | bool | None) -> Security:
    """Return the security of a cluster's connections.

    Parameters
    ----------
    security
        ``None`` or ``True`` for new certificates, ``False`` for plain TCP.

    Raises
    ------
    UsageError
        A certificate file can't be read.
    """
    from distributed import Security

    if security is None or security is True:
        temporary: Security = Security.temporary()
        return temporary
    return Security(require_encryption=False) if security is False else security


def security_to_dict(security: Security) -> dict[str, str | bool]:
    """Return the arguments of an equal ``Security``, with the contents of certificate files."""
    contents: dict[str, str | bool] = {"require_encryption": bool(security.require_encryption)}
    for name in _FIELDS:
        value = getattr(security, name)
        if value:
            contents[name] = _content(value)
    return contents


def security_from_dict(contents: Mapping[str, str | bool]) -> Security:
    """Return the ``Security`` from the arguments of :func:`security_to_dict`."""
    from distributed import Security

    return Security(**contents)


def _content(value: str) -> str:
    if "\n" in value:
        return value
    try:
        with open(value, encoding="ascii") as file:  # noqa: PTH123  as distributed reads it
            return file.read()
    except (OSError, ValueError) as error:
        raise UsageError(f"The certificate {value} can't be read: {error}") from error
