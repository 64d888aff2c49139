"""The layers of an environment, from its artifacts in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from imagesync.core.worker_pool import WorkerPool
from imagesync.image.layers.base_python import environment_entries
from imagesync.image.layers.code_parts import code_paths, code_request, files_request, small_request
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
from imagesync.image.layers.parts import PartRequest, PartStore
from imagesync.image.layers.system import system_entries
from imagesync.image.layers.wheel_parts import KnownWheel, WheelPart, without_shared_files
from imagesync.image_layout import INVENTORY, PREFIX

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.image.layers.base_contents import BaseContents
    from imagesync.image.layers.compression import Compression
    from imagesync.image.layers.folder_tree import FolderTree
    from imagesync.image_layout import CopiedFiles
    from imagesync.loose_code.archive import CodeLayer
    from imagesync.store.store import Store

_MOST_WORKERS: Final = 4
_PACKAGES: Final = frozenset({"conda", "pip", "local"})
KnownLayer = Callable[[str, str], "Layer | None"]


@dataclass(frozen=True)
class EnvironmentFiles:
    """The artifacts that become the layers of an environment.

    Parameters
    ----------
    base
        The contents of the base image, whose interpreter the environment has.
    minor
        The feature version of the interpreter.
    wheels
        All wheels, with their bytecode, or those whose parts another build has made.
    code
        Loose code, or ``None``.
    copied
        The setting ``files``.
    inventory
        The text of the image's inventory.
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
    code: CodeLayer | None = None
    copied: Sequence[CopiedFiles] = ()
    inventory: str = ""
    profile: str = ""
    workdir: tuple[str, int, int] | None = None
    file_conflicts: Mapping[str, str] = field(default_factory=dict)


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
    # One place is the system layer's.
    groups = group(_packages(files), budget=budget - 1, conda=False)
    ordered = [by_name for _, found in groups for by_name in found]
    requests = _requests(files, ordered)
    workers = min(os.cpu_count() or 1, _MOST_WORKERS)
    parts = PartStore(store, compression)
    system = parts.get(small_request("system", _system(files)))
    # These are small, and say which folders have another owner or mode.
    made = {
        package: parts.get(request) for package, request in requests.items() if package.kind not in _PACKAGES
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
    with (
        progress.task("Writing layers", total=len(wanted), unit="packages") as task,
        WorkerPool(workers, thread_name_prefix="parts") as pool,
    ):

        def make(package: Package) -> None:
            made[package] = parts.get(requests[package])
            task.advance(1)

        # The largest first, so that no worker has a long task at the end.
        list(pool.map(make, sorted(wanted, key=lambda package: -package.size)))
    named = [("", [system]), *((title, [made[package] for package in found]) for title, found in unknown)]
    first, *rest = write_layers(
        named, below=files.base.tree.folders, store=store, compression=compression, workers=workers
    )
    written = iter(rest)
    layers = (layer or next(written) for layer in found_layers)
    return (first, *(replace(layer, inputs=key) for layer, key in zip(layers, inputs, strict=True)))


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


def _packages(files: EnvironmentFiles) -> list[Package]:
    return [
        _INTERPRETER,
        *(part.package for part in files.wheels),
        *([_CODE] if files.code is not None else []),
        *([_FILES] if files.copied else []),
        _GENERATED,
    ]


def _requests(files: EnvironmentFiles, ordered: Sequence[Package]) -> dict[Package, PartRequest]:
    wheels: dict[Package, WheelPart | KnownWheel] = {part.package: part for part in files.wheels}
    in_order = [wheels[package] for package in ordered if package in wheels]
    tree, interpreter = files.base.tree, environment_entries(files.base)
    others = {
        "the environment of Python": [entry.path for entry in interpreter if entry.kind != "directory"],
        "loose code": code_paths(files.code) if files.code is not None else [],
        "the setting files": [file.path.lstrip("/") for each in files.copied for file in each.files],
        "imagesync": [str(INVENTORY).lstrip("/")],
    }
    separate = without_shared_files(in_order, files.file_conflicts, minor=files.minor, others=others)
    wheels = {part.package: part for part in separate}
    generated: list[Entry] = []
    if files.inventory:
        generated.append(file_entry(str(INVENTORY).lstrip("/"), files.inventory.encode()))
    python = f"Python {files.base.python_version}"
    found = {
        _INTERPRETER: small_request(python, list(tree.placed(interpreter))),
        **{package: _placed(part.request, tree) for package, part in wheels.items()},
        _GENERATED: small_request("inventory", with_parents(tree.placed(generated))),
    }
    if files.code is not None:
        found[_CODE] = _placed(code_request(files.code, minor=files.minor), tree)
    if files.copied:
        found[_FILES] = files_request(files.copied, tree)
    return found


def _placed(request: PartRequest, tree: FolderTree) -> PartRequest:
    """Return a request for files of the environment, which is elsewhere where ``/opt`` is a link."""
    prefix = PREFIX.relative_to("/").as_posix()
    place = tree.resolve(prefix)
    if place == prefix:
        return request
    return replace(request, key=(*request.key, place), entries=lambda: tree.placed(request.entries()))
