"""Modules of the standard library of any scanned Python, and packages that repeat their names."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

from imagesync.plan.install_commands import uninstall_command
from imagesync.scan.environment import Environment, Finding, Package, Severity

ModuleOwners = defaultdict[str, list[tuple[Package, str]]]
"""Path of a module file in site-packages to its packages, each with what identifies the content."""

# The modules that each feature version after 3.8 removed and added.
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
    """Return the public top-level modules of the standard library of Python *minor*, such as ``3.11``.

    Modules that are newer than the running interpreter and the lists above are missing.

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


def standard_library_conflicts(owners: ModuleOwners, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each package with a module that has the name of one in the standard library."""
    standard = standard_library(environment.python.minor)
    found: defaultdict[str, set[str]] = defaultdict(set)
    packages: dict[str, Package] = {}
    for path, claims in owners.items():
        name = _module_name(path)
        if name in standard:
            for package, _ in claims:
                packages[str(package.name)] = package
                found[str(package.name)].add(name)
    for owner, shadowed in sorted(found.items()):
        package = packages[owner]
        yield Finding(
            Severity.WARNING,
            "standard-library-clash",
            f"{owner} {package.version} has {named(sorted(shadowed))}, and so has the "
            "standard library, which Python imports from first: here and in the image the package's own "
            "isn't used, except by programs that lie beside it.",
            package=owner,
            hint=f"Rename the module in {owner}."
            if package.source.editable
            else f"Uninstall it, if nothing needs it: {uninstall_command(environment, [owner])}",
        )


def _module_name(path: str) -> str:
    """Return the name of the top-level module that *path* is part of.

    >>> _module_name("json/__init__.py"), _module_name("json.py"), _module_name("_x.cpython-311.so")
    ('json', 'json', '_x')
    """
    top, inside, _ = path.partition("/")
    return top if inside else top.partition(".")[0]


def named(modules: Sequence[str]) -> str:
    """Return *modules* as a phrase for a message."""
    return f"the module{'s' if len(modules) > 1 else ''} {', '.join(modules)}"
