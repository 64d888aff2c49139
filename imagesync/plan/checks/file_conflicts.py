# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH118
"""File conflicts: files that two packages have with different content.

All packages of the image share one folder, and of each file only one version can be there. Here conflicts are
found from what the installed packages record, before anything is fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.digests import file_hexdigest, sha256_of_json
from imagesync.core.files import read_bytes
from imagesync.core.stat_cache import state_of
from imagesync.core.text import first_of
from imagesync.plan.checks.modules import (
    ModuleOwners,
    module_name,
    modules,
    named,
    standard_library,
    standard_library_conflicts,
)
from imagesync.plan.checks.sources import missing_sources, unmet_requirements
from imagesync.plan.install_commands import uninstall_command
from imagesync.plan.plan import Plan
from imagesync.scan.distributions.metadata import read_record
from imagesync.scan.environment import Environment, Finding, Package, Severity

_FORMAT = 1
_SHOWN = 3
# An __init__.py with one of these belongs to a namespace package of an old style (packaging guide).
_NAMESPACE = (b"declare_namespace", b"extend_path")


def check_files(plan: Plan, environment: Environment, *, cache: Path | None = None) -> tuple[Finding, ...]:
    """Return the findings about the files of *plan*: source trees missing or changed, and file conflicts.

    Parameters
    ----------
    cache
        The folder that keeps which modules conflict while no RECORD changes; ``None`` for none.
    """
    installed = [package.installed for package in plan.packages if package.installed is not None]
    owners = _conflicting_modules(installed, environment, cache)
    return (
        *missing_sources(plan, environment),
        *unmet_requirements(plan, environment),
        *_module_conflicts(owners, environment),
        *standard_library_conflicts(owners, environment),
        *_conda_file_conflicts(plan, installed, environment),
    )


def _conflicting_modules(
    installed: Sequence[Package], environment: Environment, cache: Path | None
) -> ModuleOwners:
    """Return the modules that several packages have, or a package and the standard library."""
    editable = {package.name: modules(package) for package in installed if package.source.editable}
    # Installers write another RECORD each time.
    recorded = [package for package in installed if package.has_record and package.name not in editable]
    state = state_of(f"{package.metadata_path}/RECORD" for package in recorded)
    key = [_FORMAT, environment.python.minor, editable, [package.name for package in recorded], state]
    entry = cache_path(cache, "module conflicts", environment.python.prefix) if cache and state else None
    known = read_cache(entry, key=key) if entry is not None else None
    if known is None:
        claims: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for package in installed:
            for path, content in (editable.get(package.name) or modules(package)).items():
                claims[path].append((package.name, content))
        standard = standard_library(environment.python.minor)
        known = {
            path: each for path, each in claims.items() if len(each) > 1 or module_name(path) in standard
        }
        if entry is not None:
            write_cache(entry, known, key=key)
    packages = {str(package.name): package for package in installed}
    return {path: [(packages[name], content) for name, content in each] for path, each in known.items()}


def conflicting_files(packages: Iterable[Package]) -> Mapping[str, str]:
    """Return the files that several of *packages* have with different content, as they are installed.

    Of an editable package only its modules count: the installed file is imported before them.

    Returns
    -------
    Mapping
        Path relative to site-packages, with ``/``, to the sha256 of the installed file in hexadecimal.
        Files that aren't installed, such as those of two editable packages, are omitted.
    """
    recorded: dict[str, str] = {}
    folders: dict[str, str] = {}
    conflicts: set[str] = set()
    for package in packages:
        for path, content in _recorded_files(package).items():
            if recorded.setdefault(path, content) != content:
                conflicts.add(path)
            if not package.source.editable:
                folders[path] = package.location
    found = {path: _sha256(Path(folders[path], path)) for path in conflicts if path in folders}
    return {path: sha256 for path, sha256 in sorted(found.items()) if sha256}


def with_file_conflicts(packages_hash: str, files: Mapping[str, str]) -> str:
    """Return the hash of a packages image that has the conflicting *files* as they are installed here."""
    if not files:
        return packages_hash
    return sha256_of_json([packages_hash, sorted(files.items())])


def are_installed(files: Mapping[str, str], packages: Iterable[Package]) -> bool:
    """Return True if the conflicting *files* are installed beside *packages* with the same content."""
    folders = {package.location for package in packages if package.location}
    return all(
        any(_sha256(Path(folder, path)) == sha256 for folder in folders) for path, sha256 in files.items()
    )


def _recorded_files(package: Package) -> Mapping[str, str]:
    if package.source.editable:
        return modules(package)
    if not package.has_record:
        return {}
    return {
        path: recorded
        for path, recorded, _ in read_record(package.metadata_path)
        if recorded and ".dist-info/" not in path and not path.startswith(("../", "/")) and path.isprintable()
    }


def _sha256(path: Path) -> str:
    try:
        return file_hexdigest(path)
    except OSError:
        return ""


def _module_conflicts(owners: ModuleOwners, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each two packages with the same modules.

    Portions of a namespace package don't conflict, nor do files with the same content.
    """
    pairs: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    packages: dict[str, Package] = {}
    for path, claims in owners.items():
        if len(claims) > 1 and _differ(path, claims):
            packages |= {str(package.name): package for package, _ in claims}
            pairs[tuple(sorted({str(package.name) for package, _ in claims}))].append(path)
    for names, paths in sorted(pairs.items()):
        if len(names) > 1:
            yield _module_conflict([packages[name] for name in names], sorted(paths), environment)


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


