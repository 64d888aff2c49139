"""The checks of ``imagesync doctor`` of what an image is made from: environment, indexes, cache, tools."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.credentials import strip_credentials
from imagesync.core.installation import own_installation
from imagesync.core.text import format_size
from imagesync.core.worker_pool import WorkerPool
from imagesync.errors import ImagesyncError
from imagesync.indexes.pypi.access import Access, Wording, get, open_session
from imagesync.indexes.pypi.index_configuration import PYPI, IndexConfiguration
from imagesync.indexes.pypi.index_problems import (
    REFUSALS,
    certificate_hint,
    innermost,
    refusal,
    refusal_hint,
    untrusted,
)
from imagesync.indexes.pypi.project_configuration import read_index_configuration
from imagesync.indexes.pypi.uv_environment import make_access
from imagesync.settings.bases import base_hint, well_known_minor
from imagesync.store.layout import default_cache_dir
from imagesync.store.source import local_path
from imagesync.store.store import Store

if TYPE_CHECKING:
    from imagesync.scan.environment import Environment
    from imagesync.settings.model import Settings

Status = Literal["ok", "warning", "failed"]

# An environment of 150 packages needs about 1 GB in the store: wheels, and bytecode.
_ENOUGH_SPACE = 2_000_000_000
_INDEX_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Parameters
    ----------
    name
        The subject: ``engine``, ``registry``, ``index``, ``cache``, ``interpreter`` ...
    status
        ``failed`` if a build would fail, too.
    message
        What was found, without credentials.
    hint
        What to do about it, a command if possible.
    """

    name: str
    status: Status
    message: str
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the check as documented JSON (``docs/json.md``)."""
        return asdict(self)


def failed(name: str, error: ImagesyncError) -> Check:
    """Return the check that failed with *error*."""
    return Check(name, "failed", error.message, error.hint)


def environment_checks(
    environ: Mapping[str, str],
    scan: Callable[[], Environment],
    base_of: Callable[[Environment], str | None],
) -> Iterator[Check]:
    """Check the interpreter, and the indexes that its configuration names.

    Parameters
    ----------
    scan
        Returns the environment, or raises why it can't be scanned.
    base_of
        Returns the base image whose Python the image gets; ``None`` if it gets exactly the environment's.
    """
    try:
        environment = scan()
        indexes = read_index_configuration(Path(environment.python.prefix), environ)
        base = base_of(environment)
    except ImagesyncError as error:
        yield failed("interpreter", error)
        return
    found = environment.python
    message = (
        f"{found.implementation} {found.version} in {found.prefix}, {len(environment.packages)} packages"
    )
    expected = None if base is None else well_known_minor(base)
    if found.implementation != "cpython":
        hint = "Use an environment of CPython: `python3 -m venv .venv`."
        yield Check("interpreter", "failed", f"{message}: images have CPython", hint)
    elif expected is not None and expected != found.minor:
        hint = f"{base_hint(found.minor)}\nOr make an environment with Python {expected}."
        yield Check("interpreter", "failed", f"{message}; the base {base} has {expected}", hint)
    else:
        yield Check("interpreter", "ok", message)
    yield from _index_checks(indexes, environ)


def _index_checks(indexes: IndexConfiguration, environ: Mapping[str, str]) -> Iterator[Check]:
    access = make_access(indexes, environ)
    access = replace(access, timeout=min(access.timeout, _INDEX_SECONDS))
    if indexes.no_index and not indexes.find_links:
        hint = f"Remove `no-index` from {indexes.source}, or name folders by find-links."
        yield Check(
            "index", "failed", f"{indexes.tool} is configured with neither an index nor find-links", hint
        )
    urls = () if indexes.no_index else (indexes.index_url or PYPI, *indexes.extra_index_urls)
    projects = dict.fromkeys(indexes.find_links, "") | dict.fromkeys(urls, "pip")
    for binding in reversed(indexes.bound):
        name = "pip" if "*" in binding.package else binding.package
        projects |= {url: name for url in binding.urls if url not in urls}
    with WorkerPool(max(1, len(projects))) as pool:
        yield from pool.map(lambda place: _index_check(place, access, project=projects[place]), projects)


def _index_check(place: str, access: Access, *, project: str) -> Check:
    """Check an index or a find-links location.

    Parameters
    ----------
    place
        A URL, or the path of a folder.
    access
        Proxy, certificates and credentials.
    project
        The project whose page is requested (the page of all projects has tens of megabytes); empty for a
        find-links location.
    """
    import requests

    folder = local_path(place) if "://" in place else Path(place)
    if folder is not None:
        if folder.exists():
            return Check("index", "ok", f"{folder} is there")
        hint = f"Correct it in {access.wording.settings}."
        return Check("index", "warning", f"{folder} doesn't exist and is ignored", hint)
    shown = strip_credentials(place)
    url = f"{place.rstrip('/')}/{project}/" if project else place
    try:
        with open_session(access) as session, get(session, url, access=access) as response:
            if response.status_code in REFUSALS:
                return Check("index", "failed", f"{shown} {refusal(response)}", refusal_hint(shown, access))
            return _judge_answer(shown, response.status_code, project, access.wording)
    except requests.exceptions.SSLError as error:
        return Check("index", "failed", f"{shown} {untrusted(error)}", certificate_hint(access))
    except (requests.RequestException, OSError, ValueError) as error:
        hint = f"Check the URL in {access.wording.settings}, and the proxy in HTTPS_PROXY."
        return Check("index", "failed", f"{shown} doesn't answer ({innermost(error)})", hint)


def _judge_answer(shown: str, status: int, project: str, wording: Wording) -> Check:
    if status >= 500:
        return Check("index", "failed", f"{shown} fails (HTTP {status})", "Try again later.")
    if status == 404:
        hint = f"This is fine if it has other projects; otherwise check its URL in {wording.settings}."
        return Check("index", "warning", f"{shown} answers, but has no project {project} (HTTP 404)", hint)
    return Check("index", "ok", f"{shown} answers")


def cache_checks(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Check that the cache folder can be written to and has room."""
    root = settings.cache_dir or default_cache_dir(environ)
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    hint = "Make it writable, or choose another folder with IMAGESYNC_CACHE_DIR."
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
        size = Store(root).usage().size if root.is_dir() else 0
    except ImagesyncError as error:
        yield failed("cache", error)
        return
    except OSError as error:
        yield Check("cache", "failed", f"{root} can't be written to: {error.strerror}", hint)
        return
    message = f"{root} holds {format_size(size)}, {format_size(free)} are free"
    if free < _ENOUGH_SPACE:
        hint = "Free space with `imagesync cache prune`, or choose another folder with IMAGESYNC_CACHE_DIR."
        yield Check("cache", "warning", message, hint)
    else:
        yield Check("cache", "ok", message)


