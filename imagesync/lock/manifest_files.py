"""Manifests: files that say what is wanted and name no exact artifacts, which a lock solves for the image.

These are ``environment.yml`` of conda, ``pixi.toml``, ``pyproject.toml``, and requirements without hashes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import reason_of
from imagesync.core.files import parse_toml
from imagesync.core.names import canonical_name, is_valid_conda_part
from imagesync.core.platforms import DEFAULT_PLATFORM, Platform
from imagesync.errors import UsageError
from imagesync.indexes.configuration_files import table, texts
from imagesync.lock.local_projects import (
    ProjectMetadata,
    checked_requirements,
    folder_metadata,
    project_metadata,
    refuse_uv_sources,
    unfit,
)
from imagesync.lock.lockfile.lock_entries import chosen_names, refuse_choice
from imagesync.lock.lockfile.models import Selection, read_text
from imagesync.lock.lockfile.source_trees import directory_source

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.scan.environment import Source

_SPEC_NAME = re.compile(r"[^\s=<>!~\[]*")
_EQUAL = re.compile(r"==([^,]*\.\*)")
_DEFAULT = "default"
# Of pixi, the most specific one last.
_TARGETS = ("unix", "linux")
_OF_INDEXES = re.compile(
    r"-[if]|--(index-url|extra-index-url|find-links|no-index|pre|trusted-host|prefer-binary)\b"
)
_INDEXES = (
    "Indexes are those of the user's configuration: set UV_INDEX, PIP_EXTRA_INDEX_URL or pip.conf, and "
    "take it out. A pre-release is taken if a requirement names it (lamp>=2.0rc1)."
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
    metadata
        By canonical name, what a resolver needs of these, and of a project that isn't built.
    """

    path: Path
    conda: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    python: str = ""
    projects: Mapping[NormalizedName, Source] = field(default_factory=dict)
    metadata: Mapping[NormalizedName, ProjectMetadata] = field(default_factory=dict)


