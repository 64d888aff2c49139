"""The system layer: the user of the image, its home, and certificates, where the base lacks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesync.image.layers.base_contents import CERTIFICATES, AccountFile
from imagesync.image.layers.entries import Entry, directory_entry, file_entry, with_parents
from imagesync.image_layout import HOME

if TYPE_CHECKING:
    from imagesync.image.layers.base_contents import BaseContents

_ID: Final = 1000
_NAME: Final = "imagesync"
# Where each file of accounts has the number; those of passwords have none, and go by the name.
_NEW: Final = {
    "etc/passwd": f"{_NAME}:x:{_ID}:{_ID}::{HOME}:/bin/sh",
    "etc/group": f"{_NAME}:x:{_ID}:",
    "etc/shadow": f"{_NAME}:!:3652:0:99999:7:::",
    "etc/gshadow": f"{_NAME}:!::",
}
_ROOT: Final = {
    "etc/passwd": AccountFile(b"root:x:0:0:root:/root:/bin/sh\n", 0o644, 0, 0),
    "etc/group": AccountFile(b"root:x:0:\n", 0o644, 0, 0),
}


def system_entries(base: BaseContents) -> list[Entry]:
    """Return the entries of the system layer, as ``Dockerfile.base`` changes a root image.

    The home is open to every user, as ``/tmp`` is, for OpenShift's random user.
    """
    home = str(HOME).lstrip("/")
    entries = [directory_entry(home, mode=0o1777, uid=_ID, gid=_ID), *_accounts(base)]
    if CERTIFICATES not in base.present:
        entries.append(file_entry(CERTIFICATES, certificates()))
    return with_parents(base.tree.placed(entries))


def certificates() -> bytes:
    """Return the certificates that a base without any gets."""
    import certifi

    return Path(certifi.where()).read_bytes()


def _accounts(base: BaseContents) -> list[Entry]:
    known = {**_ROOT, **base.accounts}
    entries = []
    for public, private in (("etc/passwd", "etc/shadow"), ("etc/group", "etc/gshadow")):
        lines = known[public].content.decode(errors="surrogateescape").splitlines()
        if any(line.split(":")[2:3] == [str(_ID)] for line in lines):
            continue
        for path in (public, private):
            if path in known:
                file = known[path]
                content = file.content if file.content.endswith(b"\n") else file.content + b"\n"
                content += f"{_NEW[path]}\n".encode()
                entry = file_entry(path, content, mode=file.mode)
                entries.append(replace(entry, uid=file.uid, gid=file.gid))
    return entries
