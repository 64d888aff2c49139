"""Manifests: files that say what is wanted and name no exact artifacts, which a lock solves for the image.

These are ``environment.yml`` of conda, ``pixi.toml``, ``pyproject.toml``, and requirements without hashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import reason_of, redact
from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name, is_valid_conda_part
from imagesync.errors import UsageError
from imagesync.indexes.configuration_files import table, texts
from imagesync.lock.lockfile.entries import chosen_names, refuse_choice
from imagesync.lock.lockfile.models import Selection, read_text
from imagesync.lock.lockfile.source_trees import directory_source
from imagesync.plan.requirements import parse_requirement

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.scan.environment import Source

_SPEC_NAME = re.compile(r"[^\s=<>!~\[]*")
_SUBDIRS = ("linux-64", "linux", "unix")
_OF_INDEXES = ("-i", "-f", "--index-url", "--extra-index-url", "--find-links", "--pre", "--trusted-host")
_UNFIT = (
    "Name a package by its name and versions, or install it and lock the environment: imagesync lock -o FILE"
)


@dataclass(frozen=True)
class Manifest:
    """What a manifest wants for the image's platform.

    Parameters
    ----------
    path
        The file.
    conda, pip
        Match specs, and requirements (PEP 508) without URLs.
    channels
        Names or URLs of conda channels, the preferred one first; empty for the user's own.
    python
        Versions of Python that will do (PEP 440); may be empty.
    projects
        By canonical name, the source trees whose wheels go in.
    """

    path: Path
    conda: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    python: str = ""
    projects: Mapping[NormalizedName, Source] = field(default_factory=dict)


def read_manifest(path: Path, selection: Selection | None = None) -> Manifest:
    """Return what the manifest at *path* wants.

    Parameters
    ----------
    path
        The file; its name says which kind it is.
    selection
        Groups, extras, or the environment to take besides the project's dependencies.

    Raises
    ------
    UsageError
        The file can't be read, or wants something that can't be solved.
    """
    text = read_text(path)
    selection = selection or Selection()
    try:
        if path.suffix in (".yml", ".yaml"):
            return _environment_yml(path, text, selection)
        if path.suffix != ".toml":
            return _requirements(path, text, selection)
        document = parse_toml(text)
        if path.name == "pyproject.toml" and not table(document, "tool", "pixi"):
            return _pyproject(path, document, selection)
        root = table(document, "tool", "pixi") if path.name == "pyproject.toml" else document
        return _pixi(path, root, selection)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason_of(error)
        raise UsageError(f"{path} can't be read: {reason}", hint="Correct it, and try again.") from error


def _environment_yml(path: Path, text: str, selection: Selection) -> Manifest:
    import yaml

    _refuse_selection(path, selection)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} isn't YAML: {reason_of(error)}", hint="Correct it.") from error
    entries = document.get("dependencies") or []
    conda = [str(entry) for entry in entries if not isinstance(entry, Mapping)]
    pip = [str(line) for entry in entries if isinstance(entry, Mapping) for line in entry.get("pip") or []]
    channels = [str(channel) for channel in document.get("channels") or [] if channel != "nodefaults"]
    return Manifest(path, tuple(_conda_specs(path, conda)), tuple(_pip(path, pip)), channels=tuple(channels))


def _requirements(path: Path, text: str, selection: Selection) -> Manifest:
    _refuse_selection(path, selection)
    joined = text.replace("\\\n", " ").splitlines()
    lines = (line.partition(" #")[0].split(" --hash")[0].strip() for line in joined)
    wanted = [
        line
        for line in lines
        if line and not line.startswith("#") and line.split("=")[0].split()[0] not in _OF_INDEXES
    ]
    return Manifest(path, pip=tuple(_pip(path, wanted)))


def _pyproject(path: Path, document: Mapping[str, Any], selection: Selection) -> Manifest:
    from packaging.dependency_groups import resolve_dependency_groups

    project, groups = table(document, "project"), table(document, "dependency-groups")
    if selection.environment:
        refuse_choice(path, "environment", (selection.environment,))
    extras = table(project, "optional-dependencies")
    wanted_groups = chosen_names(path, "group", selection.groups, groups)
    wanted_extras = chosen_names(path, "extra", selection.extras, extras)
    if "dependencies" in texts(project.get("dynamic")):
        raise UsageError(
            f"The dependencies in {path} are dynamic: only a build of the project knows them.",
            hint="Install the project, and lock the environment: imagesync lock -o FILE",
        )
    lines = [*texts(project.get("dependencies", []))]
    lines += [line for name in wanted_extras for line in texts(extras[name])]
    lines += resolve_dependency_groups(groups, *wanted_groups)
    name = project.get("name", "")
    projects = {}
    if name and "build-system" in document:
        projects[canonical_name(name)] = directory_source(path, name, ".", editable=True)
    return Manifest(
        path,
        pip=tuple(_pip(path, lines)),
        python=str(project.get("requires-python", "")),
        projects=projects,
    )


def _pixi(path: Path, document: Mapping[str, Any], selection: Selection) -> Manifest:
    if selection.groups or selection.extras:
        refuse_choice(path, "group", (*selection.groups, *selection.extras))
    workspace = table(document, "workspace") or table(document, "project")
    environments = {"default": [], **table(document, "environments")}
    (environment,) = chosen_names(path, "environment", (selection.environment or "default",), environments)
    features = list(_features(document, environments[environment]))
    scopes = [
        scope for each in features for scope in (each, *(table(each, "target", name) for name in _SUBDIRS))
    ]
    conda: dict[str, str] = {}
    pip: dict[str, str] = {}
    projects = {}
    for scope in scopes:
        conda |= {name: _conda_spec(path, name, spec) for name, spec in table(scope, "dependencies").items()}
        for name, spec in table(scope, "pypi-dependencies").items():
            if isinstance(spec, Mapping) and "path" in spec:
                source = directory_source(path, name, str(spec["path"]), editable=bool(spec.get("editable")))
                projects[canonical_name(name)] = source
            else:
                pip[name] = _pypi_requirement(path, name, spec)
    channels = [
        entry["channel"] if isinstance(entry, Mapping) else entry for entry in workspace.get("channels", [])
    ]
    return Manifest(
        path,
        tuple(_conda_specs(path, conda.values())),
        tuple(_pip(path, pip.values())),
        channels=tuple(map(str, channels)),
        projects=projects,
    )


def _features(document: Mapping[str, Any], environment: object) -> Iterator[Mapping[str, Any]]:
    names = environment.get("features", []) if isinstance(environment, Mapping) else environment
    if not (isinstance(environment, Mapping) and environment.get("no-default-feature") is True):
        yield document
    yield from (table(document, "feature", name) for name in texts(names))


def _conda_spec(path: Path, name: str, spec: object) -> str:
    if isinstance(spec, Mapping):
        if not spec.keys() <= {"version", "build", "channel"}:
            raise _unfit(path, name, "comes from its sources")
        channel = f"{spec['channel']}::" if "channel" in spec else ""
        return f"{channel}{name} {spec.get('version', '*')} {spec.get('build', '')}".strip()
    return f"{name} {spec}"


def _pypi_requirement(path: Path, name: str, spec: object) -> str:
    if isinstance(spec, Mapping):
        if not spec.keys() <= {"version", "extras", "index"}:
            raise _unfit(path, name, "comes from a URL or a repository")
        extras = f"[{','.join(texts(spec.get('extras', [])))}]" if spec.get("extras") else ""
        return _pypi_requirement(path, f"{name}{extras}", spec.get("version", "*"))
    return name if spec == "*" else f"{name}{spec}"


def _conda_specs(path: Path, specs: Iterable[str]) -> Iterator[str]:
    for spec in specs:
        if not is_valid_conda_part(_spec_name(spec)) or not spec.isprintable():
            raise _unfit(path, spec, "isn't a match spec")
        yield spec.strip()


def _pip(path: Path, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        requirement = parse_requirement(line)
        if requirement is None:
            raise _unfit(path, line, "isn't a requirement")
        if requirement.url:
            raise _unfit(path, line, "has a URL")
        yield str(requirement)


def _unfit(path: Path, entry: str, reason: str) -> UsageError:
    return UsageError(f"{path}: {redact(entry)[:100]!r} {reason}, and can't be solved.", hint=_UNFIT)


def _refuse_selection(path: Path, selection: Selection) -> None:
    refuse_choice(path, "group", (*selection.groups, *selection.extras))
    refuse_choice(path, "environment", filter(None, (selection.environment,)))


def python_specs(manifest: Manifest) -> Sequence[str]:
    """Return the match spec of the Python that *manifest* needs of conda; none if it names one itself."""
    named = "python" in map(_spec_name, manifest.conda)
    return () if named or not (manifest.pip or manifest.projects) else ("python",)


def _spec_name(spec: str) -> str:
    found = _SPEC_NAME.match(spec.rpartition("::")[2].strip())
    return found[0] if found else ""