def read_manifest(
    path: Path, selection: Selection | None = None, *, platform: Platform = DEFAULT_PLATFORM
) -> Manifest:
    """Return the requirements of the manifest at *path* for *platform*.

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
    from packaging.specifiers import SpecifierSet

    if not path.is_file():
        raise UsageError(
            f"{path} isn't a file, so it can't be solved.",
            hint="Name an environment.yml, pixi.toml, pyproject.toml or requirements: --from FILE",
        )
    text = read_text(path)
    selection = selection or Selection()
    try:
        if path.suffix in (".yml", ".yaml"):
            return _environment_yml(path, text, selection)
        if path.suffix != ".toml":
            return _requirements(path, text, selection)
        document = parse_toml(text)
        has_pixi = path.name == "pixi.toml" or table(document, "tool", "pixi")
        if has_pixi:
            found = _pixi(path, document, selection, platform)
        else:
            found = _pyproject(path, document, selection)
        SpecifierSet(found.python)  # a ValueError, if it is none
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason_of(error)
        raise UsageError(f"{path} can't be read: {reason}", hint="Correct it, and try again.") from error
    return found


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
    return Manifest(
        path,
        tuple(_conda_specs(path, conda)),
        tuple(checked_requirements(path, tuple(pip))),
        channels=tuple(channels),
    )


def _requirements(path: Path, text: str, selection: Selection) -> Manifest:
    _refuse_selection(path, selection)
    joined = text.replace("\\\n", " ").splitlines()
    lines = (line.partition(" #")[0].split(" --hash")[0].strip() for line in joined)
    wanted = [line for line in lines if line and not line.startswith("#")]
    if found := next(filter(None, map(_OF_INDEXES.match, wanted)), None):
        raise UsageError(f"{path} has the option {found[0]}, which isn't applied.", hint=_INDEXES)
    return Manifest(path, pip=tuple(checked_requirements(path, tuple(wanted))))


def _pyproject(path: Path, document: Mapping[str, Any], selection: Selection) -> Manifest:
    from packaging.dependency_groups import resolve_dependency_groups

    project, groups = table(document, "project"), table(document, "dependency-groups")
    if selection.environment:
        refuse_choice(path, "environment", (selection.environment,))
    if not project and not groups:
        raise UsageError(
            f"{path} has neither [project] nor [dependency-groups], where dependencies stand.",
            hint="Export requirements with the project's tool, and solve these: imagesync lock --from FILE",
        )
    extras = table(project, "optional-dependencies")
    wanted_groups = chosen_names(path, "group", selection.groups, groups)
    wanted_extras = chosen_names(path, "extra", selection.extras, extras)
    known = project_metadata(path, document)
    lines = [*texts(project.get("dependencies", []))]
    lines += [line for name in wanted_extras for line in texts(extras[name])]
    lines += resolve_dependency_groups(groups, *wanted_groups)
    pip = tuple(checked_requirements(path, tuple(lines)))
    refuse_uv_sources(path, document, list(pip))
    name = project.get("name", "")
    projects = {}
    if name and "build-system" in document:
        projects[canonical_name(name)] = directory_source(path, name, ".", editable=True)
    metadata = {canonical_name(name): known} if name else {}
    return Manifest(path, pip=pip, python=known.python, projects=projects, metadata=metadata)


def _pixi(path: Path, document: Mapping[str, Any], selection: Selection, platform: Platform) -> Manifest:
    """Return the requirements of pixi.toml, or tool.pixi of a pyproject.toml, whose extras are features."""
    is_pyproject = path.name == "pyproject.toml"
    root = table(document, "tool", "pixi") if is_pyproject else document
    if selection.groups or selection.extras:
        refuse_choice(path, "group", (*selection.groups, *selection.extras))
    workspace = table(root, "workspace") or table(root, "project")
    environments = {"default": [], **table(root, "environments")}
    (environment,) = chosen_names(path, "environment", (selection.environment or "default",), environments)
    known = project_metadata(path, document) if table(document, "project") and is_pyproject else None
    conda: dict[str, None] = {}
    pip: dict[str, None] = {}
    projects: dict[NormalizedName, Source] = {}
    metadata: dict[NormalizedName, ProjectMetadata] = {}
    if known is not None and (own := table(document, "project").get("name")):
        metadata[canonical_name(own)] = known
    standard = _standard_features(document) if is_pyproject else {}
    for name, feature in _features(path, root, environments[environment], standard):
        _refuse_places(path, name, feature, workspace)
        pip |= dict.fromkeys(standard.get(canonical_name(name), ()))
        conda |= dict.fromkeys(
            _conda_spec(path, each, spec)
            for key in ("dependencies", "host-dependencies", "build-dependencies")
            for each, spec in _by_platform(feature, key, platform).items()
        )
        for each, spec in _by_platform(feature, "pypi-dependencies", platform).items():
            if not (isinstance(spec, Mapping) and "path" in spec):
                pip[_pypi_requirement(path, each, spec)] = None
                continue
            source = directory_source(path, each, str(spec["path"]), editable=bool(spec.get("editable")))
            projects[canonical_name(each)] = source
            metadata[canonical_name(each)] = folder_metadata(path.parent / str(spec["path"]), each)
            if "extras" in spec:
                pip[f"{each}[{','.join(texts(spec['extras']))}]"] = None
    lines = tuple(checked_requirements(path, tuple(pip)))
    refuse_uv_sources(path, document, list(lines))
    return Manifest(
        path,
        tuple(_conda_specs(path, conda)),
        lines,
        channels=tuple(_channels(workspace.get("channels", []))),
        python=",".join(dict.fromkeys(each.python for each in metadata.values() if each.python)),
        projects=projects,
        metadata=metadata,
    )


def _standard_features(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the requirements of the features that pixi makes of a pyproject.toml's own tables."""
    from packaging.dependency_groups import resolve_dependency_groups

    project, groups = table(document, "project"), table(document, "dependency-groups")
    found = {_DEFAULT: list(texts(project.get("dependencies", [])))}
    for name, lines in table(project, "optional-dependencies").items():
        found.setdefault(canonical_name(name), []).extend(texts(lines))
    for name in groups:
        found.setdefault(canonical_name(name), []).extend(resolve_dependency_groups(groups, name))
    return found


