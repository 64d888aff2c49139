"""Credentials for registries, from ``docker login``, its credential helpers and ``podman login``.

Not by the Docker SDK: importing it takes longer than all requests of a push that finds nothing to do. It also
drops identity tokens, and gives up all entries if one helper fails
(https://github.com/docker/docker-py/issues/3379).
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.credentials import redact
from imagesync.core.progress import Severity
from imagesync.core.strict_json import load_json

if TYPE_CHECKING:
    from imagesync.core.progress import Progress

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DOCKER_HUB: Final = "docker.io"
# What Docker calls it in its files, and to helpers.
_DOCKER_HUB_SERVER: Final = "https://index.docker.io/v1/"
# The user name with which helpers answer if the secret is an identity token.
_TOKEN: Final = "<token>"  # noqa: S105  no secret
_NOT_FOUND: Final = "credentials not found in native keychain"


def registry_credentials(registry: str, *, progress: Progress) -> dict[str, Any]:
    """Return the user's credentials for one registry, from Docker or else from Podman; else nothing.

    Only the helper of that registry is asked. If it fails, the entries of the file still count, and the image
    may be public.

    Parameters
    ----------
    registry
        Its host, as in references.
    progress
        Gets a line if a configuration file or a helper fails.

    Returns
    -------
    dict
        ``username`` and ``password``, or ``identitytoken``.
    """
    try:
        path = _docker_file()
        if path is not None and (found := _LoginFile(path).credentials(registry, progress=progress)):
            return found
    except (OSError, ValueError) as error:
        progress.line(
            f"Docker's config.json can't be read ({redact(str(error))}): going on without it.",
            Severity.WARNING,
        )
    for path in _podman_files():
        # Podman itself reports broken files, and the image may be public.
        with suppress(OSError, ValueError):
            if found := _LoginFile(path).credentials(registry, progress=progress):
                return found
    return {}


def _docker_file() -> Path | None:
    """Return the path of Docker's configuration; ``None`` if there is none."""
    folders = (os.environ.get("DOCKER_CONFIG"), "~/.docker")
    paths = (Path(folder).expanduser() / "config.json" for folder in folders if folder)
    return next((path for path in paths if path.exists()), None)


def _podman_files() -> Iterator[Path]:
    """Yield the paths of Podman's credentials (containers-auth.json(5))."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named).expanduser()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers/auth.json")
    yield Path("~/.config/containers/auth.json").expanduser()


class _LoginFile:
    """A file with credentials, or with the names of helpers that have them; Podman's has Docker's format.

    Raises
    ------
    OSError, ValueError
        It can't be read, or is malformed.
    """

    def __init__(self, path: Path) -> None:
        document = load_json(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("it isn't an object")  # noqa: TRY004  callers handle one error
        self._auths = _section(document, "auths")
        self._helpers = _section(document, "credHelpers")
        self._store = document.get("credsStore")

    def credentials(self, registry: str, *, progress: Progress) -> dict[str, Any]:
        """Return the credentials of a registry as :func:`registry_credentials` does.

        Raises
        ------
        ValueError
            Its entry is malformed.
        """
        server = _DOCKER_HUB_SERVER if registry == _DOCKER_HUB else registry
        helper = self._helper(server, progress)
        found: dict[str, Any] = {}
        if helper is not None:
            try:
                found = _ask(helper, server)
            except (OSError, ValueError) as error:
                progress.line(
                    f"The credential helper for {registry} fails ({redact(str(error)).strip()}): going on"
                    " without it.",
                    Severity.WARNING,
                )
        return found or self._entry(registry, server)

    def _helper(self, server: str, progress: Progress) -> str | None:
        """Return the name of the helper to ask, which is that of a program on PATH, and nothing else."""
        for key, name in ((server, self._helpers.get(server)), ("credsStore", self._store)):
            if isinstance(name, str) and _HELPER.fullmatch(name):
                return name
            if name:
                progress.line(
                    f"{name!r} (for {key}) can't be the name of a credential helper, which is "
                    "docker-credential-<name> on PATH: going on without it. Correct it in Docker's"
                    " config.json.",
                    Severity.WARNING,
                )
        return None

    def _entry(self, registry: str, server: str) -> dict[str, Any]:
        of_host = (entry for key, entry in self._auths.items() if _host(key) == registry)
        entry = self._auths[registry] if registry in self._auths else next(of_host, {})
        if not isinstance(entry, dict):
            raise ValueError(f"its entry for {registry} isn't an object")  # noqa: TRY004  as above
        if token := entry.get("identitytoken"):
            return {"identitytoken": token}
        if not (encoded := entry.get("auth")):
            return {}
        if not isinstance(encoded, str):
            raise ValueError(f"its entry for {registry} isn't a text")  # noqa: TRY004  as above
        username, colon, password = base64.b64decode(encoded).decode().partition(":")
        if not colon:
            raise ValueError(f"its entry for {registry} has no password")
        return _login(username, password, server)


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{name} isn't an object")  # noqa: TRY004  callers handle one error
    return found


def _host(key: str) -> str:
    """Return the registry that an entry is for.

    >>> _host("https://index.docker.io/v1/"), _host("ghcr.io")
    ('docker.io', 'ghcr.io')
    """
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return _DOCKER_HUB if host == f"index.{_DOCKER_HUB}" else host


def _ask(helper: str, server: str) -> dict[str, Any]:
    """Return the credentials that a helper has for a server; empty if it has none.

    Raises
    ------
    OSError, ValueError
        It can't be run, fails, or answers something else.
    """
    program = f"docker-credential-{helper}"
    executable = shutil.which(program)
    if executable is None:
        raise ValueError(f"{program} isn't installed, or isn't on PATH")
    done = subprocess.run([executable, "get"], input=server.encode(), stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        text = done.stdout.decode(errors="replace").strip()
        if _NOT_FOUND in text:
            return {}
        raise ValueError(f"{program} ends with {done.returncode}: {text[:1000]}")
    try:
        answer = load_json(done.stdout)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{program} gives a malformed answer") from error
    if not secret:
        return {}
    return {"identitytoken": secret} if username == _TOKEN else _login(username, secret, server)


def _login(username: Any, password: Any, server: str) -> dict[str, Any]:  # noqa: ANN401  as JSON has them
    return {"username": username, "password": password, "serveraddress": server}
