"""The folders, links and files of a base image: where a path leads, and which owner and mode a folder has.

An entry for a folder replaces owner and mode of the folder in the layers below, or the link that is there.
So entries go where links lead, and folders are written as they are.

Source: the OCI image specification 1.1, "Applying Changesets".
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from imagesync.errors import RenderError
from imagesync.image.layers.entries import Entry, FolderAttributes

_MOST_LINKS: Final = 40  # as Linux follows


@dataclass(frozen=True)
class FolderTree:
    """The folders, links and other files of an image; paths are relative to its root.

    Parameters
    ----------
    folders
        Owner and mode of each folder.
    links
        The target of each symbolic link.
    files
        The names of the other files, by their folder.
    """

    folders: Mapping[str, FolderAttributes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Collection[str]] = field(default_factory=dict)

    def is_file(self, path: str) -> bool:
        """Return True if there is a file at *path*; links aren't followed."""
        folder, _, name = path.rpartition("/")
        return name in self.files.get(folder, ())

    def has_folder(self, path: str) -> bool:
        """Return True if there is a folder at *path*, or where it leads."""
        found = self.resolve(path.strip("/"))
        return not found or found in self.folders

    def resolve(self, path: str) -> str:
        """Return the path that *path* leads to.

        >>> FolderTree(links={"bin": "usr/bin", "usr/bin/vi": "/etc/alternatives/vi"}).resolve("bin/vi")
        'etc/alternatives/vi'
        """
        for _ in range(_MOST_LINKS):
            names = path.split("/")
            for count in range(1, len(names) + 1):
                parent = "/".join(names[:count])
                if (link := self.links.get(parent)) is not None:
                    target = posixpath.join("/", posixpath.dirname(parent), link)
                    path = posixpath.normpath(posixpath.join(target, *names[count:])).lstrip("/")
                    break
            else:
                return path
        return path

    def resolve_parent(self, path: str) -> str:
        """Return *path* with its folder resolved; its last name stays, also where that is a link."""
        folder, _, name = path.rpartition("/")
        return posixpath.join(self.resolve(folder), name) if folder else name

    def placed(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries where links lead; a link itself stays in its folder.

        Raises
        ------
        RenderError
            A file would replace a folder, or a folder a file.
        """
        folders: dict[str, str] = {}
        for entry in entries:
            folder, _, name = entry.path.rpartition("/")
            if folder not in folders:
                folders[folder] = self.resolve(folder)
                self._refuse_files_above(folders[folder])
            path = posixpath.join(folders[folder], name)
            if entry.kind != "symlink" and path in self.links:
                path = self.resolve(path)
            if entry.kind == "file" and path in self.folders:
                raise RenderError(
                    f"The base image has a folder at /{path}, where a file would go.",
                    hint="Give the file another place with the setting files.",
                )
            if entry.kind == "directory":
                self._refuse_files_above(path)
            if path:
                yield entry if path == entry.path else replace(entry, path=path)

    def _refuse_files_above(self, folder: str) -> None:
        """Raise an error if *folder*, or a folder above it, is a file in the image."""
        names = folder.split("/")
        for count in range(1, len(names) + 1):
            path = "/".join(names[:count])
            if self.is_file(path):
                raise RenderError(
                    f"The base image has a file at /{path}, where a folder would go.",
                    hint="Give the files another place with the setting files, or name another base image.",
                )