def _by_platform(feature: Mapping[str, Any], key: str, platform: Platform) -> dict[str, Any]:
    """Return a table of a feature, with what its targets say of *platform* instead."""
    found = table(feature, key)
    for target in (*_TARGETS, platform.subdir):
        found |= table(feature, "target", target, key)
    return found


def _channels(entries: Sequence[Any]) -> list[str]:
    """Return the channels of pixi by priority, which is 0 where it isn't named."""
    named = [entry if isinstance(entry, Mapping) else {"channel": entry} for entry in entries]
    return [str(entry["channel"]) for entry in sorted(named, key=lambda each: -int(each.get("priority", 0)))]


def _refuse_places(path: Path, name: str, feature: Mapping[str, Any], workspace: Mapping[str, Any]) -> None:
    """Check that a feature names no channels and no indexes of its own.

    Raises
    ------
    UsageError
        It does.
    """
    has = "The workspace" if name == _DEFAULT else f"The feature {name}"
    options = {
        **table(feature, "pypi-options"),
        **(table(workspace, "pypi-options") if name == _DEFAULT else {}),
    }
    if options:
        raise UsageError(
            f"{path}: {has} has pypi-options ({', '.join(options)}), which aren't applied.",
            hint=_INDEXES,
        )
    own = feature.get("channels")
    if own is not None and name != _DEFAULT and _channels(own) != _channels(workspace.get("channels", [])):
        raise UsageError(
            f"{path}: {has} has channels of its own, which aren't applied.",
            hint="Lock with pixi, and build from that: pixi lock; imagesync build --locked pixi.lock",
        )


def _features(
    path: Path, root: Mapping[str, Any], environment: object, others: Collection[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and table of each feature of an environment, the default one first.

    *others* are features without a table of pixi's.

    Raises
    ------
    UsageError
        One isn't there.
    """
    names = environment.get("features", []) if isinstance(environment, Mapping) else environment
    if not (isinstance(environment, Mapping) and environment.get("no-default-feature") is True):
        yield _DEFAULT, root
    own = table(root, "feature")
    for name in chosen_names(path, "feature", texts(names), {*own, *others}):
        yield name, table(own, name)


def _conda_spec(path: Path, name: str, spec: object) -> str:
    if isinstance(spec, Mapping):
        if not spec.keys() <= {"version", "build", "channel"}:
            raise unfit(path, name, "comes from its sources")
        channel = f"{spec['channel']}::" if "channel" in spec else ""
        return f"{channel}{name} {spec.get('version', '*')} {spec.get('build', '')}".strip()
    return f"{name} {spec}"


def _pypi_requirement(path: Path, name: str, spec: object) -> str:
    if isinstance(spec, Mapping):
        if "index" in spec:
            raise unfit(path, name, "comes from an index of its own")
        if not spec.keys() <= {"version", "extras"}:
            raise unfit(path, name, "comes from a URL or a repository")
        extras = f"[{','.join(texts(spec.get('extras', [])))}]" if spec.get("extras") else ""
        return _pypi_requirement(path, f"{name}{extras}", spec.get("version", "*"))
    return name if spec == "*" else f"{name}{spec}"


def _conda_specs(path: Path, specs: Iterable[str]) -> Iterator[str]:
    for spec in specs:
        if not is_valid_conda_part(_spec_name(spec)) or not spec.isprintable():
            raise unfit(path, spec, "isn't a match spec")
        yield spec.strip()


def _refuse_selection(path: Path, selection: Selection) -> None:
    refuse_choice(path, "group", (*selection.groups, *selection.extras))
    refuse_choice(path, "environment", filter(None, (selection.environment,)))


def python_specs(manifest: Manifest) -> Sequence[str]:
    """Return the match spec of the Python that *manifest* needs of conda; none if it names one itself."""
    named = "python" in map(_spec_name, manifest.conda)
    if named or not (manifest.pip or manifest.projects):
        return ()
    # conda has "3.11.*" for PEP 440's "==3.11.*".
    versions = _EQUAL.sub(r"\1", manifest.python.replace(" ", ""))
    return (f"python {versions}".strip(),)


def _spec_name(spec: str) -> str:
    found = _SPEC_NAME.match(spec.rpartition("::")[2].strip())
    return found[0] if found else ""
