"""Find the container engine: by environment variables, Docker's contexts, or the usual sockets."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imagesync.core.strict_json import load_json
from imagesync.core.user_folders import home_folder
from imagesync.errors import EngineNotFound, UsageError

_NAMED_PIPE = "npipe:////./pipe/docker_engine"
_SCHEMES = ("unix", "tcp", "http", "https", "ssh", "npipe")
_SSH = re.compile(r"(\w[^\s@:/]*@)?(\w[\w.-]*|\[[0-9A-Fa-f:.]+(%\w+)?\])(:[0-9]{1,5})?(/[\w.][\w.-]*)*/?")


@dataclass(frozen=True)
class TLSMaterial:
    """The files of a TLS connection to an engine; ``None`` for a missing one.

    Parameters
    ----------
    ca, cert, key
        The certificate authority, and the client's certificate with its key.
    verify
        Whether the engine's certificate is checked, against *ca* or else the system's authorities.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify: bool = True


@dataclass(frozen=True)
class Endpoint:
    """The address of an engine.

    Parameters
    ----------
    url
        ``unix:///path``, ``tcp://host:port``, ``ssh://user@host`` or ``npipe://...``.
    origin
        Where the URL comes from, for messages: ``DOCKER_HOST``, ``the Docker context 'colima'``.
    tls
        The files of a TLS connection; ``None`` without TLS.
    """

    url: str
    origin: str
    tls: TLSMaterial | None = None

    @property
    def scheme(self) -> str:
        """Return the URL's scheme."""
        return self.url.partition("://")[0]

    @property
    def socket_path(self) -> Path | None:
        """Return the path of the Unix socket, if it is one."""
        return Path(self.url.removeprefix("unix://")) if self.scheme == "unix" else None


def find_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint that the Docker CLI would use, else that of another engine on this machine.

    The user's choice comes first: ``DOCKER_HOST``, then ``DOCKER_CONTEXT``, then the current context of
    Docker's ``config.json``. Otherwise it is the first socket that accepts a connection, of: Docker's
    default, rootless Docker, Docker Desktop, colima, Rancher Desktop, OrbStack, ``CONTAINER_HOST``, Podman.

    Raises
    ------
    EngineNotFound
        Nothing is chosen, and no socket exists.
    UsageError
        The chosen context doesn't exist, or a URL has a form that no engine understands.

    Notes
    -----
    The precedence is that of the Docker CLI: https://docs.docker.com/engine/manage-resources/contexts/.
    """
    if host := environ.get("DOCKER_HOST"):
        return Endpoint(
            _normal_url(host, "DOCKER_HOST", environ), "DOCKER_HOST", _tls_of_environ(environ, host)
        )
    context, chosen_by = _chosen_context(environ)
    if context is not None:
        return _endpoint_of_context(context, chosen_by, environ)
    return _first_answering(tuple(_usual_endpoints(environ)))


def _docker_folder(environ: Mapping[str, str]) -> Path:
    folder = environ.get("DOCKER_CONFIG")
    return Path(folder) if folder else home_folder(environ) / ".docker"


def _normal_url(url: str, origin: str, environ: Mapping[str, str]) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        if url.startswith(("/", ".", "~", "\\")):
            raise UsageError(
                f"{origin} is {url!r}, a path without the scheme of a URL.",
                hint=f"Set it to unix://{Path(url).expanduser().absolute()}.",
            )
        scheme, rest = "tcp", url
    if scheme not in _SCHEMES or not rest:
        raise UsageError(
            f"{origin} is {url!r}, which isn't the URL of an engine.",
            hint="Set it to unix:///path/to/docker.sock, tcp://host:port or ssh://user@host, or unset it.",
        )
    # ssh takes a host, account or port that begins with a dash for an option.
    if scheme == "ssh" and not _SSH.fullmatch(rest):
        raise UsageError(
            f"{origin} is {url!r}: ssh takes account, host and port, none of which begins with a dash.",
            hint="Set it to ssh://user@host or ssh://user@host:port.",
        )
    if scheme in {"http", "https"}:
        scheme = "tcp"
    if scheme == "tcp":
        rest = _with_port(rest, url, origin, 2376 if url.startswith("https") or _wants_tls(environ) else 2375)
    # Docker takes unix://var/run/docker.sock for an absolute path too.
    return f"unix:///{rest.lstrip('/')}" if scheme == "unix" else f"{scheme}://{rest}"


def _with_port(rest: str, url: str, origin: str, default: int) -> str:
    """Return host, port and path of a ``tcp://`` URL, with *default* for a missing port."""
    try:
        parts = urlsplit(f"//{rest}")
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port or default
    except ValueError:
        host, port = "", 0
    if not host or parts.username or parts.query or parts.fragment:
        raise UsageError(
            f"{origin} is {url!r}, which doesn't name a host and a port.",
            hint="Set it to tcp://host:port, or unset it.",
        )
    return f"[{host}]:{port}{parts.path}" if ":" in host else f"{host}:{port}{parts.path}"


def _wants_tls(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in ("DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH"))


