"""The bytecode of one wheel: recalled from the store, or compiled in parts by several workers at once."""

from __future__ import annotations

import hashlib
import shutil
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from imagesync.core.names import canonical_name
from imagesync.store.store import Store, StoredFile
from imagesync.wheels.compilers import Workers

if TYPE_CHECKING:
    from imagesync.core.progress import Progress

_FORMAT = 5  # raised when the same wheel would give another archive
# Bytes of a wheel in one part. Compiling it takes about two seconds, if most of the wheel are modules.
_PART = 4 << 20
_MOST_PARTS = 8


@dataclass(frozen=True)
class CompilerSettings:
    """What all wheels are compiled with.

    Parameters
    ----------
    workers
        The processes that compile.
    version, program
        What bytecode depends on: the full version of the interpreter, and the program of the workers.
    folder
        For archives that are being written.
    site_packages
        The folder of the modules in the image, for tracebacks.
    store
        Keeps the archives.
    progress
        Gets a line for each wheel that doesn't compile.
    converts
        Whether bytecode beside the modules is known to be theirs.
    """

    workers: Workers
    version: str
    program: str
    folder: Path
    site_packages: PurePosixPath
    store: Store
    progress: Progress
    converts: bool

    def key(self, content: str) -> str:
        """Return the key of an archive in the store."""
        # Compilers of one feature version differ in details: an image's bytes mustn't tell which came first.
        parts = [str(_FORMAT), content, self.version, str(self.site_packages)]
        parts += ["converts"] if self.converts else []
        parts += [self.program] if self.program else []
        return "bytecode-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()


class WheelCompilation:
    """The compilation of one wheel in parts, each by whichever thread comes to it.

    Parameters
    ----------
    wheel
        The wheel.
    settings
        What all wheels are compiled with.
    number
        Another one for each compilation.
    """

    def __init__(self, wheel: StoredFile, settings: CompilerSettings, number: int) -> None:
        self.wheel = wheel
        self.parts = min(1 + wheel.size // _PART, _MOST_PARTS)
        self._settings = settings
        self._key = settings.key(wheel.digest)
        self._file = settings.folder / str(number)
        self._guard = threading.Lock()
        self._is_sought = False
        self._known: StoredFile | None = None
        self._earlier: tuple[Path, Path] | None = None
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._finished = 0

    def run(self, part: int) -> bool:
        """Compile a part, unless the store has the archive; return whether it was the last one."""
        with self._guard:
            if not self._is_sought:
                self._is_sought = True
                self._known = self._settings.store.recall(self._key)
                self._earlier = self._find_earlier() if self._known is None else None
        if self._known is None:
            self._answers[part] = self._compile(part)
        with self._guard:
            self._finished += 1
            return self._finished == self.parts

    def archive(self) -> StoredFile | None:
        """Return the archive, after all parts; ``None`` if the interpreter has failed."""
        if self._known is not None:
            return self._known
        answers = [self._answers[part] for part in range(self.parts)]
        self._report(answers)
        if not all("modules" in answer for answer in answers):
            return None
        settings, wheel = self._settings, self.wheel
        join_archives([self._path(part) for part in range(self.parts)], self._file)
        stored = settings.store.add_file(
            self._file, filename=wheel.filename.removesuffix(".whl") + ".pyc.zip"
        )
        settings.store.remember(self._key, stored)
        if not settings.converts:
            settings.store.remember(self._project, wheel)
        self._file.unlink(missing_ok=True)
        return stored

    @property
    def _project(self) -> str:
        return self._settings.key(canonical_name(self.wheel.filename.partition("-")[0]))

    def _path(self, part: int) -> Path:
        return self._file.with_suffix(f".{part}")

    def _compile(self, part: int) -> Mapping[str, Any]:
        settings = self._settings
        with settings.workers.one() as worker:
            return worker.compile(
                self.wheel.path,
                self._path(part),
                settings.site_packages,
                converts=settings.converts,
                earlier=self._earlier,
                part=part,
                parts=self.parts,
            )

    def _find_earlier(self) -> tuple[Path, Path] | None:
        """Return the last wheel of a project that was compiled, and the archive of its bytecode.

        Most modules of another version, or for another platform, are the same.
        """
        settings = self._settings
        if settings.converts:
            return None
        wheel = settings.store.recall(self._project)
        archive = None if wheel is None else settings.store.recall(settings.key(wheel.digest))
        return None if wheel is None or archive is None else (wheel.path, archive.path)

    def _report(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Report modules without bytecode, other than templates and code for another Python."""
        large = [path for answer in answers for path in answer.get("too_large", ())]
        failed = next((answer for answer in answers if "modules" not in answer), None)
        if large:
            what = f"{large[0]}{f' and {len(large) - 1} more are' if len(large) > 1 else ' is'} too large"
        elif failed is not None:
            reason = failed.get("error", "a module took too long, or crashed the compiler")
            what = f"compiling it failed here ({reason})"
        else:
            return
        self._settings.progress.line(
            f"{self.wheel.filename}: {what}; modules without bytecode are compiled at each start"
        )


def join_archives(archives: Sequence[Path], into: Path) -> None:
    """Move the members of ZIP archives into one, as they are: the same as if all had been written to it."""
    first, *others = archives
    if not others:
        first.replace(into)
        return
    with zipfile.ZipFile(into, "w") as joined:
        assert joined.fp is not None  # noqa: S101  it is open
        for path in archives:
            with zipfile.ZipFile(path) as archive, path.open("rb") as file:
                start = joined.fp.tell()
                shutil.copyfileobj(file, joined.fp)
                joined.fp.seek(start + archive.start_dir)
                joined.fp.truncate()
                for member in archive.infolist():
                    member.header_offset += start
                    joined.filelist.append(member)
                    joined.NameToInfo[member.filename] = member
            path.unlink()
        joined.start_dir = joined.fp.tell()
