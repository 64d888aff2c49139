"""Parts of conda packages, and the files that are generated for all of them: records, history, activation."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.scratch import scratch_folder
from imagesync.errors import RenderError
from imagesync.image.layers.conda_files import CondaFiles, InstalledFile, conda_record
from imagesync.image.layers.entries import Entry, file_entry
from imagesync.image.layers.grouping import Kind, Package
from imagesync.image.layers.parts import PartRequest, part_inputs
from imagesync.image.layers.paths import check_kinds, check_paths
from imagesync.image_layout import PREFIX
from imagesync.lock.conda.archive_files import archive_stem, extract_archive
from imagesync.standalone.image.conda_records import (
    activation_command,
    bytecode_path,
    history,
    variables_script,
)

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.image.conda.layer import CondaPackages
    from imagesync.image.layers.parts import Part
    from imagesync.lock.conda.archive_files import ArchiveFiles
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.store.store import Store, StoredFile

_FORMAT: Final = 1  # raised when the same archive would give other facts
_VARIABLES: Final = "etc/conda/env_vars.d/"


@dataclass(frozen=True)
class CondaFacts:
    """What the generated files need of a package's files.

    Parameters
    ----------
    index
        The archive's ``info/index.json``.
    records
        What the prefix record has of each file, by its path.
    installed
        Digest and size of each regular file.
    links
        The target of each link.
    variables
        The content of the files that declare variables.
    """

    index: Mapping[str, Any] = field(default_factory=dict)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    installed: dict[str, tuple[str, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CondaFacts:
        """Return the facts that ``vars()`` of them has, or a cache.

        Raises
        ------
        LookupError, TypeError, ValueError, AttributeError
            It is malformed.
        """
        installed = {str(path): (str(each[0]), int(each[1])) for path, each in document["installed"].items()}
        return cls(
            dict(document["index"]),
            {str(path): dict(record) for path, record in document["records"].items()},
            installed,
            {str(path): str(target) for path, target in document["links"].items()},
            {str(path): str(text) for path, text in document["variables"].items()},
        )

    def add(self, file: InstalledFile) -> None:
        """Add a file of the package."""
        if file.record:
            self.records[file.path] = file.record
        if file.entry.kind == "symlink":
            self.links[file.path] = file.entry.target
        elif file.sha256:
            self.installed[file.path] = file.sha256, file.entry.size
        if file.path.startswith(_VARIABLES) and file.path.endswith(".json"):
            self.variables[file.path] = b"".join(file.entry.read()).decode(errors="replace")


@dataclass(frozen=True)
class KnownConda:
    """A conda package whose archive isn't here: another build has made its part, and listed its files.

    Parameters
    ----------
    archive
        Where the archive would be in the store.
    distributions
        The names of its Python distributions.
    content
        The files in the archive.
    facts
        What the generated files need of it.
    make
        Returns the part that follows from certain inputs.
    """

    archive: StoredFile
    distributions: tuple[NormalizedName, ...]
    content: ArchiveFiles = field(repr=False)
    facts: CondaFacts = field(repr=False)
    make: Callable[[str], Part] = field(repr=False)


@dataclass(frozen=True)
class CondaPart:
    """A conda package that becomes a part.

    Parameters
    ----------
    locked, archive
        The package, and its archive.
    bytecode
        The archive of its compiled modules; ``None`` if they weren't compiled.
    minor
        The feature version of the environment's Python.
    store
        Keeps what the generated files need of it.
    excluded
        Paths below the prefix that are installed from another package.
    modes
        The mode of each path that doesn't have the archive's.
    source
        A digest of what the part follows from, besides *excluded* and *modes*, its place among it; see
        :attr:`~imagesync.image.layers.parts.PartRequest.inputs`.
    known
        What is known of the package if the archive isn't here.
    """

    locked: LockedConda
    archive: StoredFile
    bytecode: StoredFile | None
    minor: str
    store: Store
    excluded: frozenset[str] = frozenset()
    modes: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    known: KnownConda | None = None

    @property
    def package(self) -> Package:
        """Return the package, which decides the place of the part; Python is in the interpreter's."""
        name = self.locked.name
        kind: Kind = "interpreter" if name == "python" else "conda"
        return Package(name, kind, self.archive.size, is_native=self.locked.subdir != "noarch")

    @property
    def request(self) -> PartRequest:
        """Return the request for the part."""
        modes = [f"{path} {mode:o}" for path, mode in sorted(self.modes.items())]
        key = (*self._key, *sorted(self.excluded), *modes)
        inputs = part_inputs(self.source, self.excluded.union(modes))
        make = None if self.known is None else self.known.make
        return PartRequest(f"{self.locked.name} {self.locked.version}", key, self._entries, inputs, make)

    def facts(self) -> CondaFacts:
        """Return the facts for the generated files, from the store or from the archive."""
        if self.known is not None:
            return self.known.facts
        known = self.store.recall(self._facts_key)
        if known is None:
            for _ in self._entries():
                pass
            known = self.store.recall(self._facts_key)
        assert known is not None  # noqa: S101  it is kept with the last entry
        return CondaFacts.from_dict(json.loads(known.path.read_bytes()))

    @property
    def _key(self) -> tuple[str, ...]:
        bytecode = self.bytecode.digest if self.bytecode is not None else ""
        return ("conda", self.archive.digest, bytecode, str(PREFIX), self.minor)

    @property
    def _facts_key(self) -> str:
        return f"conda-facts {_FORMAT} {' '.join(self._key)}"

    def _entries(self) -> Iterator[Entry]:
        """Yield the files that aren't excluded, and keep the facts of all of them."""
        with scratch_folder("conda") as folder:
            files = CondaFiles(
                extract_archive(self.archive, folder),
                filename=self.archive.filename,
                minor=self.minor,
                is_python=self.locked.noarch == "python",
                bytecode=self.bytecode,
            )
            facts = CondaFacts(files.index)
            for file in files:
                facts.add(file)
                if file.path not in self.excluded:
                    yield replace(file.entry, mode=self.modes.get(file.path, file.entry.mode))
        name = f"{archive_stem(self.archive)}.facts.json"
        text = json.dumps(vars(facts), sort_keys=True).encode()
        self.store.remember(self._facts_key, self.store.add(iter([text]), filename=name))