def _tls_of_environ(environ: Mapping[str, str], url: str) -> TLSMaterial | None:
    if url.startswith(("unix:", "ssh:", "npipe:")) or not (_wants_tls(environ) or url.startswith("https:")):
        return None
    path = environ.get("DOCKER_CERT_PATH")
    folder = Path(path) if path else _docker_folder(environ)
    verify = bool(environ.get("DOCKER_TLS_VERIFY")) or url.startswith("https:")
    return _tls_of_folder(folder, verify=verify)


def _tls_of_folder(folder: Path, *, verify: bool) -> TLSMaterial:
    def existing(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return TLSMaterial(
        ca=existing("ca.pem"), cert=existing("cert.pem"), key=existing("key.pem"), verify=verify
    )


def _chosen_context(environ: Mapping[str, str]) -> tuple[str | None, str]:
    name, chosen_by = environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        config = _docker_folder(environ) / "config.json"
        name, chosen_by = _read_json(config).get("currentContext"), str(config)
    if name and not isinstance(name, str):
        raise UsageError(
            f"{chosen_by} names {name!r} as the current context, which is no name.",
            hint="Choose a context with `docker context use`, or set DOCKER_CONTEXT or DOCKER_HOST.",
        )
    return (name, chosen_by) if name and name != "default" else (None, "")


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of Docker's; an unreadable file counts as empty, as for the CLI."""
    try:
        content = load_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _endpoint_of_context(name: str, chosen_by: str, environ: Mapping[str, str]) -> Endpoint:
    contexts = _docker_folder(environ) / "contexts"
    identifier = hashlib.sha256(name.encode()).hexdigest()
    endpoints = _read_json(contexts / "meta" / identifier / "meta.json").get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    if not isinstance(docker, dict) or not docker.get("Host") or not isinstance(docker["Host"], str):
        raise UsageError(
            f"{chosen_by} chooses the Docker context {name!r}, which doesn't exist.",
            hint="Choose one of `docker context ls` with `docker context use`, or unset DOCKER_CONTEXT.",
        )
    origin = f"the Docker context {name!r}"
    folder = contexts / "tls" / identifier / "docker"
    tls = _tls_of_folder(folder, verify=not docker.get("SkipTLSVerify")) if folder.is_dir() else None
    return Endpoint(_normal_url(docker["Host"], origin, environ), origin, tls)


def _usual_endpoints(environ: Mapping[str, str]) -> Iterator[Endpoint]:
    """Yield the usual endpoints of engines, Docker's before Podman's."""
    if sys.platform == "win32":
        yield Endpoint(_NAMED_PIPE, "Docker's default pipe")
        return
    home = home_folder(environ)
    runtime = environ.get("XDG_RUNTIME_DIR")
    yield _at(Path("/var/run/docker.sock"), "Docker's default socket")
    if runtime:
        yield _at(Path(runtime) / "docker.sock", "rootless Docker's socket")
    yield _at(home / ".docker" / "run" / "docker.sock", "Docker Desktop's socket")
    yield _at(home / ".docker" / "desktop" / "docker.sock", "Docker Desktop's socket")
    colima = Path(environ.get("COLIMA_HOME") or home / ".colima")
    yield _at(colima / "default" / "docker.sock", "colima's socket")
    yield _at(home / ".config" / "colima" / "default" / "docker.sock", "colima's socket")
    yield _at(home / ".rd" / "docker.sock", "Rancher Desktop's socket")
    yield _at(home / ".orbstack" / "run" / "docker.sock", "OrbStack's socket")
    if host := environ.get("CONTAINER_HOST"):
        yield Endpoint(_normal_url(host, "CONTAINER_HOST", {}), "CONTAINER_HOST")
    if runtime:
        yield _at(Path(runtime) / "podman" / "podman.sock", "Podman's socket")
    yield _at(Path("/run/podman/podman.sock"), "Podman's socket")
    if temporary := environ.get("TMPDIR"):
        yield _at(Path(temporary) / "podman" / "podman-machine-default-api.sock", "Podman machine's socket")


def _at(path: Path, origin: str) -> Endpoint:
    return Endpoint(f"unix://{path}", origin)


def _first_answering(candidates: tuple[Endpoint, ...]) -> Endpoint:
    """Return the first that accepts a connection, else the first that exists, for its error."""
    present = [endpoint for endpoint in candidates if _exists(endpoint)]
    for endpoint in present:
        if endpoint.socket_path is None or _accepts(endpoint.socket_path):
            return endpoint
    if present:
        return present[0]
    raise EngineNotFound(
        "No container engine was found: none of the usual sockets of Docker and Podman is there.",
        hint="Start Docker (Docker Desktop, or `sudo systemctl start docker`) or Podman"
        " (`systemctl --user start podman.socket`), or set DOCKER_HOST.",
    )


def _exists(endpoint: Endpoint) -> bool:
    try:
        return endpoint.socket_path is None or endpoint.socket_path.exists()
    except OSError:
        # Not every user may enter /run/user/0 and the like.
        return False


def _accepts(path: Path) -> bool:
    if sys.platform == "win32":
        return False  # Python on Windows has no Unix sockets
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.3)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
