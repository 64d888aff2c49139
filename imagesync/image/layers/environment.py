"""The layers of an environment, from its artifacts in the store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from imagesync.core.worker_pool import WorkerPool
from imagesync.image.layers.base_python import environment_entries
from imagesync.image.layers.code_parts import code_paths, code_request, files_request, small_request
from imagesync.image.layers.entries import Entry, directory_entry, file_entry, with_parents
from imagesync.image.layers.grouping import Package, group
from imagesync.image.layers.layer import Layer, write_layers
from imagesync.image.layers.parts import Part, PartRequest, PartStore
from imagesync.image.layers.system import system_entries
from imagesync.image.layers.wheel_parts import WheelPart, without_shared_files
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
        All wheels, with their bytecode.
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
    wheels: Sequence[WheelPart]
    code: CodeLayer | None = None
    copied: Sequence[CopiedFiles] = ()
    inventory: str = ""
    profile: str = ""
    workdir: tuple[str, int, int] | None = None
    file_conflicts: Mapping[str, str] = field(default_factory=dict)


def write_environment(
    files: EnvironmentFiles, *, budget: int, store: Store, compression: Compression, progress: Progress
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
    with (
        progress.task("Writing layers", total=len(requests), unit="packages") as task,
        WorkerPool(workers, thread_name_prefix="parts") as pool,
    ):
        made: dict[Package, Part] = {}

        def make(package: Package) -> None:
            made[package] = parts.get(requests[package])
            task.advance(1)

        # The largest first, so that no worker has a long task at the end.
        list(pool.map(make, sorted(requests, key=lambda package: -package.size)))
        system = parts.get(small_request("system", _system(files)))
    named = [("", [system]), *((title, [made[package] for package in found]) for title, found in groups)]
    return write_layers(
        named, below=files.base.tree.folders, store=store, compression=compression, workers=workers
    )


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
    wheels = {part.package: part for part in files.wheels}
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
    return PartRequest(request.name, (*request.key, place), lambda: tree.placed(request.entries()))