def conda_parts(
    conda: CondaPackages,
    *,
    minor: str,
    store: Store,
    known: Mapping[str, KnownConda] = MappingProxyType({}),
    sources: Mapping[str, str] = MappingProxyType({}),
) -> list[CondaPart]:
    """Return the parts of conda packages, in topological order.

    *known* has those whose archives aren't here, and *sources* digests of what parts follow from, both by the
    names of packages.

    Raises
    ------
    RenderError
        A path can't be in an image, or is a file in one package and a folder in another.
    """
    bytecode = {file.filename.removesuffix(".pyc.zip"): file for file in conda.bytecode}
    for archive, each in zip(conda.archives, conda.contents.values(), strict=True):
        check_paths(each.files, archive.filename)
    check_kinds({name: list(each.files) for name, each in conda.contents.items()})
    return [
        CondaPart(
            package,
            archive,
            bytecode.get(archive_stem(archive)),
            minor,
            store,
            frozenset(_excluded(package.name, conda)),
            {
                path: 0o755 if is_executable else 0o644
                for path, is_executable in conda.executables.items()
                if conda.owners[path] == package.name
            },
            sources.get(package.name, ""),
            known.get(package.name),
        )
        for package, archive in zip(conda.packages, conda.archives, strict=True)
    ]


def _excluded(name: str, conda: CondaPackages) -> Iterator[str]:
    """Yield the paths of a package that are installed from another one; bytecode goes with its module."""
    files = conda.contents[name].files
    for path, owner in conda.owners.items():
        if owner != name and path in files:
            yield path
            if path.endswith(".py"):
                yield bytecode_path(path)


def conda_paths(conda: CondaPackages) -> dict[str, list[str]]:
    """Return the paths of each conda package in the image, by its name."""
    root = PREFIX.relative_to("/").as_posix()
    return {
        f"the conda package {name}": [f"{root}/{path}" for path in each.files]
        for name, each in conda.contents.items()
    }


def generated_entries(
    conda: CondaPackages, parts: Sequence[CondaPart], *, activation: str, shell: str
) -> list[Entry]:
    """Return the entries of what is generated for all packages: prefix records, history, activation.

    Parameters
    ----------
    conda
        The packages.
    parts
        Theirs, which have been made.
    activation
        The text of the script that activates the environment.
    shell
        The path of a shell in the image.
    """
    facts = {part.locked.name: part.facts() for part in parts}
    installed = _Installed(facts, conda)
    root = PREFIX.relative_to("/").as_posix()
    found = {"conda-meta/history": history(conda.records).encode()}
    for fields in conda.records:
        each = facts[fields["name"]]
        records = installed.records(fields["name"])
        path = f"conda-meta/{fields['name']}-{fields['version']}-{fields['build']}.json"
        found[path] = conda_record(fields, each.index, records)
    variables = {path: text for each in facts.values() for path, text in each.variables.items()}
    folder = "share/imagesync"
    found[f"{folder}/activate.sh"] = activation.encode()
    declared = (_variables(path, variables[path]) for path in sorted(variables))
    found[f"{folder}/variables.sh"] = variables_script(declared).encode()
    entries = [file_entry(f"{root}/{path}", content) for path, content in found.items()]
    command = activation_command(f"{PREFIX}/{folder}", shell).encode()
    return [*entries, file_entry(f"{root}/{folder}/activate", command, mode=0o755)]


def _variables(path: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RenderError(
            f"{path} of a conda package declares no variables: it is no JSON object.",
            hint="Tell the authors of the package. Leave it out with --ignore NAME.",
        )
    return found


class _Installed:
    """The installed files of all packages."""

    def __init__(self, facts: Mapping[str, CondaFacts], conda: CondaPackages) -> None:
        self._facts = facts
        self._owners = conda.owners
        self._files: dict[str, tuple[str, int]] = {}
        self._links: dict[str, str] = {}
        for name, each in facts.items():
            excluded = frozenset(_excluded(name, conda))
            self._files |= {path: found for path, found in each.installed.items() if path not in excluded}
            self._links |= {path: target for path, target in each.links.items() if path not in excluded}
        self._bytecode = {bytecode_path(path) for path in self._owners if path.endswith(".py")}

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield what the prefix record of a package has of its files.

        Of one that is installed from another package it has the digest in the archive, and that of the
        installed file.
        """
        for path, record in self._facts[name].records.items():
            if path in self._bytecode and path not in self._files:
                continue
            yield self._shared(path, record) if path in self._owners else dict(record)

    def _shared(self, path: str, record: Mapping[str, Any]) -> dict[str, Any]:
        found = self._find(path)
        result = dict(record)
        if found is None or "sha256_in_prefix" not in record:
            result.pop("sha256_in_prefix", None)
            return result
        result["sha256_in_prefix"] = found[0]
        if record["path_type"] == "unix_python_entry_point":
            result["sha256"], result["size_in_bytes"] = found
        return result

    def _find(self, path: str) -> tuple[str, int] | None:
        """Return digest and size of a file, or of the one that a link leads to."""
        seen: set[str] = set()
        while path in self._links and path not in seen:
            seen.add(path)
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), self._links[path]))
        return self._files.get(path)
