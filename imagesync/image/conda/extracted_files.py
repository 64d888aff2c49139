"""The files of an extracted conda archive, as the archive lists them, and their content in the environment.

Source: CEP 34, and for archives from before conda-build 3 ``info/has_prefix``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from imagesync.errors import LockError
from imagesync.image_layout import PREFIX
from imagesync.lock.conda.archive_files import files_listed
from imagesync.standalone.image.shared_conda_files import replace_in_binary

_OLD_PLACEHOLDER: Final = "/opt/anaconda1anaconda2anaconda3"


class ExtractedFiles:
    """The files of an extracted archive.

    Parameters
    ----------
    folder
        Where it was extracted to.
    filename
        Of the archive, for messages.
    """

    def __init__(self, folder: Path, filename: str) -> None:
        self.folder = folder
        self._filename = filename
        self._checked: set[str] = set()
        self.is_old = not (folder / "info" / "paths.json").exists()

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries of ``info/paths.json``, or what an old archive has in its place.

        Raises
        ------
        LockError
            The list can't be read.
        """
        if self.is_old:
            return self._old()
        try:
            found = files_listed(self.info("paths.json"))
        except ValueError as error:
            raise self.damaged(str(error)) from error
        for each in found:
            self.path(each["_path"])
        return found

    def path(self, name: str) -> Path:
        """Return the path of a file that the archive lists.

        Raises
        ------
        LockError
            A link above it may lead out of the archive.
        """
        folder = name.rpartition("/")[0]
        if folder not in self._checked:
            names = folder.split("/")
            parents = [self.folder.joinpath(*names[: count + 1]) for count in range(len(names))]
            if any(path.is_symlink() for path in parents):
                raise self.damaged(f"it lists {name}, which is below a link")
            self._checked.add(folder)
        return self.folder / name

    def info(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file below ``info``; empty if there is none.

        Raises
        ------
        LockError
            It can't be read.
        """
        path = self.folder / "info" / name
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise self.damaged(f"its info/{name} can't be read: {error}") from error
        if not isinstance(found, dict):
            raise self.damaged(f"its info/{name} is no object")
        return found

    def with_prefix(self, listed: Mapping[str, Any]) -> bytes | None:
        """Return the content of a file that the prefix is written into, or ``None`` for any other.

        Raises
        ------
        LockError
            It isn't the file that the archive lists.
        """
        placeholder = listed.get("prefix_placeholder")
        if not placeholder:
            return None
        content = (self.folder / listed["_path"]).read_bytes()
        if listed.get("sha256") not in (None, hashlib.sha256(content).hexdigest()):
            raise self.damaged(f"{listed['_path']} isn't the file that it lists")
        substitute = replace_in_binary if listed.get("file_mode") == "binary" else bytes.replace
        return substitute(content, placeholder.encode(), os.fsencode(PREFIX))

    def damaged(self, reason: str) -> LockError:
        """Return the error for an archive that isn't what it says."""
        return LockError(
            f"The archive {self._filename} can't be put in an image: {reason}.",
            hint="Tell the owners of its channel; another build of the package may be sound.",
        )

    def _old(self) -> list[dict[str, Any]]:
        prefixes = self._old_prefixes()
        paths = (path for path in self.folder.rglob("*") if path.is_symlink() or not path.is_dir())
        found = []
        for path in sorted(paths):
            name = path.relative_to(self.folder).as_posix()
            if not name.startswith("info/"):
                kind = "softlink" if path.is_symlink() else "hardlink"
                found.append({"_path": name, "path_type": kind, **prefixes.get(name, {})})
        return found

    def _old_prefixes(self) -> dict[str, dict[str, str]]:
        try:
            text = (self.folder / "info" / "has_prefix").read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self.damaged(f"its info/has_prefix can't be read: {error}") from error
        found = {}
        for line in text.splitlines():
            placeholder, mode, path = (_OLD_PLACEHOLDER, "text", *shlex.split(line))[-3:]
            found[path] = {"prefix_placeholder": placeholder, "file_mode": mode}
        return found
