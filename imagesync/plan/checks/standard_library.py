"""The names of the standard library's modules, for any Python that can be scanned."""

from __future__ import annotations

import sys

# What each feature version after 3.8 removed, and what it brought.
_REMOVED = {
    (3, 9): "dummy_threading",
    (3, 10): "formatter parser symbol",
    (3, 11): "binhex",
    (3, 12): "asynchat asyncore distutils imp smtpd",
    (3, 13): "aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes "
    "sndhdr spwd sunau telnetlib uu xdrlib",
}
_ADDED = {
    (3, 9): "graphlib zoneinfo",
    (3, 11): "tomllib",
    (3, 14): "annotationlib compression",
}


def standard_library(minor: str) -> frozenset[str]:
    """Return the top-level modules of the standard library of Python *minor*, such as ``3.11``.

    Private ones (``_ssl``) are left out. What is newer than this interpreter and the lists above isn't known.

    >>> [sorted({"tomllib", "imp"} & standard_library(minor)) for minor in ("3.10", "3.11", "3.12")]
    [['imp'], ['imp', 'tomllib'], ['tomllib']]
    """
    major, feature = (int(part) for part in minor.split("."))
    version = (major, feature)
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    for since, removed in _REMOVED.items():
        names = names - set(removed.split()) if version >= since else names | set(removed.split())
    for since, added in _ADDED.items():
        names = names | set(added.split()) if version >= since else names - set(added.split())
    return frozenset(names)
