"""Clashes: modules that two distributions have, or that the standard library has already.

All packages share one folder in the image. Of two files with one path only one can be there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from imagesync.plan.checks.modules import modules
from imagesync.plan.checks.remedy import uninstall_command
from imagesync.plan.checks.standard_library import standard_library
from imagesync.plan.plan import Plan
from imagesync.scan.environment import Environment, Finding, Package, Severity

# What makes an __init__.py one of a namespace package in the two old styles (packaging guide).
_NAMESPACE = (b"declare_namespace", b"extend_path")


def clashes(plan: Plan, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each two packages of *plan* with the same modules, and for each standard module.

    Portions of a namespace package don't clash, nor do files with the same content.
    """
    installed = [package.installed for package in plan.packages if package.installed is not None]
    owners: defaultdict[str, list[tuple[Package, str]]] = defaultdict(list)
    for package in installed:
        for path, content in modules(package).items():
            owners[path].append((package, content))
    yield from _shared(owners, environment)
    yield from _standard(owners, standard_library(plan.python.minor), environment)


def _shared(owners: Mapping[str, list[tuple[Package, str]]], environment: Environment) -> Iterator[Finding]:
    pairs: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    packages: dict[str, Package] = {}
    for path, claims in owners.items():
        if len(claims) > 1 and _differ(path, claims):
            packages |= {str(package.name): package for package, _ in claims}
            pairs[tuple(sorted({str(package.name) for package, _ in claims}))].append(path)
    for names, paths in sorted(pairs.items()):
        if len(names) > 1:
            yield _clash([packages[name] for name in names], sorted(paths), environment)


def _differ(path: str, claims: list[tuple[Package, str]]) -> bool:
    if len({content for _, content in claims}) == 1 and claims[0][1]:
        return False
    if not path.endswith("__init__.py"):
        return True
    return not any(_declares_namespace(package, path, content) for package, content in claims)


def _declares_namespace(package: Package, path: str, content: str) -> bool:
    # Of an editable package the content is the path of the file.
    file = Path(content) if package.source.editable else Path(package.location, path)
    try:
        text = file.read_bytes()
    except OSError:
        return False
    return any(word in text for word in _NAMESPACE)


def _clash(packages: list[Package], paths: list[str], environment: Environment) -> Finding:
    named = [f"{package.name} {package.version}" for package in packages]
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    tops = sorted({path.partition("/")[0].removesuffix(".py") for path in paths})
    # What is uninstalled takes the files with it, whoever wrote them last.
    remedy = "Uninstall them, and install again the one that you need: "
    editable = [str(package.name) for package in packages if package.source.editable]
    if editable:
        remedy = f"Rename what {' and '.join(editable)} has, or uninstall one of them: "
    return Finding(
        Severity.WARNING,
        "module-clash",
        f"{' and '.join(named)} both have {_named(tops)} ({shown}). "
        "Only one of each can be in the image: the one that is installed here, if a wheel has it.",
        package=str(packages[0].name),
        hint=remedy + uninstall_command(environment, [str(package.name) for package in packages]),
    )


def _standard(
    owners: Mapping[str, Iterable[tuple[Package, str]]], names: frozenset[str], environment: Environment
) -> Iterator[Finding]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    packages: dict[str, Package] = {}
    for path, claims in owners.items():
        name = _module_name(path)
        if name in names:
            for package, _ in claims:
                packages[str(package.name)] = package
                found[str(package.name)].add(name)
    for owner, shadowed in sorted(found.items()):
        package = packages[owner]
        yield Finding(
            Severity.WARNING,
            "standard-library-clash",
            f"{owner} {package.version} has {_named(sorted(shadowed))}, and so has the "
            "standard library, which Python imports from first: here and in the image the package's own "
            "isn't used, except by programs that lie beside it.",
            package=owner,
            hint=f"Rename the module in {owner}."
            if package.source.editable
            else f"Uninstall it, if nothing needs it: {uninstall_command(environment, [owner])}",
        )


def _module_name(path: str) -> str:
    """Return the name of the top-level module that *path* is or is in.

    >>> _module_name("json/__init__.py"), _module_name("json.py"), _module_name("_x.cpython-311.so")
    ('json', 'json', '_x')
    """
    top, inside, _ = path.partition("/")
    return top if inside else top.partition(".")[0]


def _named(modules: Sequence[str]) -> str:
    return f"the module{'s' if len(modules) > 1 else ''} {', '.join(modules)}"
