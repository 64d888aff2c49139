"""``direct_url.json``: where a distribution was installed from, if not by name (PEP 610).

The file belongs to whoever made the environment. What isn't exactly a URL, a commit and a folder in the tree
could be an option to git, or a transport that runs a command (``ext::``): :func:`refusal` is the one check
before git sees anything of it.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from imagesync.core.strict_json import load_json
from imagesync.scan.environment import Source

SCHEMES = ("https", "http", "ssh", "git", "file")
_COMMIT = re.compile(r"[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?")  # SHA-1 or SHA-256
_HOST = r"(?:\w[\w.-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])"
_USER = r"[A-Za-z0-9_][^\s@:/]*"
# git also takes [host:port] here.
_SCP = re.compile(rf"{_USER}@(?:{_HOST}|\[\w[\w.-]*:[0-9]+\]):[^-:].*")
_NETWORK = re.compile(rf"(?:[^-@\s][^\s]*@)?{_HOST}(?::[0-9]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_direct_url(data: bytes) -> Source:
    """Return the source that the content of a ``direct_url.json`` describes, without credentials.

    A version-controlled source that can't be fetched safely has only the reason (:attr:`Source.refused`).

    Raises
    ------
    ValueError
        It isn't JSON, or doesn't follow the direct URL data structure specification.
    """
    from imagesync.core.credentials import strip_credentials

    document = load_json(data)
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        raise ValueError("it has no url")  # noqa: TRY004  callers handle bad content, whatever is bad about it
    url = strip_credentials(document["url"])
    subdirectory = _string(document, "subdirectory")
    if "vcs_info" in document:
        information = _table(document, "vcs_info")
        vcs, commit = _string(information, "vcs"), _string(information, "commit_id")
        if not vcs or not commit:
            raise ValueError("its vcs_info names no vcs or no commit_id")
        if (reason := refusal(vcs, url, commit, subdirectory)) is not None:
            return Source(kind="vcs", vcs=vcs, refused=reason)
        return Source(
            kind="vcs",
            url=url,
            vcs=vcs,
            commit=commit,
            requested_revision=_string(information, "requested_revision"),
            subdirectory=subdirectory,
        )
    if subdirectory is not None and not is_inside_tree(subdirectory):
        raise ValueError(f"its subdirectory {subdirectory!r} isn't in the tree")
    if "archive_info" in document:
        return Source(
            kind="archive",
            url=url,
            hash=_archive_hash(_table(document, "archive_info")),
            subdirectory=subdirectory,
        )
    if "dir_info" in document:
        editable = _table(document, "dir_info").get("editable") is True
        return Source(kind="directory", url=url, editable=editable, subdirectory=subdirectory)
    raise ValueError("it has none of vcs_info, archive_info, dir_info")


def _archive_hash(information: dict[str, Any]) -> str | None:
    """Return ``<algorithm>:<hex>``, preferably of sha256."""
    hashes = information.get("hashes")
    if isinstance(hashes, dict) and hashes:
        algorithm = "sha256" if "sha256" in hashes else sorted(hashes)[0]
        return f"{algorithm}:{hashes[algorithm]}"
    algorithm, separator, digest = (_string(information, "hash") or "").partition("=")
    return f"{algorithm}:{digest}" if separator else None


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document[key]
    if not isinstance(value, dict):
        raise ValueError(f"its {key} isn't an object")  # noqa: TRY004
    return value


def _string(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def refusal(vcs: str, url: str, commit: str, subdirectory: str | None = None) -> str | None:
    """Return the reason not to fetch these sources, as the end of a sentence, or ``None``.

    Parameters
    ----------
    vcs, url, commit
        As ``direct_url.json`` names them (PEP 610).
    subdirectory
        The project's folder in the tree.

    >>> refusal("git", "https://example.com/code.git", "0" * 40) is None
    True
    >>> refusal("git", "--upload-pack=touch x;", "0" * 40)
    "its URL '--upload-pack=touch x;' isn't one of https, http, ssh, git, file, or user@host:path"
    >>> refusal("git", "git@example.com:team/code.git", "main")
    "its commit 'main' isn't 40 or 64 hexadecimal digits"
    >>> refusal("svn", "https://example.com/code", "12")
    "its sources are under 'svn', and only git's can be fetched"
    """
    if vcs != "git":
        return f"its sources are under {vcs!r}, and only git's can be fetched"
    if not _is_url(url):
        return f"its URL {url!r} isn't one of {', '.join(SCHEMES)}, or user@host:path"
    if not _COMMIT.fullmatch(commit):
        return f"its commit {commit!r} isn't 40 or 64 hexadecimal digits"
    if subdirectory is not None and not is_inside_tree(subdirectory):
        return f"its subdirectory {subdirectory!r} isn't in the tree"
    return None


def is_inside_tree(subdirectory: str) -> bool:
    r"""Return True if *subdirectory* is a relative path that stays in its tree, links aside.

    >>> [is_inside_tree(path) for path in ("python/pkg", "../other", "/etc", "C:\\x", "a/../../b")]
    [True, False, False, False, False]
    """
    parts = subdirectory.replace("\\", "/").split("/")
    return not (_CONTROL.search(subdirectory) or parts[0] == "" or ":" in parts[0] or ".." in parts)


def _is_url(url: str) -> bool:
    if _CONTROL.search(url):
        return False
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _SCP.fullmatch(url) is not None
    if scheme not in SCHEMES:
        return False
    if scheme == "file":
        return rest.startswith("/")
    # ssh takes a host, or an account, that begins with a dash for an option; git decodes both before.
    network = unquote(re.split(r"[/?#]", rest, maxsplit=1)[0])
    return _NETWORK.fullmatch(network) is not None and "@-" not in network
