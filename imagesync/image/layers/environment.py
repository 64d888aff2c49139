"""The layers of an environment, from its artifacts in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from imagesync.core.worker_pool import WorkerPool
from imagesync.image.layers.base_python import environment_entries
from imagesync.image.layers.code_parts import code_paths, code_request, files_request, small_request
from imagesync.image.layers.conda_parts import (
    CondaPart,
    KnownConda,
    conda_parts,
    conda_paths,
    generated_entries,
)
from imagesync.image.layers.entries import (
    Entry,
    FolderAttributes,
    directory_entry,
    file_entry,
    with_parents,
)
from imagesync.image.layers.grouping import Package, group
from imagesync.image.layers.layer import (
    Layer,
    layer_comment,
    layer_inputs,
    unusual_folders,
    write_layers,
)
from imagesync.image.layers.parts import Part, PartRequest, PartStore
from imagesync.image.layers.system import system_entries
from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart, without_shared_files
from imagesync.image_layout import INVENTORY, PREFIX

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.image.conda.layer import CondaPackages
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.image.layers.compression import Compression
    from imagesync.image.layers.folder_tree import FolderTree
    from imagesync.image.layers.standalone_python import StandalonePython
    from imagesync.image_layout import CopiedFiles
    from imagesync.loose_code.code_layer import CodeLayer
    from imagesync.store.store import Store, StoredFile

_MOST_WORKERS: Final = 4
_PACKAGES: Final = frozenset({"conda", "pip", "local"})
KnownLayer = Callable[[str, str], "Layer | None"]


@dataclass(frozen=True)
class EnvironmentFiles:
    """The artifacts that become the layers of an environment.

    Parameters
    ----------
    base
        The contents of the base image, whose interpreter an environment of pip has.
    minor
        The feature version of the interpreter.
    wheels
        All wheels, with their bytecode, or those whose parts another build has made.
    conda
        The conda packages, the interpreter among them; ``None`` without any.
    python, python_bytecode
        The interpreter that is put on the base, and the archive of its compiled modules, if there is one.
    known_conda, conda_sources
        As for :func:`~imagesync.image.layers.conda_parts.conda_parts`.
    code
        Loose code, or ``None``.
    copied
        The setting ``files``.
    inventory
        The text of the image's inventory.
    activation
        The text of the script that activates an environment of conda.
    profile
        The text of the file that activates the environment in login shells.
    workdir
        The image's working directory, made if the base lacks it, and the ids of its owner.
    file_conflicts
        The sha256 of each installed file that several packages have, by its path below site-packages.
    """

    base: BaseContents
    minor: str
    wheels: Sequence[WheelPart | KnownWheel]
    conda: CondaPackages | None = None
    python: StandalonePython | None = None
    python_bytecode: StoredFile | None = None
    known_conda: Mapping[str, KnownConda] = field(default_factory=dict)
    conda_sources: Mapping[str, str] = field(default_factory=dict)
    code: CodeLayer | None = None
    copied: Sequence[CopiedFiles] = ()
    inventory: str = ""
    activation: str = ""
    profile: str = ""
    workdir: tuple[str, int, int] | None = None
    file_conflicts: Mapping[str, str] = field(default_factory=dict)

    def conda_parts(self, store: Store) -> list[CondaPart]:
        """Return the parts of the conda packages; *store* keeps what is read of their archives."""
        if self.conda is None:
            return []
        return conda_parts(
            self.conda, minor=self.minor, store=store, known=self.known_conda, sources=self.conda_sources
        )


def write_environment(
    files: EnvironmentFiles,
    *,
    budget: int,
    store: Store,
    compression: Compression,
    progress: Progress,
    known: KnownLayer = lambda *_: None,
) -> tuple[Layer, ...]:
    """Return the layers of an environment, from the system layer up; those that are known aren't written.

    Parameters
    ----------
    files
        The artifacts.
    budget
        The most layers.
    store
        Keeps parts and layers.
    compression
        Compresses them.
    progress
        Shows the parts that are made.
    known
        Returns a layer that another build has written, by a digest of what it follows from, and its comment.

    Raises
    ------
    WheelError, RenderError
        A package can't be in an image.
    StoreError
        The store can't be used.
    """
    conda = files.conda_parts(store)
    # One place is the system layer's.
    groups = group(_packages(files, conda), budget=budget - 1, conda=bool(conda))
    ordered = [by_name for _, found in groups for by_name in found]
    writer = _PartWriter(PartStore(store, compression), progress)
    requests = {part.package: placed_request(part.request, files.base.tree) for part in conda}
    # Their records, which are generated, tell what these parts have.
    here = {package: request for package, request in requests.items() if request.known is None}
    made = writer.make(here, "Writing conda packages")
    requests |= _requests(files, conda, ordered)
    system = writer.parts.get(small_request("system", _system(files)))
    # These are small, and say which folders have another owner or mode.
    made |= {
        package: writer.parts.get(request)
        for package, request in requests.items()
        if package.kind not in _PACKAGES and package not in made and request.known is None
    }
    folders = _folders_above(files.base.tree, unusual_folders([system, *made.values()]))
    inputs = [
        layer_inputs([requests[package].inputs for package in found], folders, compression)
        for _, found in groups
    ]
    found_layers = [
        known(key, layer_comment(title, [requests[package].name for package in found])) if key else None
        for key, (title, found) in zip(inputs, groups, strict=True)
    ]
    unknown = [each for each, layer in zip(groups, found_layers, strict=True) if layer is None]
    wanted = [package for _, found in unknown for package in found if package not in made]
    made |= writer.make({package: requests[package] for package in wanted}, "Writing layers")
    named = [("", [system]), *((title, [made[package] for package in found]) for title, found in unknown)]
    first, *rest = write_layers(
        named, below=files.base.tree.folders, store=store, compression=compression, workers=_workers()
    )
    written = iter(rest)
    layers = (layer or next(written) for layer in found_layers)
    return (first, *(replace(layer, inputs=key) for layer, key in zip(layers, inputs, strict=True)))


class _PartWriter:
    """Makes parts, several at once."""

    def __init__(self, parts: PartStore, progress: Progress) -> None:
        self.parts = parts
        self._progress = progress

    def make(self, requests: Mapping[Package, PartRequest], title: str) -> dict[Package, Part]:
        """Return the parts of *requests*; the task is called *title*."""
        if not requests:
            return {}
        with (
            self._progress.task(title, total=len(requests), unit="packages") as task,
            WorkerPool(_workers(), thread_name_prefix="parts") as pool,
        ):

            def make(package: Package) -> tuple[Package, Part]:
                part = self.parts.get(requests[package])
                task.advance(1)
                return package, part

            # The largest first, so that no worker has a long task at the end.
            return dict(pool.map(make, sorted(requests, key=lambda package: -package.size)))


def _workers() -> int:
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def _folders_above(tree: FolderTree, unusual: Mapping[str, FolderAttributes]) -> dict[str, FolderAttributes]:
    """Return the folders by which layers of the same packages may differ."""
    place = tree.resolve(PREFIX.relative_to("/").as_posix())
    above = {path: found for path, found in tree.folders.items() if f"{place}/".startswith(f"{path}/")}
    return {place: FolderAttributes(), **above, **unusual}


def _system(files: EnvironmentFiles) -> list[Entry]:
    entries = system_entries(files.base)
    if files.profile:
        entries.append(file_entry("etc/profile.d/imagesync.sh", files.profile.encode()))
    if files.workdir is not None:
        path, uid, gid = files.workdir
        if not files.base.tree.has_folder(path):
            entries.append(directory_entry(path.strip("/"), uid=uid, gid=gid))
    return with_parents(files.base.tree.placed(entries))


_INTERPRETER: Final = Package("Python", "interpreter")
_CODE: Final = Package("loose code", "code")
_FILES: Final = Package("files", "files")
_GENERATED: Final = Package("inventory", "generated")
_INVENTORY: Final = str(INVENTORY).lstrip("/")


def _packages(files: EnvironmentFiles, conda: Sequence[CondaPart]) -> list[Package]:
    return [
        *([part.package for part in conda] or [_INTERPRETER]),
        *(part.package for part in files.wheels),
        *([_CODE] if files.code is not None else []),
        *([_FILES] if files.copied else []),
        _GENERATED,
    ]


def _requests(
    files: EnvironmentFiles, conda: Sequence[CondaPart], ordered: Sequence[Package]
) -> dict[Package, PartRequest]:
    """Return the request for each part but those of conda packages."""
    wheels: dict[Package, WheelPart | KnownWheel] = {part.package: part for part in files.wheels}
    in_order = [wheels[package] for package in ordered if package in wheels]
    tree = files.base.tree
    interpreter = [] if conda else environment_entries(files.base)
    others = {
        "the environment of Python": [entry.path for entry in interpreter if entry.kind != "directory"],
        "Python": files.python.paths() if files.python is not None else [],
        "imagesync": [_INVENTORY],
    }
    above = {
        "loose code": code_paths(files.code) if files.code is not None else [],
        "the setting files": [file.path.lstrip("/") for each in files.copied for file in each.files],
    }
    separate = without_shared_files(
        in_order,
        files.file_conflicts,
        minor=files.minor,
        below=conda_paths(files.conda) if files.conda is not None else {},
        others=others,
        above=above,
    )
    found = {part.package: placed_request(part.request, tree) for part in separate}
    found[_GENERATED] = small_request("inventory", _generated(files, conda))
    if not conda:
        placed = list(tree.placed(interpreter))
        found[_INTERPRETER] = (
            small_request(f"Python {files.base.python_version}", placed)
            if files.python is None
            else placed_request(files.python.request(interpreter, files.python_bytecode), tree)
        )
    if files.code is not None:
        found[_CODE] = placed_request(code_request(files.code, minor=files.minor), tree)
    if files.copied:
        found[_FILES] = files_request(files.copied, tree)
    return found


def _generated(files: EnvironmentFiles, conda: Sequence[CondaPart]) -> list[Entry]:
    entries: list[Entry] = []
    if files.inventory:
        entries.append(file_entry(_INVENTORY, files.inventory.encode()))
    if files.conda is not None:
        entries += generated_entries(files.conda, conda, activation=files.activation, shell=files.base.shell)
    return with_parents(files.base.tree.placed(entries))


def placed_request(request: PartRequest, tree: FolderTree) -> PartRequest:
    """Return a request for files of the environment, which is elsewhere where ``/opt`` is a link."""
    prefix = PREFIX.relative_to("/").as_posix()
    place = tree.resolve(prefix)
    if place == prefix:
        return request
    return replace(request, key=(*request.key, place), entries=lambda: tree.placed(request.entries()))
