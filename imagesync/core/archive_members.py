"""Members of zip and tar archives without times and owners: the same files give the same bytes."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from typing import Final

# The earliest time that zip supports.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_EXTENSIONS: Final = frozenset(
    {
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    }
)
_MOST_EXTENSION: Final = 1 << 20
ZIP_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, OverflowError, RuntimeError, ValueError),
)
"""What zipfile raises for an archive that is truncated, corrupt or encrypted."""


def zip_member(path: str, *, executable: bool = False, link: bool = False) -> zipfile.ZipInfo:
    """Return the header of a member, with a mode that installers on Unix apply.

    Parameters
    ----------
    path
        In the archive, with ``/``.
    executable
        Whether it can be run.
    link
        Whether it's a symbolic link; its content is the target then.

    >>> zip_member("bin/run", executable=True).external_attr >> 16 == 0o100755
    True
    """
    member = zipfile.ZipInfo(path, _DATE)
    member.create_system = _UNIX
    kind = stat.S_IFLNK if link else stat.S_IFREG
    member.external_attr = (kind | (0o755 if executable else 0o644)) << 16
    return member


class BoundedTarInfo(tarfile.TarInfo):
    """A header read from an archive by others: what extends it, such as a long name, has at most a megabyte.

    ``tarfile`` reads extensions into memory, whatever size they claim. For ``tarfile.open(tarinfo=...)``.
    """

    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS and self.size > _MOST_EXTENSION:
            raise OverflowError(f"a header has an extension of {self.size} bytes")
        # A hook that is there for subclasses, and that the stubs leave out.
        found: BoundedTarInfo = super()._proc_member(tarfile)  # type: ignore[misc]
        return found


def tar_member(
    path: str, *, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE
) -> tarfile.TarInfo:
    """Return the header of a member that belongs to root.

    Parameters
    ----------
    path
        In the archive, with ``/``.
    size
        Of the content, in bytes.
    mode, kind
        The permissions, and what it is, such as ``tarfile.DIRTYPE``.
    """
    member = tarfile.TarInfo(path)
    member.size, member.mode, member.type = size, mode, kind
    return member


def without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return *member* as root's; a filter for :meth:`tarfile.TarFile.add`."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