def _module_conflict(packages: list[Package], paths: list[str], environment: Environment) -> Finding:
    versions = [f"{package.name} {package.version}" for package in packages]
    tops = sorted({path.partition("/")[0].removesuffix(".py") for path in paths})
    # Uninstalling a package removes its files, whichever package wrote them last.
    remedy = "Uninstall them, and install again the one that you need: "
    editable = [str(package.name) for package in packages if package.source.editable]
    if editable:
        remedy = f"Rename what {' and '.join(editable)} has, or uninstall one of them: "
    return Finding(
        Severity.WARNING,
        "module-clash",
        f"{' and '.join(versions)} both have {named(tops)} ({first_of(paths, _SHOWN)}). "
        "Only one of each can be in the image: the one that is installed here, if a wheel has it.",
        package=str(packages[0].name),
        hint=remedy + uninstall_command(environment, [str(package.name) for package in packages]),
    )


def _conda_file_conflicts(
    plan: Plan, installed: Iterable[Package], environment: Environment
) -> Iterator[Finding]:
    """Yield a finding for each package of pip with files that differ from those of a conda package.

    In the image pip's packages lie above conda's, and a build refuses to change a file of a conda package.
    """
    if not plan.conda:
        return
    prefix = environment.python.prefix
    files = {path: (package, digest) for package in installed for path, digest in _files(package, prefix)}
    if not files:
        return
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in plan.conda:
        if entry.record is None:
            continue
        for path, digest in _conda_files(prefix, f"{entry.name}-{entry.version}-{entry.build}").items():
            if path in files and files[path][1] != digest:
                found[entry.name, str(files[path][0].name)].append(path)
    for (conda, pip), paths in sorted(found.items()):
        yield Finding(
            Severity.ERROR,
            "conda-overlap",
            f"{pip}, which pip installed, has files of the conda package {conda} with another content "
            f"({first_of(sorted(paths), _SHOWN)}). A build doesn't change conda's files, and would stop.",
            package=pip,
            hint=f"Uninstall {pip}: {uninstall_command(environment, [pip])}; or leave {pip} or {conda} out "
            f"(--ignore {pip}); or take both from conda.",
        )


def _files(package: Package, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a package, relative to *prefix*, each with its sha256 in hexadecimal."""
    if not package.has_record:
        return
    for path, digest, _ in read_record(package.metadata_path):
        if not path.endswith(".pyc"):
            full = os.path.normpath(os.path.join(package.location, path))
            yield os.path.relpath(full, prefix).replace(os.sep, "/"), _hex(digest)


def _hex(digest: str) -> str:
    algorithm, _, encoded = digest.partition("=")
    if algorithm != "sha256":
        return ""
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    except (binascii.Error, ValueError):
        return ""


def _conda_files(prefix: str, stem: str) -> Mapping[str, str]:
    """Return the files of a conda package, each with its sha256 in hexadecimal, or empty if unknown."""
    try:
        record = json.loads(read_bytes(os.path.join(prefix, "conda-meta", f"{stem}.json")))
        files = dict.fromkeys(record.get("files", ()), "")
        for entry in record.get("paths_data", {}).get("paths", ()):
            files[entry["_path"]] = entry.get("sha256_in_prefix") or entry.get("sha256") or ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # the scan reports it
    return files
