"""Which part goes in which layer: places that are fixed, and independent of each other.

A new version of one package rewrites the layer of its place and the small last one. So a place follows from
the package's name, kind and size alone, never from how many others there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

LARGE: Final = 40_000_000
"""Archives of at least this size, in bytes, get a layer of their own, as far as there are places."""
_MOST_LOCAL: Final = 3

Kind = Literal["interpreter", "conda", "pip", "local", "code", "files", "generated"]
_ORDER: Final = ("interpreter", "large", "conda", "pip", "local", "code", "files", "generated")


@dataclass(frozen=True)
class Package:
    """What the place of a part follows from.

    Parameters
    ----------
    name
        Canonical, and unique among those of its kind.
    kind
        Where it comes from.
    size
        Of its archive, in bytes.
    is_native
        Whether it is for certain platforms.
    """

    name: str
    kind: Kind
    size: int = 0
    is_native: bool = False


@dataclass(frozen=True)
class Places:
    """The number of places for each kind of package.

    Parameters
    ----------
    large
        Layers of one large package.
    native, pure
        Layers of packages for certain platforms, and of others, for each of conda and pip.
    """

    large: int
    native: int
    pure: int


def places_for(budget: int, *, conda: bool) -> Places:
    """Return the places in *budget* layers; the interpreter, local packages and others have theirs already.

    Parameters
    ----------
    budget
        The most layers on top of the base's, the system layer excluded.
    conda
        Whether the interpreter is conda's, so that there may be packages of both.

    >>> places_for(30, conda=False), places_for(9, conda=True)
    (Places(large=7, native=8, pure=8), Places(large=0, native=1, pure=0))
    """
    # Interpreter, three local packages, loose code, files of the user's, generated files.
    free = max(budget - (4 + _MOST_LOCAL), 2)
    managers = 2 if conda else 1
    large = free // 3
    native = max((free - large + managers) // (2 * managers), 1) if free - large >= 2 * managers else 1
    pure = (free - large) // managers - native
    return Places(large, native, max(pure, 0))


def group(packages: Iterable[Package], *, budget: int, conda: bool) -> list[tuple[str, list[Package]]]:
    """Return the layers as a name and packages for each, from the one that changes least to the last one.

    Parameters
    ----------
    packages
        In any order; the result doesn't depend on it.
    budget, conda
        As for :func:`places_for`.
    """
    ordered = sorted(packages, key=lambda package: (package.kind, package.name))
    places = places_for(budget, conda=conda)
    own = _large(ordered, places.large)
    local = sum(package.kind == "local" for package in ordered)
    found: dict[tuple[int, str], list[Package]] = {}
    for package in ordered:
        label = (
            f"large {package.name}"
            if package.kind != "local" and (package.kind, package.name) in own
            else _place(package, places, local)
        )
        found.setdefault((_ORDER.index(label.split()[0]), label), []).append(package)
    return [(_title(label), found[order, label]) for order, label in sorted(found)]


def _large(packages: Iterable[Package], places: int) -> set[tuple[str, str]]:
    """Return kind and name of the packages with a layer of their own.

    They are ordered by powers of two of their sizes, so that a new version of one seldom moves another.
    """
    large = [p for p in packages if p.size >= LARGE and p.kind in ("conda", "pip")]
    large.sort(key=lambda package: (-(package.size // LARGE).bit_length(), package.kind, package.name))
    return {(package.kind, package.name) for package in large[:places]}


def _place(package: Package, places: Places, local: int) -> str:
    if package.kind == "local":
        return f"local {package.name}" if local <= _MOST_LOCAL else "local"
    if package.kind not in ("conda", "pip"):
        return package.kind
    is_native = package.is_native or not places.pure
    count = places.native if is_native else places.pure
    bucket = int.from_bytes(hashlib.sha256(package.name.encode()).digest()[:8], "big") % count
    return f"{package.kind} {'native' if is_native else 'pure'} {bucket:02}"


def _title(label: str) -> str:
    first, _, rest = label.partition(" ")
    titles = {
        "interpreter": "",
        "large": "",
        "local": "local packages" if not rest else "local package",
        "code": "",
        "files": "",
        "generated": "",
    }
    if first in titles:
        return titles[first]
    return f"{first} packages ({'for this platform' if rest.startswith('native') else 'pure Python'})"
