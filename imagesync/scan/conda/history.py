# Paths stay strings: a Path costs more than reading the small file that it names.
# ruff: noqa: PTH118
"""What a user asked conda for, as conda itself remembers it: ``conda-meta``'s ``history`` and ``pinned``."""

from __future__ import annotations

import ast
import os
import re

from imagesync.core.credentials import strip_credentials_in
from imagesync.core.files import read_bytes

_COMMENT = re.compile(r"#\s*(?P<action>\w+)\s+specs:\s*(?P<specs>.+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ADDING = frozenset({"update", "install", "create", "neutered"})


def requested_specs(prefix: str) -> dict[str, str]:
    """Return the match spec of each package that a user has asked for, by its conda name.

    Source: conda's ``history.py``; a later entry about a package takes the place of an earlier one.
    """
    try:
        text = read_bytes(os.path.join(prefix, "conda-meta", "history")).decode("utf-8", "replace")
    except OSError:
        return {}
    requested: dict[str, str] = {}
    for match in _COMMENT.finditer(text):
        for spec in _specs(match["specs"].strip()):
            name = spec_name(spec)
            if match["action"] in _ADDING:
                requested[name] = strip_credentials_in(spec)
            elif match["action"] in ("remove", "uninstall"):
                requested.pop(name, None)
    return {name: spec for name, spec in requested.items() if name}


def pinned_specs(prefix: str) -> tuple[str, ...]:
    """Return the match specs in ``conda-meta/pinned``, which hold for whatever conda installs there.

    Source: conda's ``core/solve.py``, ``get_pinned_specs``.
    """
    try:
        text = read_bytes(os.path.join(prefix, "conda-meta", "pinned")).decode("utf-8", "replace")
    except OSError:
        return ()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(strip_credentials_in(line) for line in lines if line)


def spec_name(spec: str) -> str:
    """Return the package's name in a match spec, or nothing.

    >>> spec_name("conda-forge/linux-64::numpy==1.26.4=py311_0"), spec_name("Python >=3.11")
    ('numpy', 'python')
    """
    match = _NAME.match(spec.rpartition("::")[2].strip())
    return match[0].lower() if match else ""


def _specs(text: str) -> list[str]:
    """Return the specs of one line: a list as Python writes it, or in old files words with commas."""
    if text.startswith("["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return []
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    return [item.strip() for item in text.split(",") if item.strip()]