def tool_checks(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Check git, uv and pip-tools."""
    git = shutil.which("git", path=environ.get("PATH"))
    if git is None:
        hint = "Install it: `apt-get install git`, `brew install git` or https://git-scm.com/downloads."
        yield Check("git", "warning", "not found; packages from git repositories need it", hint)
    else:
        yield _version_check("git", [git, "--version"])
    from uv import find_uv_bin

    try:
        yield _version_check("uv", [find_uv_bin(), "--version"])
    except FileNotFoundError:
        hint = f"Reinstall it beside imagesync: {own_installation().reinstall('uv')}"
        yield Check("uv", "failed", "its executable is missing from its package", hint)
    yield _pip_tools_check(needed=settings.resolver == "pip-tools")


def _pip_tools_check(*, needed: bool) -> Check:
    try:
        return Check("pip-tools", "ok", f"pip-tools {version('pip-tools')}")
    except PackageNotFoundError:
        if not needed:
            return Check("pip-tools", "ok", "not installed, and not needed: the resolver is uv")
        hint = f"Install it beside imagesync: {own_installation().add_extra('pip-tools')}"
        return Check("pip-tools", "failed", "not installed, but the settings choose it as the resolver", hint)


def _version_check(name: str, command: list[str]) -> Check:
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, "failed", f"{command[0]} doesn't run: {innermost(error)}", f"Reinstall {name}.")
    return Check(name, "ok", answer.stdout.strip())
