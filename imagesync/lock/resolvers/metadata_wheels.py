"""Wheels with metadata alone, which tell a resolver the versions and requirements of vendored packages."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from imagesync.plan.plan import PlannedPackage

_EXTRA = re.compile(r"""\bextra\s*==\s*['"]([^'"]+)['"]""")


def write_metadata_wheels(vendored: Sequence[PlannedPackage], folder: Path) -> tuple[str, ...]:
    """Write a wheel with metadata alone for each vendored package, and return requirements for them by URL.

    By URL, because then no package of the same name on an index can replace it.
    """
    requirements = []
    for package in vendored:
        stem = f"{package.name.replace('-', '_')}-{package.version}"
        path = folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{stem}.dist-info/METADATA", _metadata(package))
            archive.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        requirements.append(f"{package.name} @ {path.as_uri()}")
    return tuple(requirements)


def _without_url(line: str) -> str:
    """Return a requirement by name: a resolver would fetch what a URL names, and build it.

    What is installed from there is a vendored package, and has a stand-in of its own.

    >>> _without_url("other[fast] @ https://example.com/other.tar.gz ; python_version > '3.8'")
    'other[fast]; python_version > "3.8"'
    >>> _without_url("other>=1")
    'other>=1'
    """
    if "@" not in line:
        return line
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return line
    requirement.url = None
    return str(requirement)


def _metadata(package: PlannedPackage) -> str:
    requires = package.installed.requires if package.installed is not None else ()
    extras = sorted({extra for line in requires for extra in _EXTRA.findall(line)})
    lines = ["Metadata-Version: 2.1", f"Name: {package.name}", f"Version: {package.version}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {_without_url(line)}" for line in requires]
    return "\n".join(lines) + "\n\n"
