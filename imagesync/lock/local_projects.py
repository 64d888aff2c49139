"""The metadata of local projects that a manifest names, as their ``pyproject.toml`` has it: nothing is built.

A resolver takes their dependencies and extras from there, those that refer to the project itself included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesync.core.credentials import reason_of, redact
from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name
from imagesync.errors import UsageError
from imagesync.indexes.configuration_files import table, texts
from imagesync.plan.requirements import parse_requirement

_INSTALL_IT = "Install the project, and lock the environment: imagesync lock -o FILE"
_UNFIT = (
    "Name a package by its name and versions, or install it and lock the environment: imagesync lock -o FILE"
)


@dataclass(frozen=True)
class ProjectMetadata:
    """What a resolver needs of a local project.

    Parameters
    ----------
    version
        Its version; ``0`` if only a build knows it.
    requires
        ``Requires-Dist`` lines, those of extras included.
    python
        ``Requires-Python``; may be empty.
    """

    version: str = "0"
    requires: tuple[str, ...] = ()
    python: str = ""


def folder_metadata(folder: Path, name: str) -> ProjectMetadata:
    """Return the metadata of the project *name* in *folder*.

    Raises
    ------
    UsageError
        Only a build knows its dependencies, or it can't be read.
    """
    path = folder / "pyproject.toml"
    try:
        document = parse_toml(path.read_text("utf-8"))
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {reason_of(error)}", hint="Correct it.") from error
    if not table(document, "project"):
        raise UsageError(
            f"The dependencies of {name} in {folder} aren't in [project]: only a build of it knows them.",
            hint=_INSTALL_IT,
        )
    return project_metadata(path, document)


def project_metadata(path: Path, document: Mapping[str, Any]) -> ProjectMetadata:
    """Return the metadata in *document*, the ``pyproject.toml`` at *path*.

    Raises
    ------
    UsageError
        Dependencies are dynamic, come from a URL or from elsewhere, or aren't valid.
    """
    project = table(document, "project")
    dynamic = texts(project.get("dynamic", []))
    if unknown := [key for key in ("dependencies", "optional-dependencies") if key in dynamic]:
        raise UsageError(
            f"The {unknown[0]} in {path} are dynamic: only a build of the project knows them.",
            hint=_INSTALL_IT,
        )
    requires = list(checked_requirements(path, texts(project.get("dependencies", []))))
    for extra, lines in table(project, "optional-dependencies").items():
        checked = checked_requirements(path, texts(lines))
        requires += [_of_extra(line, canonical_name(extra)) for line in checked]
    refuse_uv_sources(path, document, requires)
    return ProjectMetadata(
        version=str(project.get("version", "0")),
        requires=tuple(requires),
        python=str(project.get("requires-python", "")),
    )


def checked_requirements(path: Path, lines: tuple[str, ...]) -> Iterator[str]:
    """Yield *lines* as requirements without URLs (PEP 508).

    Raises
    ------
    UsageError
        One isn't, or has a URL.
    """
    for line in lines:
        requirement = parse_requirement(line)
        if requirement is None:
            raise unfit(path, line, "isn't a requirement")
        if requirement.url:
            raise unfit(path, line, "has a URL")
        yield str(requirement)


def refuse_uv_sources(path: Path, document: Mapping[str, Any], requirements: list[str]) -> None:
    """Check that none of *requirements* has another source by ``tool.uv``, and that it changes no versions.

    Raises
    ------
    UsageError
        One has, or it does.
    """
    options = table(document, "tool", "uv")
    for key in ("override-dependencies", "constraint-dependencies", "exclude-dependencies"):
        if options.get(key):
            raise UsageError(
                f"{path} has tool.uv.{key}, which isn't applied.",
                hint="Lock with uv, and build from its lock file: uv lock; imagesync build --locked uv.lock",
            )
    sources = {canonical_name(name) for name in table(options, "sources")}
    for line in requirements:
        requirement = parse_requirement(line)
        if requirement is not None and canonical_name(requirement.name) in sources:
            raise UsageError(
                f"{path}: {requirement.name} has a source in tool.uv.sources, which isn't applied.",
                hint="Lock with uv, and build from its lock file: uv lock; imagesync build --locked uv.lock",
            )


def unfit(path: Path, entry: str, reason: str) -> UsageError:
    """Return the error for an *entry* of a manifest that can't be solved."""
    return UsageError(f"{path}: {redact(entry)[:100]!r} {reason}, and can't be solved.", hint=_UNFIT)


def _of_extra(line: str, extra: str) -> str:
    requirement, semicolon, marker = line.partition(";")
    condition = f'extra == "{extra}"'
    return (
        f"{requirement}; ({marker.strip()}) and {condition}" if semicolon else f"{requirement}; {condition}"
    )
