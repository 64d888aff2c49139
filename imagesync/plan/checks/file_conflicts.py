# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH118
"""Overlaps: files that a package of pip's has, and a conda package, too.

In the image pip's packages lie above conda's, and a build refuses to change a file of conda's. Here it is
said before anything is fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping

from imagesync.core.files import read_bytes
from imagesync.plan.checks.remedy import uninstall_command
from imagesync.plan.plan import Plan
from imagesync.scan.distributions.record import read_record
from imagesync.scan.environment import Environment, Finding, Package, Severity

_SHOWN = 3


def overlaps(plan: Plan, environment: Environment) -> Iterator[Finding]:
    """Yield a finding for each package of pip's in *plan* with files that differ from a conda package's.

    A file with the same content is no overlap.
    """
    installed = [package.installed for package in plan.packages if package.installed is not None]
    if not plan.conda or not installed:
        return
    prefix = environment.python.prefix
    wanted = {path: (package, digest) for package in installed for path, digest in _files(package, prefix)}
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in plan.conda:
        if entry.record is None:
            continue
        for path, digest in _recorded(prefix, f"{entry.name}-{entry.version}-{entry.build}").items():
            if path in wanted and wanted[path][1] != digest:
                found[entry.name, str(wanted[path][0].name)].append(path)
    for (conda, pip), paths in sorted(found.items()):
        yield _finding(conda, pip, sorted(paths), environment)


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
    try:
        return (
            base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
            if algorithm == "sha256"
            else ""
        )
    except (binascii.Error, ValueError):
        return ""


def _recorded(prefix: str, stem: str) -> Mapping[str, str]:
    """Return the files of a conda package with their sha256 in hexadecimal, empty where nothing says."""
    try:
        record = json.loads(read_bytes(os.path.join(prefix, "conda-meta", f"{stem}.json")))
        files = dict.fromkeys(record.get("files", ()), "")
        for entry in record.get("paths_data", {}).get("paths", ()):
            files[entry["_path"]] = entry.get("sha256_in_prefix") or entry.get("sha256") or ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # the scan has a finding for it
    return files


def _finding(conda: str, pip: str, paths: list[str], environment: Environment) -> Finding:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return Finding(
        Severity.ERROR,
        "conda-overlap",
        f"{pip}, which pip installed, has files of the conda package {conda} with another content "
        f"({', '.join(paths[:_SHOWN])}{more}). A build doesn't change conda's files, and would stop.",
        package=pip,
        hint=f"Uninstall {pip}: {uninstall_command(environment, [pip])}; or leave {pip} or {conda} out "
        f"(--ignore {pip}); or take both from conda.",
    )
