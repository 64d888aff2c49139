"""The configuration of indexes for uv, pip and fetching: environment variables, and access.

Credentials are passed only in the environment of the child process: a command line is visible to every user
of the machine.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from imagesync.core.credentials import strip_credentials
from imagesync.core.limits import SILENCE
from imagesync.indexes.pypi.access import Access, Credential, Wording

if TYPE_CHECKING:
    from imagesync.indexes.pypi.index_configuration import IndexConfiguration

# Variables that add indexes to the given ones.
UV_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_UV_CONSTRAINTS = ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT")
# Variables that a configuration file for uv replaces.
_UV_CONFIGURED = (
    *UV_INDEXES,
    *("UV_FIND_LINKS", "UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER"),
    *("UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_PROJECT"),
)


def uv_environment(indexes: IndexConfiguration, environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with pip's configuration in uv's variables; variables without an equivalent stay."""
    environment = dict(environ)
    if indexes.index_url or indexes.extra_index_urls:
        for name in UV_INDEXES:
            environment.pop(name, None)
    environment.update(_index_variables(indexes))
    environment.update(_connection_variables(indexes, environ))
    if (ca_bundle := _ca_bundle(indexes, environ)) is not None:
        # pip trusts this bundle alone; uv would add the folder to it.
        environment.pop("SSL_CERT_DIR", None)
        environment["SSL_CERT_FILE"] = ca_bundle
    else:
        # As pip does since 24.2.
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    if may_use_keyring(indexes):
        environment.setdefault("UV_KEYRING_PROVIDER", "subprocess")
        environment["PATH"] = keyring_path(environ)
    return environment


