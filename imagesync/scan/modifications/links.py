# Paths stay strings: there are tens of thousands of them.
# ruff: noqa: PTH114, PTH115
"""Symbolic links of conda packages that lead elsewhere than when they were installed.

conda and micromamba record no target, but the digest of the file that a link led to when its package was
built, and none for a folder. py-rattler records the digest of the target's text besides.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final

from imagesync.scan.modifications.recorded import Claim, Claims

_NOTHING: Final = frozenset({"", hashlib.sha256().hexdigest()})


def target_digest(path: str) -> str:
    """Return the sha256 of the text of a link, in hexadecimal."""
    return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()


def leads_elsewhere(path: str, claim: Claim, claims: Claims, digest_of: Callable[[str], str]) -> bool:
    """Return True if *path*, recorded as a link by *claim*, isn't that link any more.

    False where the record doesn't tell, as for links to files of other packages.

    Parameters
    ----------
    claims
        The recorded files of all packages.
    digest_of
        Returns the sha256 of a file; empty for a folder.
    """
    recorded = {digest for digest in claim.link or () if digest not in _NOTHING}
    if not recorded:
        return False
    if os.path.islink(path) and target_digest(path) in recorded:
        return False
    final = os.path.realpath(path)
    of_final = claims.get(final, []) if final != path else []
    own = [each for each in of_final if each.owner == claim.owner]
    if any(recorded & {each.sha256, each.original[0] if each.original else ""} for each in own):
        return False
    if of_final and not own:
        return False
    if digest_of(path) in recorded:
        return False
    # A copy of the environment may have files in place of links.
    return not (final == path and _is_copy(digest_of(path), claim, recorded, claims))


def _is_copy(digest: str, claim: Claim, recorded: set[str], claims: Claims) -> bool:
    """Return True if a file with that digest is of the same package, and is what the link led to."""
    return any(
        each.owner == claim.owner and each.original is not None and each.original[0] in recorded
        for found in claims.values()
        for each in found
        if each.sha256 == digest
    )
