"""Credentials for registries, from ``docker login``, its credential helpers and ``podman login``."""

from __future__ import annotations

import json
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import redact
from imagesync.core.progress import Progress, Severity

if TYPE_CHECKING:
    import docker.auth

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def registry_credentials(registry: str, *, progress: Progress) -> dict[str, Any]:
    """Return the user's credentials for one registry, from Docker or else from Podman; else nothing.

    Only the helper of that registry is asked. If it fails, the others' entries still count
    (https://github.com/docker/docker-py/issues/3379), and the image may be public.

    Parameters
    ----------
    registry
        Its host, as in references.
    progress
        Gets a line if a configuration file or a helper fails.

    Returns
    -------
    dict
        ``username`` and ``password``, or ``identitytoken``, in lower case.
    """
    credentials = _from_docker(registry, progress=progress)
    return credentials or _from_podman(registry, progress=progress)


def _from_docker(registry: str, *, progress: Progress) -> dict[str, Any]:
    import docker.auth
    import docker.errors

    try:
        config, tokens = _read_config()
        _drop_unsafe_helpers(config, progress)
    except (docker.errors.DockerException, OSError, ValueError, AttributeError) as error:
        progress.line(
            f"Docker's config.json can't be read ({redact(str(error))}): going on without it.",
            Severity.WARNING,
        )
        return {}
    try:
        with warnings.catch_warnings():
            # The SDK warns of a helper that isn't installed, and raises an error all the same.
            warnings.simplefilter("ignore", UserWarning)
            found = config.resolve_authconfig(registry)
    except (docker.errors.DockerException, ValueError, TypeError, AttributeError) as error:
        # The SDK expects a JSON object from any helper.
        reason = redact(str(error.__cause__ or error)).strip()
        progress.line(
            f"The credential helper for {registry} fails ({reason}): going on without it.", Severity.WARNING
        )
        found = docker.auth.AuthConfig({"auths": config.auths}).resolve_authconfig(registry)
    credentials = {key.lower(): value for key, value in (found or {}).items() if value}
    if token := tokens.get(registry):
        credentials = {"identitytoken": token}
    return credentials


def _from_podman(registry: str, *, progress: Progress) -> dict[str, Any]:
    """Return the credentials of ``podman login`` (containers-auth.json(5)), in Docker's format."""
    import docker.auth
    import docker.errors

    paths = [os.environ.get("REGISTRY_AUTH_FILE", "")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        paths.append(f"{runtime}/containers/auth.json")
    paths.append("~/.config/containers/auth.json")
    for path in (Path(path).expanduser() for path in paths if path):
        # Podman itself reports broken files, and the image may be public.
        with suppress(docker.errors.DockerException, OSError, ValueError, TypeError, AttributeError):
            json.loads(path.read_bytes())
            config = docker.auth.load_config(str(path))
            _drop_unsafe_helpers(config, progress)
            if found := config.resolve_authconfig(registry):
                return {key.lower(): value for key, value in found.items() if value}
    return {}


def _drop_unsafe_helpers(config: docker.auth.AuthConfig, progress: Progress) -> None:
    """Remove helpers from *config* that name another program than ``docker-credential-<name>`` on PATH."""
    helpers = config.get("credHelpers") or {}
    named = {"credsStore": config.get("credsStore") or "", **(helpers if isinstance(helpers, dict) else {})}
    unsafe = {key: name for key, name in named.items() if name and not _is_helper(name)}
    for key, name in unsafe.items():
        progress.line(
            f"{name!r} (for {key}) can't be the name of a credential helper, which is "
            "docker-credential-<name> on PATH: going on without it. Correct it in Docker's config.json.",
            Severity.WARNING,
        )
    if "credsStore" in unsafe:
        del config["credsStore"]
    if isinstance(helpers, dict):
        config["credHelpers"] = {key: name for key, name in helpers.items() if key not in unsafe}


def _is_helper(name: object) -> bool:
    return isinstance(name, str) and _HELPER.fullmatch(name) is not None


def _read_config() -> tuple[docker.auth.AuthConfig, dict[str, str]]:
    """Return the configuration, and the identity tokens by registry, which the SDK drops."""
    import docker.auth
    from docker.utils.config import find_config_file

    path = find_config_file()
    tokens = {}
    if path is not None and path.endswith(".json"):
        # The SDK reads a file that isn't JSON as an empty one.
        auths = json.loads(Path(path).read_bytes()).get("auths") or {}
        for name, entry in auths.items():
            if isinstance(entry, dict) and entry.get("identitytoken"):
                tokens[docker.auth.resolve_index_name(name)] = entry["identitytoken"]
    return docker.auth.load_config(path), tokens