def write_uv_configuration(
    indexes: IndexConfiguration, environ: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """Return uv's environment: :func:`uv_environment`, and for the tool of a project a file in *folder*.

    A file can have options of an index that variables can't, and keeps uv from reading other files.
    """
    if indexes.tool == "pip":
        return uv_environment(indexes, environ)
    from imagesync.indexes.pypi.uv_files import write_uv_toml

    connection = replace(indexes, index_url=None, extra_index_urls=())
    environment = uv_environment(connection, {k: v for k, v in environ.items() if k not in _UV_CONFIGURED})
    path = folder / "uv.toml"
    return environment | write_uv_toml(indexes, path) | {"UV_CONFIG_FILE": str(path)}


def build_environment(
    indexes: IndexConfiguration, environ: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """Return uv's environment for build requirements: with pip's constraints.

    As in pip, these apply to the build requirements of build requirements, too.

    Parameters
    ----------
    indexes
        The configured indexes.
    environ
        Environment variables.
    folder
        Gets the file with a project's indexes; see :func:`write_uv_configuration`.
    """
    return write_uv_configuration(indexes, environ, folder) | _constraints(indexes, environ)


def build_variables(indexes: IndexConfiguration, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of :func:`build_environment`, without those that name a file for uv."""
    return uv_environment(indexes, environ) | _constraints(indexes, environ)


def _constraints(indexes: IndexConfiguration, environ: Mapping[str, str]) -> dict[str, str]:
    constraints = [_place(entry) for entry in indexes.build_constraints]
    if not constraints:
        return {}
    return {name: " ".join([*environ.get(name, "").split(), *constraints]) for name in _UV_CONSTRAINTS}


def _place(constraints: str) -> str:
    """Return a URL or path that uv can read from any folder; a space would end the entry."""
    if "://" in constraints or constraints.startswith("file:"):
        return constraints
    path = Path(constraints).absolute()
    return path.as_uri() if " " in str(path) else str(path)


def pip_environment(indexes: IndexConfiguration, environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with *indexes* in pip's variables; pip reads the rest of its configuration itself."""
    environment = dict(environ)
    # Options of an installation would break a dry run.
    for option in ("TARGET", "PREFIX", "ROOT", "USER", "REQUIRE_VIRTUALENV", "REPORT", "DRY_RUN"):
        environment.pop(f"PIP_{option}", None)
    if indexes.timeout:
        environment.pop("PIP_DEFAULT_TIMEOUT", None)  # another name of PIP_TIMEOUT
    values = {
        "INDEX_URL": indexes.index_url,
        "EXTRA_INDEX_URL": " ".join(indexes.extra_index_urls),
        "FIND_LINKS": " ".join(indexes.find_links),
        "NO_INDEX": "1" if indexes.no_index else None,
        "CERT": indexes.cert,
        "CLIENT_CERT": indexes.client_cert,
        "TRUSTED_HOST": " ".join(indexes.trusted_hosts),
        "PROXY": indexes.proxy,
        "TIMEOUT": f"{indexes.timeout:g}" if indexes.timeout else None,
        "KEYRING_PROVIDER": indexes.keyring_provider,
        "NO_INPUT": "1",
        "DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.update({f"PIP_{key}": value for key, value in values.items() if value})
    return environment


def _index_variables(indexes: IndexConfiguration) -> Iterator[tuple[str, str]]:
    if indexes.index_url:
        yield "UV_DEFAULT_INDEX", indexes.index_url
    if indexes.extra_index_urls:
        yield "UV_INDEX", " ".join(indexes.extra_index_urls)
    if indexes.find_links:
        yield "UV_FIND_LINKS", ",".join(indexes.find_links)


def _connection_variables(
    indexes: IndexConfiguration, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    if indexes.trusted_hosts:
        yield "UV_INSECURE_HOST", " ".join(indexes.trusted_hosts)
    if indexes.client_cert:
        yield "SSL_CLIENT_CERT", indexes.client_cert
    if indexes.timeout and "UV_HTTP_TIMEOUT" not in environ:
        yield "UV_HTTP_TIMEOUT", str(max(1, int(indexes.timeout)))
    if (proxy := proxy_url(indexes)) is not None:
        for scheme in ("HTTP", "HTTPS", "ALL"):
            yield f"{scheme}_PROXY", proxy
            yield f"{scheme}_PROXY".lower(), proxy


def proxy_url(indexes: IndexConfiguration) -> str | None:
    """Return pip's proxy with its scheme, or ``None``."""
    if not indexes.proxy:
        return None
    return indexes.proxy if "://" in indexes.proxy else f"http://{indexes.proxy}"


def _ca_bundle(indexes: IndexConfiguration, environ: Mapping[str, str]) -> str | None:
    # requests, and so pip, reads these variables.
    return indexes.cert or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None


def may_use_keyring(indexes: IndexConfiguration) -> bool:
    """Return True if keyring may be asked for a password that no URL and no netrc has."""
    return indexes.keyring_provider != "disabled"


def keyring_path(environ: Mapping[str, str]) -> str:
    """Return a PATH on which ``keyring`` is found: the user's, then imagesync's own environment."""
    return os.pathsep.join((environ.get("PATH", os.defpath), str(Path(sys.executable).parent)))


def make_access(indexes: IndexConfiguration, environ: Mapping[str, str]) -> Access:
    """Return the access for fetching from the configured indexes: credentials, certificates, proxy."""
    bound = (url for binding in indexes.bound for url in binding.urls)
    pool = (indexes.index_url, *indexes.extra_index_urls, *indexes.find_links)
    urls = dict.fromkeys(url for url in (*pool, *bound) if url)
    keyring = shutil.which("keyring", path=keyring_path(environ)) if may_use_keyring(indexes) else None
    return Access(
        credentials=tuple(found for url in urls if (found := _credential(url, indexes)) is not None),
        ca_bundle=_ca_bundle(indexes, environ),
        client_certificate=indexes.client_cert or None,
        trusted_hosts=tuple(indexes.trusted_hosts),
        proxy=proxy_url(indexes),
        timeout=float(indexes.timeout or SILENCE),
        keyring=keyring,
        wording=_wording(indexes),
    )


def _wording(indexes: IndexConfiguration) -> Wording:
    logins = {
        "uv": "the index's URL, UV_INDEX_<NAME>_USERNAME and _PASSWORD, `uv auth login`, netrc and keyring",
        "pixi": "the index's URL, netrc and keyring",
        "poetry": "`poetry config http-basic`, POETRY_HTTP_BASIC_<NAME>_USERNAME and _PASSWORD, netrc and "
        "keyring",
        "pdm": "the source's URL, `pdm config pypi.<name>.username`, netrc and keyring",
    }
    if indexes.tool == "pip":
        return Wording(settings=indexes.source)
    return Wording("index", indexes.source, logins[indexes.tool], "SSL_CERT_FILE=/path/to/ca.pem")


def without_indexes(indexes: IndexConfiguration, urls: Collection[str]) -> IndexConfiguration:
    """Return *indexes* without *urls*, which have no credentials; the first one left is the main one."""

    def others(candidates: Sequence[str]) -> tuple[str, ...]:
        return tuple(url for url in candidates if strip_credentials(url) not in urls)

    extra = others(indexes.extra_index_urls)
    main = indexes.index_url
    if main is not None and not others((main,)):
        main, extra = (extra[0], extra[1:]) if extra else (None, ())
    return replace(
        indexes,
        index_url=main,
        extra_index_urls=extra,
        find_links=others(indexes.find_links),
        bound=tuple(replace(binding, urls=others(binding.urls)) for binding in indexes.bound),
        no_index=indexes.no_index or (indexes.index_url is not None and main is None),
    )


def without_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without the variables that name indexes, for resolvers that get all indexes."""
    named = {*UV_INDEXES, "UV_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"}
    return {key: value for key, value in environ.items() if key not in named} | {
        "PIP_CONFIG_FILE": os.devnull
    }


def _credential(url: str, indexes: IndexConfiguration) -> Credential | None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return None
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password is not None else None
    public = strip_credentials(url)
    options = indexes.options.get(public)
    if options is None:
        return Credential(public, username, password)
    # uv, poetry and PDM ask keyring for both.
    both = options.authenticate == "always" or bool(options.keyring_services)
    return Credential(public, username, password, options.keyring_services, username_in_keyring=both)
