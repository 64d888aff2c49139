"""``direct_url.json``: where a distribution was installed from, if not by name (PEP 610)."""

from __future__ import annotations

import json
from typing import Any

from imagesync.scan.environment import Source


def parse_direct_url(data: bytes) -> Source:
    """Return the source that the content of a ``direct_url.json`` describes, without credentials.

    Of version control that can't be fetched safely nothing is kept but the reason (:attr:`Source.refused`).

    Raises
    ------
    ValueError
        It isn't JSON, or not what the direct URL data structure specification asks for.
    """
    from imagesync.core.credentials import strip_credentials

    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        raise ValueError("it has no url")  # noqa: TRY004  callers handle bad content, whatever is bad about it
    url = strip_credentials(document["url"])
    subdirectory = _string(document, "subdirectory")
    if "vcs_info" in document:
        information = _table(document, "vcs_info")
        vcs, commit = _string(information, "vcs"), _string(information, "commit_id")
        if not vcs or not commit:
            raise ValueError("its vcs_info names no vcs or no commit_id")
        from imagesync.scan.vcs_source import refusal

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
    if subdirectory is not None:
        from imagesync.scan.vcs_source import is_inside_tree

        if not is_inside_tree(subdirectory):
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
    """Return ``<algorithm>:<hex>``, sha256 where there is a choice."""
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
