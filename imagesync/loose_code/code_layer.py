"""Archives of loose code for the build context; the same files give the same bytes."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.archive_members import zip_member
from imagesync.core.scratch import scratch_folder
from imagesync.errors import WheelError
from imagesync.image_layout import CODE
from imagesync.plan.loose_code import Code, CodeFile

if TYPE_CHECKING:
    from imagesync.core.progress import Progress
    from imagesync.lock.lock import Target
    from imagesync.scan.environment import Interpreter
    from imagesync.store.store import Store, StoredFile


@dataclass(frozen=True)
class CodeLayer:
    """Loose code as archives.

    Parameters
    ----------
    archive
        A ZIP archive of the files with their modes, relative to the image's folder of code.
    bytecode
        An archive of the compiled modules; ``None`` if the image's own interpreter has to compile.
    """

    archive: StoredFile
    bytecode: StoredFile | None

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Return the archives."""
        return (self.archive,) if self.bytecode is None else (self.archive, self.bytecode)


def make_layer(
    code: Code, *, python: Interpreter, target: Target, store: Store, progress: Progress
) -> CodeLayer | None:
    """Return *code* as archives in the store; ``None`` if there is no code.

    Raises
    ------
    WheelError
        A file has changed since *code* was collected, can't be read, or requires a newer glibc.
    """
    from imagesync.wheels.bytecode import compile_bytecode

    if not code:
        return None
    _refuse_newer_glibc(code, target)
    key = f"code {code.digest}"
    archive = store.recall(key, progress=progress)
    if archive is None:
        archive = _archive(code, store)
        store.remember(key, archive)
    bytecode = compile_bytecode(
        [archive], python=python, target=target, site_packages=CODE, store=store, progress=progress
    )
    return CodeLayer(archive, bytecode[0] if bytecode else None)


def _refuse_newer_glibc(code: Code, target: Target) -> None:
    libraries = [file for file in code.files if file.path.endswith(".so") or ".so." in file.path]
    if not libraries:
        return
    from imagesync.wheels.wheel_checks import needed_glibc

    for file in libraries:
        needed = needed_glibc(_content(file))
        if needed > target.glibc[1]:
            raise WheelError(
                f"{file.source} needs glibc 2.{needed}, and the image has "
                f"{target.glibc[0]}.{target.glibc[1]}.",
                hint="Choose a newer base image, or build it on a system that is as old as the image.",
            )


def _archive(code: Code, store: Store) -> StoredFile:
    with scratch_folder("code") as folder:
        path = folder / "code.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(code.files, key=lambda file: file.path):
                member = zip_member(file.path, executable=file.executable, link=bool(file.link))
                archive.writestr(member, file.link.encode() if file.link else _content(file))
        return store.add_file(path, filename="code.zip")


def _content(file: CodeFile) -> bytes:
    """Return the bytes of a file that is unchanged since its digest was computed."""
    try:
        with Path(file.source).open("rb") as stream:
            found = os.fstat(stream.fileno())
            content = stream.read()
    except OSError as error:
        raise WheelError(
            f"The file {file.source} can't be read: {error.strerror}.", hint="Run the command again."
        ) from error
    if (found.st_mtime_ns, found.st_size, len(content)) != (file.modified, file.size, file.size):
        raise WheelError(
            f"{file.source} was changed while the image was being made.", hint="Run the command again."
        )
    return content
